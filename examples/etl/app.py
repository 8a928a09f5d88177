"""Turn a shop's order export into one summary per customer, in two stages with a file between them."""

import json
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import tidytable  # from the layer

CLEAN_ORDERS = Path(tempfile.gettempdir()) / "orders.clean.jsonl"
COLUMNS = {
    "order_id": tidytable.text,
    "date": tidytable.day,
    "customer": tidytable.email,
    "item": tidytable.text,
    "quantity": tidytable.count,
    "unit_price": tidytable.money,
}


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Read ``event["csv"]``, clean it into a file under ``/tmp``, and sum that up by customer."""
    rows, rejected = tidytable.clean(tidytable.parse(event["csv"]), COLUMNS, unique=("order_id", "item"))
    with CLEAN_ORDERS.open("w", encoding="utf-8") as file:
        for row in rows:
            print(json.dumps(row, default=str), file=file)
    print(f"{len(rows)} rows are clean, {len(rejected)} were rejected")

    return {
        "customers": summaries(CLEAN_ORDERS),
        "rejected": [{"line": reject.line, "reason": reject.reason} for reject in rejected],
        "intermediate": {"path": str(CLEAN_ORDERS), "bytes": CLEAN_ORDERS.stat().st_size},
    }


def summaries(clean_orders: Path) -> list[dict[str, Any]]:
    """Sum up the clean orders, the customer who spent most first."""
    with clean_orders.open(encoding="utf-8") as file:
        orders = [json.loads(line) for line in file]
    for order in orders:
        order["amount"] = order["quantity"] * Decimal(order["unit_price"])
    customers = tidytable.aggregate(
        orders,
        by="customer",
        orders=lambda group: len({order["order_id"] for order in group}),
        items=lambda group: sum(order["quantity"] for order in group),
        total=lambda group: sum(order["amount"] for order in group),
        first=lambda group: min(order["date"] for order in group),
        last=lambda group: max(order["date"] for order in group),
    )
    customers.sort(key=lambda customer: customer["total"], reverse=True)
    # Money leaves as text: a float would be a cent off sooner or later.
    return [customer | {"total": str(customer["total"])} for customer in customers]
