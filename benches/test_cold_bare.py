"""SPECIFICATION: a cold start costs at most 0.15 times what a bare interpreter that imports json costs."""

from measuring import ratio
from peers.others import BARE


def test_cold_start_against_a_bare_interpreter(against_command, promise):
    times = against_command([*BARE, "import json"])
    promise("cold start / bare python -I -S -c 'import json'", ratio(times, "command"), at_most=0.15, times=times)
