"""The example ``etl``: a messy export, a layer with a package, and a file in ``/tmp`` on the way."""

import shutil
from pathlib import Path

import coldframe

ETL = Path(__file__).resolve().parents[2] / "examples" / "etl"
HANDLER = ETL / "app.py"
LAYER = ETL / "layer"
ORDERS = ETL / "data" / "orders.csv"

# Added up by hand from the export.
CUSTOMERS = [
    ("charles@example.com", 2, 145, "1911.00", "2026-01-03", "2026-01-12"),
    ("mary@example.net", 2, 4, "282.99", "2026-01-07", "2026-01-16"),
    ("ada@example.com", 3, 18, "118.95", "2026-01-03", "2026-01-14"),
    ("zoë@example.org", 1, 1, "34.50", "2026-01-17", "2026-01-17"),
    ("emmy@example.de", 2, 29, "33.80", "2026-01-12", "2026-01-14"),
    ("grace@example.org", 3, 13, "23.40", "2026-01-05", "2026-01-19"),
]
REJECTED = {
    9: "repeats line 8",
    10: "customer is no e-mail address: ''",
    11: "quantity is no count: 'two'",
    13: "date is no date: '2026-02-30'",
    16: "quantity is no count: '0'",
    19: "customer is no e-mail address: 'charles at example.com'",
    20: "unit_price is no amount of money: 'free'",
    24: "customer is no e-mail address: ''",
}


def event() -> dict[str, str]:
    return {"csv": ORDERS.read_text(encoding="utf-8")}


def test_orders_become_summaries_by_customer() -> None:
    with coldframe.Function("app.handler", code=HANDLER, layers=[LAYER], memory_mb=512, timeout_s=30) as etl:
        first = etl.invoke(event())
        again = etl.invoke(event())

    result = first.unwrap()
    columns = ("customer", "orders", "items", "total", "first", "last")
    assert [tuple(customer[column] for column in columns) for customer in result["customers"]] == CUSTOMERS
    assert {reject["line"]: reject["reason"] for reject in result["rejected"]} == REJECTED
    assert "14 rows are clean, 8 were rejected" in first.log
    assert again.report.start == "warm"
    assert again.unwrap() == result, "what the first run left in /tmp is not counted twice"


def test_the_file_on_the_way_stays_in_the_environment() -> None:
    on_the_host = Path("/tmp/orders.clean.jsonl")
    on_the_host.unlink(missing_ok=True)
    with coldframe.Function("app.handler", code=HANDLER, layers=[LAYER], memory_mb=512, timeout_s=30) as etl:
        intermediate = etl(event())["intermediate"]
    assert intermediate["path"] == str(on_the_host)
    assert intermediate["bytes"] > 1000
    assert not on_the_host.exists()


def test_the_layer_may_be_a_zip(tmp_path: Path) -> None:
    layer = shutil.make_archive(str(tmp_path / "layer"), "zip", LAYER)
    with coldframe.Function("app.handler", code=HANDLER, layers=[layer], memory_mb=512, timeout_s=30) as etl:
        assert len(etl(event())["customers"]) == len(CUSTOMERS)


def test_without_the_layer_the_import_fails() -> None:
    with coldframe.Function("app.handler", code=HANDLER, memory_mb=512, timeout_s=30) as etl:
        invocation = etl.invoke(event())
    assert isinstance(invocation.error, coldframe.InitError)
    assert invocation.error.error_type == "Runtime.ImportModuleError"
    assert "tidytable" in invocation.error.error_message
