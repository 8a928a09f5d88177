"""Files on their way in and out. What comes out has been in the hands of the code, its names included."""

import base64
import binascii
import os
import re
from collections.abc import Mapping
from pathlib import Path

MAX_FILES = 20
MAX_BYTES = 4_000_000
"""All files together; as base64 they fit into an event and an answer, which have 6,291,556 bytes."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,99}")


class TooMuch(ValueError):  # noqa: N818 - named after what it is
    """The files that are to go in are too many, too large, or have names that would not come out again."""


def pack(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return files as the event has them."""
    if len(files) > MAX_FILES or sum(map(len, files.values())) > MAX_BYTES:
        raise TooMuch(f"at most {MAX_FILES} files with {MAX_BYTES} bytes together can go in")
    if bad := [name for name in files if not NAME.fullmatch(name)]:
        raise TooMuch(f"{bad[0]!r} is not a plain file name")
    return {name: base64.b64encode(data).decode() for name, data in files.items()}


def unpack(returned: object, left: object, given: Mapping[str, bytes]) -> tuple[dict[str, bytes], list[str]]:
    """Return the files of an answer that are taken, and a line for each that is not.

    With those that were given they have to fit into an event again.
    """
    taken: dict[str, bytes] = {}
    refused = [line(name, why) for name, why in left.items()] if isinstance(left, dict) else []
    for name, text in returned.items() if isinstance(returned, dict) else ():
        after = {**given, **taken, name: b""}
        room = MAX_BYTES - sum(map(len, after.values()))
        if len(refused) > MAX_FILES:
            break
        if not NAME.fullmatch(name):
            refused.append(line(name, "not a plain file name"))
        elif len(after) > MAX_FILES:
            refused.append(line(name, f"there are {MAX_FILES} files already"))
        elif (data := decode(text)) is None or len(data) > room:
            refused.append(line(name, f"no file, or over {MAX_BYTES} bytes together with the others"))
        else:
            taken[name] = data
    return taken, refused[:MAX_FILES]


def line(name: str, why: object) -> str:
    shown = f"{name!r:.120}: {why if isinstance(why, str) else 'no reason given':.80}"
    return shown.encode("utf-8", "replace").decode()


def decode(text: object) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError):
        return None


def save(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files to a folder, and never through a link that lies there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(folder / name, flags, 0o644), "wb") as file:
            file.write(data)
