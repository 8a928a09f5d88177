"""The journal: what is done, on disk, one line for each event, so that a batch that was stopped can be continued."""

import fcntl
import hashlib
import json
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, Self

import coldframe

from .work import Outcome


class Events:
    """The events of a file with one JSON document a line. It is read more than once, and never held in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        digest = hashlib.sha256()
        with path.open("rb") as lines:
            for line in lines:
                self.count += 1
                digest.update(line)
                try:
                    json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise SystemExit(f"{path}, line {self.count}: {error}") from None
        self.digest = digest.hexdigest()

    def without(self, done: Container[int]) -> Iterator[tuple[int, Any]]:
        """Yield the numbers, from 1 on, and the events of those that are not done."""
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if number not in done:
                    yield number, json.loads(line)


class Journal:
    """The folder of the results: `results.jsonl`, and in `logs/` the logs of what failed."""

    def __init__(self, folder: Path, events: Events) -> None:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.done: set[int] = set()
        self.failed = 0
        self._file = (folder / "results.jsonl").open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"{folder} is in use by another batch") from None
        self._read(events)

    def add(self, outcome: Outcome, tries: int) -> None:
        """Write what came of an event."""
        line: dict[str, Any] = {"event": outcome.number, "ok": outcome.error is None, "tries": tries}
        if outcome.error is None:
            line["result"] = outcome.payload
        else:
            log = Path("logs", f"{outcome.number:06}.log")
            (self.folder / log).write_text(outcome.log, encoding="utf-8", errors="replace")
            line |= {"error": str(outcome.error), "log": str(log)}
        self._write(line)
        self._count(line)

    def close(self) -> None:
        self._file.close()

    def _read(self, events: Events) -> None:
        """Take up what a run before this one has done, but for half a line that it may have left."""
        self._file.seek(0)
        end = 0
        for raw in self._file:
            if not raw.endswith(b"\n"):
                break
            line = json.loads(raw)
            if end == 0 and line != {"events": events.digest}:
                raise SystemExit(f"{self.folder} has the results of other events; name another folder")
            if end:
                self._count(line)
            end += len(raw)
        self._file.truncate(end)
        if end == 0:
            self._write({"events": events.digest})

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()

    def _count(self, line: dict[str, Any]) -> None:
        self.done.add(line["event"])
        self.failed += not line["ok"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def is_hopeless(outcome: Outcome, journal: Journal) -> bool:
    """Return whether the very first event could not even be started: so will it be with all others."""
    return not journal.done and isinstance(outcome.error, coldframe.InitError)
