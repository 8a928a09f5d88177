"""SPECIFICATION: a cold start, its zygote resident, costs at most half of a bare interpreter that imports json."""

import subprocess
import sys

import coldframe

BOUND = 0.5


def test_cold_start_against_a_bare_interpreter(alternately, echo, host):
    # sys.executable itself, not a shim, with nothing but what it needs: the honest baseline.
    bare = [sys.executable, "-I", "-S", "-c", "import json"]
    with coldframe.Function("app.handler", code=echo, memory_mb=1769, reuse=False, host=host) as fn:
        pair = alternately(lambda: fn({"n": 1}), lambda: subprocess.run(bare, check=True), rounds=200)
    assert pair.ratio <= BOUND, pair.describe()
