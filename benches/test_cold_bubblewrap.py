"""SPECIFICATION: a cold start costs at most 0.08 times what the same interpreter costs under bubblewrap."""

from measuring import need, ratio
from peers.others import BARE, unshared


def test_cold_start_against_bubblewrap(against_command, promise):
    bwrap = need(tool="bwrap", why="it is what a cold start is compared with")
    # It sets no limits and no filter, which ours has.
    times = against_command([*unshared(bwrap), *BARE, "import json"])
    promise("cold start / python under bubblewrap", ratio(times, "command"), at_most=0.08, times=times)
