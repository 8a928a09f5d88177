"""The tool itself: `run_python(code, files)`, what a model is told about it, and what it is told afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import coldframe

from .files import MAX_BYTES, MAX_FILES, pack, unpack

LONGEST_TEXT = 10_000


def describe(memory_mb: int, timeout_s: float) -> dict[str, Any]:
    """Return what a model is given: the tool's name, what it does within which limits, and its arguments."""
    text = (
        "Run Python code and return what it printed, the value of its last expression, and the files it wrote. "
        "It runs in an empty process each time: variables and imports are gone afterwards; files in the working "
        f"directory are there again in the next call, at most {MAX_FILES} with {MAX_BYTES} bytes together, and no "
        f"folders. There is the standard library, no network, {memory_mb} MB of memory and {timeout_s:g} s."
    )
    code = {"type": "string", "description": "The code. End it with an expression to see its value."}
    schema = {"type": "object", "properties": {"code": code}, "required": ["code"], "additionalProperties": False}
    return {"name": "run_python", "description": text, "input_schema": schema}


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run: `files` are those that it wrote or changed, `refused` says which it may not keep, and why."""

    stdout: str
    value: str | None = None
    error: str | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def for_model(self) -> dict[str, Any]:
        """Return what a model should see of it: text that is not too long, and names in the place of contents."""
        answer: dict[str, Any] = {"stdout": clip(self.stdout), "value": clip(self.value), "error": clip(self.error)}
        answer["files"] = [f"{name} ({len(data)} bytes)" for name, data in self.files.items()]
        answer["not kept"] = self.refused
        return {name: value for name, value in answer.items() if value}


class PythonTool:
    """Runs generated code, every time in a fresh environment. Close it, or use it in a `with` statement."""

    def __init__(self, *, memory_mb: int = 1024, timeout_s: float = 10.0) -> None:
        self.description = describe(memory_mb, timeout_s)
        self._limits = f"{memory_mb} MB of memory", f"{timeout_s:g} s"
        self._function = coldframe.Function(
            "runner.handler",
            code=Path(__file__).parent / "inside" / "runner.py",
            memory_mb=memory_mb,
            timeout_s=timeout_s,
            max_processes=64,
            log_kb=64,
            packages="none",
            reuse=False,  # what one run leaves behind is no business of the next one
        )

    def run(self, code: str, files: Mapping[str, bytes]) -> Result:
        """Run code with some files in its working directory. Whatever the code does is in the result.

        Raises:
            TooMuch: The files are too many, or too large.
            coldframe.PayloadError: The code is too large, or no text that UTF-8 can express.
            coldframe.ThrottledError: This machine has no room for another run.
        """
        event = {"code": code, "files": pack(files), "max_bytes": MAX_BYTES}
        invocation = self._function.invoke(event)
        stdout = printed(invocation)
        if invocation.error is not None:
            return Result(stdout, error=self._explain(invocation.error))
        answer = invocation.payload if isinstance(invocation.payload, dict) else {}
        taken, refused = unpack(answer.get("files"), answer.get("left"), files)
        return Result(stdout, text(answer.get("value")), text(answer.get("error")), taken, refused)

    def close(self) -> None:
        self._function.close()

    def _explain(self, error: coldframe.InvocationError) -> str:
        """Say what happened in the words of whoever wrote the code: a model that knows nothing of environments."""
        memory, time = self._limits
        match error:
            case coldframe.InvocationTimeout():
                return f"TimeLimit: the code was stopped after {time}; do less at a time."
            case coldframe.OutOfMemoryError():
                return f"MemoryLimit: the code needed more than {memory}; hold less at a time."
            case coldframe.EnvironmentExit():
                return f"Exit: the process ended before the code did ({error.error_message.rpartition('Error: ')[2]})."
            case _:
                return f"{error.error_type}: {error.error_message}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def printed(invocation: coldframe.Invocation) -> str:
    """Return what the code wrote: what stands between Lambda's first START line and its last END line."""
    _, _, text = invocation.log.partition(f"START RequestId: {invocation.request_id} Version: $LATEST\n")
    return text.rpartition(f"END RequestId: {invocation.request_id}\n")[0]


def text(said: object) -> str | None:
    """Return what the code has said, whatever it is, as a text that can be written: JSON may have half characters."""
    return None if said is None else str(said).encode("utf-8", "replace").decode()


def clip(text: str | None) -> str | None:
    """Return a text that is not longer than a model should read: its beginning and its end."""
    if text is None or len(text) <= LONGEST_TEXT:
        return text
    half = LONGEST_TEXT // 2
    return f"{text[:half]}\n[{len(text) - 2 * half} characters left out]\n{text[-half:]}"
