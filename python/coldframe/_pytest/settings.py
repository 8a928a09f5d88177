"""The options and settings of a run, checked: defaults of the functions that fixtures make, and of marked tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from coldframe import _core
from coldframe._options import check_choice
from coldframe.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping


def read(given: Mapping[str, tuple[str, Any] | None]) -> dict[str, object]:
    """Return the settings that were given, by the names of `Function`'s arguments; raise a UsageError for a wrong one.

    `given` maps each name to where it was set and to the value, which is a text, or None.
    """
    chosen: dict[str, object] = {}
    for name, setting in given.items():
        if setting is None:
            continue
        where, value = setting
        try:
            chosen[name] = _CHECKS[name](value)
        except (ValueError, TypeError) as error:
            why = str(error) if isinstance(error, ConfigurationError) else f"{value!r} is not a number"
            raise pytest.UsageError(f"{where}: {why}") from None
    return chosen


def _memory(value: str) -> int:
    """Return MiB that an environment can have."""
    memory_mb = int(value)
    _core.check(memory_mb=memory_mb)
    return memory_mb


def _timeout(value: str) -> float:
    """Return seconds that an invocation can have, as a whole number if they are one, for those who read them."""
    timeout_s = float(value)
    _core.check(timeout_s=timeout_s)
    return int(timeout_s) if timeout_s.is_integer() else timeout_s


def _isolation(value: str) -> str:
    """Return one of the two words."""
    check_choice("isolation", value, ("strict", "available"))
    return value


_CHECKS = {"memory_mb": _memory, "timeout_s": _timeout, "isolation": _isolation}
