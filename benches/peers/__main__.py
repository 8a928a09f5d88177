"""Measure the same work on what people would use instead, in one run, and write it down.

    python benches/peers [--runs 200] [--document docs/performance.md] [--plot docs/peers.svg]

Every peer has its turn in every round, so that a machine whose speed drifts slows all of them down. The table goes to
standard output, and between two marks of the document; the plot needs matplotlib.
"""

import argparse
import gc
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import report
from others import (
    EVENT,
    Missing,
    bare_process,
    bubblewrap,
    eryx,
    forkserver,
    loky,
    monty,
    nsjail,
    ours,
    process_pool,
    pyspawner,
    runc,
)

PEERS = {
    "coldframe": (ours, "seven namespaces, a user of its own, limits, Landlock, filter"),
    "pydantic-monty": (monty, "a session of an interpreter of a part of Python"),
    "pyeryx": (eryx, "CPython as WebAssembly"),
    "pyspawner": (pyspawner, "namespaces, capabilities, filter; no limits"),
    "forkserver": (forkserver, "nothing"),
    "ProcessPoolExecutor": (process_pool, "nothing"),
    "loky": (loky, "nothing"),
    "bare process": (bare_process, "nothing"),
    "bubblewrap": (bubblewrap, "namespaces; no limits, no filter"),
    "nsjail": (nsjail, "namespaces, limits; no filter"),
    "runc": (runc, "namespaces, cgroups, capabilities; no filter"),
}
WARM_EACH_ROUND = 5


def cold_once(peer) -> float:
    """Return the seconds from nothing to the answer."""
    begun = time.perf_counter()
    with peer.cold() as answer:
        took = time.perf_counter() - begun
    assert answer == EVENT, answer
    return took


def warm_once(peer) -> float:
    """Return the seconds that one more answer takes."""
    begun = time.perf_counter()
    answer = peer.warm()
    took = time.perf_counter() - begun
    assert answer == EVENT, answer
    return took


def measure(runs: int) -> tuple[list[report.Row], dict[str, str]]:
    """Return what was measured, and why the rest was not."""
    skipped: dict[str, str] = {}
    with ExitStack() as open_peers:
        peers = {}
        for name, (make, _) in PEERS.items():
            try:
                peers[name] = open_peers.enter_context(make())
            except Missing as reason:
                skipped[name] = str(reason)
        cold: dict[str, list[float]] = {name: [] for name in peers}
        warm: dict[str, list[float]] = {name: [] for name in peers}
        gc.disable()
        for number in range(-3, runs):  # the first rounds warm up
            for name, peer in peers.items():
                taken = [cold_once(peer)], [warm_once(peer) for _ in range(WARM_EACH_ROUND)]
                if number >= 0:
                    cold[name] += taken[0]
                    warm[name] += taken[1]
            if sys.stderr.isatty():
                print(f"\r{max(number, 0) + 1}/{runs}", end="", file=sys.stderr)
        gc.enable()
        rows = [
            report.Row(name, peer.version, PEERS[name][1], summary(cold[name]), summary(warm[name]))
            for name, peer in peers.items()
        ]
    return rows, skipped


def summary(times: list[float]) -> report.Spread:
    """Return the median and the 99th percentile, in milliseconds."""
    return report.Spread(statistics.median(times) * 1e3, sorted(times)[int(len(times) * 0.99)] * 1e3)


def main() -> None:
    """Measure, print, and write down."""
    arguments = argparse.ArgumentParser(prog="python benches/peers", description=__doc__.partition("\n")[0])
    arguments.add_argument("--runs", type=int, default=200, help="cold starts of each (default: 200)")
    arguments.add_argument("--document", type=Path, help="Markdown file whose table is replaced")
    arguments.add_argument("--plot", type=Path, help="PNG or SVG file to write")
    chosen = arguments.parse_args()
    rows, skipped = measure(chosen.runs)
    table = report.table(rows, skipped, chosen.runs)
    print(table)
    if chosen.document:
        report.replace(chosen.document, table)
    if chosen.plot:
        report.plot(rows, chosen.plot)


if __name__ == "__main__":
    main()
