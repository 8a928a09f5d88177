"""What `@pytest.mark.coldframe(...)` asks for: options of a function, of a test, its class and its module together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coldframe import Hardening
from coldframe._options import shown
from coldframe.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

_OPTIONS = (
    "memory_mb",
    "timeout_s",
    "tmp_mb",
    "max_processes",
    "log_kb",
    "env",
    "layers",
    "network",
    "preload",
    "isolation",
    "mounts",
    "hardening",
    "reuse",
)
_FIXTURES = {"coldframe_function", "coldframe_module_function", "coldframe_session_function", "coldframe_host"}


def options(item: pytest.Item, defaults: Mapping[str, object]) -> dict[str, Any]:
    """Return the arguments of a marked test; those of the closest marker win, and all win over `defaults`.

    Raises:
        ConfigurationError: An argument is not one that a marker has, or the test wants what it cannot have inside.
    """
    found: dict[str, Any] = {"reuse": False, **defaults}
    for mark in reversed(list(item.iter_markers("coldframe"))):
        if mark.args:
            raise ConfigurationError(f"the marker takes no arguments by position, such as {shown(mark.args[0])}")
        for name, value in mark.kwargs.items():
            if name not in _OPTIONS:
                raise ConfigurationError(f"the marker has no argument {name!r}; there are {', '.join(_OPTIONS)}")
            found[name] = value
    if not isinstance(found["reuse"], bool):
        raise ConfigurationError(f"reuse={shown(found['reuse'])}: use True or False")
    if wanted := sorted(_FIXTURES.intersection(getattr(item, "fixturenames", ()))):
        raise ConfigurationError(
            f"it runs in an environment itself, where there is no {wanted[0]}: an environment cannot make others; "
            "take off the marker, or the fixture"
        )
    if not isinstance(found.get("preload", ()), list | tuple):
        raise ConfigurationError(f"preload={shown(found['preload'])}: use a list of names")
    # A package that cannot be shared is imported by each environment itself: a test is no place to insist.
    found.setdefault("hardening", Hardening(on_unclean="cold"))
    return found
