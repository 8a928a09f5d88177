"""Run a batch: `python -m batch events.jsonl --out results`. The same command continues one that was stopped."""

import argparse
import contextlib
import math
import os
from pathlib import Path
from typing import Any

from tqdm import tqdm

import coldframe

from .journal import Events, Journal, is_hopeless
from .work import side_by_side

ONE_PROCESSOR_MB = 1769


def main() -> int:
    options = read_options()
    events = Events(options.events)
    limits = {"memory_mb": options.memory, "timeout_s": options.timeout, "log_kb": 64}
    with Journal(options.out, events) as journal:
        bar = tqdm(total=events.count, initial=len(journal.done), disable=None, unit=" events", dynamic_ncols=True)
        try:
            with bar, coldframe.Host(max_concurrency=options.side_by_side) as host:
                run(events, journal, bar, options, {**limits, "host": host})
        except KeyboardInterrupt:
            print(f"stopped after {len(journal.done)} of {events.count} events; the same command goes on from there")
            return 130
        except coldframe.ColdframeError as error:  # a limit that cannot be, or a host that cannot
            raise SystemExit(str(error)) from None
        print(f"{events.count} events, {journal.failed} failed; results in {options.out / 'results.jsonl'}")
        return 1 if journal.failed else 0


def run(
    events: Events, journal: Journal, bar: "tqdm[Any]", options: argparse.Namespace, settings: dict[str, Any]
) -> None:
    """Do what is not done yet: all of it once, then once more what failed."""
    again: set[int] = set()
    for tries in (1, 2):
        # The second time in environments that nobody has used, so that nothing is left of what made them fail.
        function = coldframe.Function(options.handler, options.code, reuse=tries == 1, **settings)
        left = events.without(journal.done)
        with function, contextlib.closing(side_by_side(function, left, options.side_by_side)) as outcomes:
            for outcome in outcomes:
                if is_hopeless(outcome, journal):
                    raise SystemExit(f"{options.handler} in {options.code} cannot be started: {outcome.error}")
                if outcome.error is not None and tries == 1:
                    again.add(outcome.number)
                else:
                    again.discard(outcome.number)
                    journal.add(outcome, tries)
                    bar.update()
                bar.set_postfix(again=len(again), failed=journal.failed)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m batch", description="Invoke a handler on every line of a file.")
    parser.add_argument("events", type=Path, help="a file with one JSON document a line")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for what comes of it")
    parser.add_argument("--handler", default="app.handler")
    parser.add_argument("--code", type=Path, default=Path(__file__).with_name("handler"))
    parser.add_argument("--memory", type=int, default=256, help="MB for each event (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds for each event (default: %(default)s)")
    parser.add_argument("--side-by-side", type=int, help="events at a time; as many as the processors are enough for")
    options = parser.parse_args()
    if options.side_by_side is None:  # each has the share of a processor that its memory gives
        options.side_by_side = math.ceil(len(os.sched_getaffinity(0)) * ONE_PROCESSOR_MB / max(options.memory, 32))
    return options


if __name__ == "__main__":
    raise SystemExit(main())
