"""Manifests: what a plug-in says of itself. Its author is a stranger, so that all of it is checked and capped."""

import os
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOOKS = frozenset({"comment"})
MAX_MEMORY_MB = 128
MAX_TIMEOUT_S = 0.5
MAX_BYTES = 4096
NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
KEYS = {"handler", "hooks", "memory_mb", "timeout_s"}


class BadManifest(ValueError):  # noqa: N818 - named after what it is about
    """The plug-in cannot be loaded as it describes itself."""


@dataclass(frozen=True, slots=True)
class Manifest:
    name: str
    handler: str
    hooks: frozenset[str]
    memory_mb: int
    timeout_s: float


def read_manifest(folder: Path) -> Manifest:
    """Read `plugin.toml` of a folder, whose own name is the plug-in's: so no two can have the same one."""
    if not NAME.fullmatch(folder.name):
        raise BadManifest("its folder needs a name of small letters, digits, - and _")
    try:
        data = tomllib.loads(read_text(folder / "plugin.toml"))
    except OSError as error:
        raise BadManifest(f"plugin.toml cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise BadManifest(f"plugin.toml: {error}") from None
    if unknown := data.keys() - KEYS:
        raise BadManifest(f"plugin.toml has unknown keys: {', '.join(sorted(unknown))}")
    hooks = data.get("hooks")
    if not isinstance(hooks, list) or not all(isinstance(hook, str) and hook in HOOKS for hook in hooks):
        raise BadManifest(f"hooks must be a list of some of these: {', '.join(sorted(HOOKS))}")
    return Manifest(
        name=folder.name,
        handler=str(data.get("handler", "plugin.handler")),
        hooks=frozenset(hooks),
        memory_mb=int(capped(data, "memory_mb", MAX_MEMORY_MB)),
        timeout_s=capped(data, "timeout_s", MAX_TIMEOUT_S),
    )


def capped(data: dict[str, Any], key: str, most: float) -> float:
    """Return what the plug-in asks for, or the most that it may have. What is too little coldframe refuses."""
    value = data.get(key, most)
    if type(value) not in (int, float):
        raise BadManifest(f"{key} must be a number")
    return float(min(value, most))


def read_text(path: Path) -> str:
    """Read a small file, without following a link that would show a file of ours, or waiting for a pipe."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise BadManifest("plugin.toml is no regular file")
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise BadManifest(f"plugin.toml has more than {MAX_BYTES} bytes")
    return text.decode()
