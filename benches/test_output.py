"""SPECIFICATION: a handler that prints 200 MB makes the embedding process grow by at most 8 MB."""

import psutil

import coldframe

BOUND_MB = 8.0
PRINTED_MB = 200

FLOOD = """
def handler(event, context):
    line = "x" * 1023
    for _ in range(event["mb"] * 1024):
        print(line)
"""


def test_growth_under_a_flood_of_output(benchmark, tmp_path, host):
    (tmp_path / "app.py").write_text(FLOOD)
    with coldframe.Function("app.handler", code=tmp_path, memory_mb=1769, timeout_s=60, host=host) as fn:
        fn({"mb": 4})
        before = psutil.Process().memory_info().rss
        invocation = benchmark.pedantic(lambda: fn.invoke({"mb": PRINTED_MB}), rounds=1)
        growth_mb = (psutil.Process().memory_info().rss - before) / 2**20
    assert invocation.ok
    kept = len(invocation.log)
    assert invocation.report.log_dropped_bytes >= PRINTED_MB * 2**20 - kept
    benchmark.extra_info.update(growth_mb=growth_mb, kept_bytes=kept)
    print(f"growth {growth_mb:.2f} MB, {kept} bytes kept")
    assert growth_mb <= BOUND_MB
