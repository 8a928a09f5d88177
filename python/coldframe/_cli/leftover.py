"""What owners of environments have left, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coldframe._core import Leftover


def described(leftover: Leftover) -> list[str]:
    """Return the lines that say what one owner has left."""
    if leftover["alive"]:
        head = f"{leftover['owner']} lives, and cannot end the following; it goes on trying:"
    else:
        head = f"{leftover['owner']} has ended without closing its host; `coldframe gc` collects what it left:"
    return [head, *things(leftover)]


def things(leftover: Leftover) -> list[str]:
    """Return a line for each thing that one owner has left."""
    found = [("directory", leftover["directory"])]
    found += [("cgroup", path) for path in leftover["cgroups"]]
    found += [("process", str(pid)) for pid in leftover["processes"]]
    return [f"     {what:<9}  {thing}" for what, thing in found]
