"""The work: events side by side, outcomes in the order in which they come."""

import itertools
import json
from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any

import coldframe


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one event: `error` is None when the handler returned `payload`."""

    number: int
    payload: Any
    error: coldframe.ColdframeError | None
    log: str


def side_by_side(
    function: coldframe.Function, events: Iterable[tuple[int, Any]], width: int
) -> Generator[Outcome, None, None]:
    """Invoke a function on numbered events, `width` at a time, and yield outcomes as they come.

    Closing the generator, or an exception such as Ctrl-C, ends the events in flight.
    """
    rest = iter(events)
    running: dict[Future[coldframe.Invocation], int] = {}
    try:
        while True:
            for number, event in itertools.islice(rest, width - len(running)):
                running[function.submit(event)] = number
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield outcome(running.pop(future), future)
    finally:
        for future in running:
            future.cancel()  # which kills the environment that it runs in


def outcome(number: int, future: Future[coldframe.Invocation]) -> Outcome:
    try:
        invocation = future.result()
        json.dumps(invocation.payload)
    except (coldframe.PayloadError, coldframe.ThrottledError) as error:  # the event is too large, or memory is short
        return Outcome(number, None, error, "")
    except RecursionError:  # what can just be read may be too deep to be written
        return Outcome(number, None, coldframe.ColdframeError("the result is nested too deeply"), "")
    return Outcome(number, invocation.payload, invocation.error, invocation.log)
