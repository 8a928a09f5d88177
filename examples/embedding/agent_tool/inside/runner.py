"""What runs inside: it executes the code, and collects what came of it.

The code shares this process and can change whatever is here. That is why nothing of this is a protection: what is
returned is looked at as if the code itself had written it.
"""

import ast
import base64
import contextlib
import gc
import linecache
import os
import sys
import traceback
import types
from pathlib import Path
from typing import Any

PLACE = Path("/tmp/work")
NAME = "<code>"


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Put the files in place, run the code there, and return value, error and the files that are new or changed."""
    PLACE.mkdir()
    os.chdir(PLACE)
    given = {name: base64.b64decode(data) for name, data in event["files"].items()}
    for name, data in given.items():
        Path(name).write_bytes(data)
    value, error = run(event["code"])
    gc.collect()  # files that are still open are closed, and with that written
    files, left = collect(given, event["max_bytes"])
    return {"value": value, "error": error, "files": files, "left": left}


def run(code: str) -> tuple[str | None, str | None]:
    """Return the repr of the code's last expression and None, or None and the traceback."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    linecache.cache[NAME] = (len(code), None, code.splitlines(keepends=True), NAME)
    try:
        tree = ast.parse(code, NAME)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, NAME, "exec"), main.__dict__)
        if not isinstance(last, ast.Expr):
            return None, None
        value = eval(compile(ast.Expression(last.value), NAME, "eval"), main.__dict__)
        return None if value is None else sendable(repr(value)), None
    except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are the code's business as well
        frames = error.__traceback__
        while frames and frames.tb_frame.f_code.co_filename != NAME:  # what is above the code is ours
            frames = frames.tb_next
        return None, sendable("".join(traceback.format_exception(type(error), error, frames)))
    finally:
        main.__dict__.clear()


def collect(given: dict[str, bytes], max_bytes: int) -> tuple[dict[str, str], dict[str, str]]:
    """Return the files that are new or changed, and why others are left behind."""
    files, left = {}, {}
    for entry in sorted(os.scandir(PLACE), key=lambda entry: entry.name):
        name = sendable(entry.name)
        if entry.is_symlink():
            left[name] = "a link"
        elif entry.is_dir():
            left[name] = "a folder; write files into the working directory itself"
        elif not entry.is_file():
            left[name] = "no regular file"
        elif entry.stat().st_size > max_bytes:
            left[name] = f"over {max_bytes} bytes"
        else:
            with contextlib.suppress(OSError):
                data = Path(entry.path).read_bytes()
                if data != given.get(name):
                    files[name] = base64.b64encode(data).decode()
                    max_bytes -= len(data)
    return files, left


def sendable(text: str) -> str:
    """Return a text that is not too long and that JSON in UTF-8 can express."""
    return text[:50_000].encode("utf-8", "backslashreplace").decode()
