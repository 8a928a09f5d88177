"""The pytest plugin: a fixture that makes functions and destroys them with the test.

pytest imports this in every run; nothing heavy is loaded before a test asks for the fixture.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol, Unpack

import pytest

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from coldframe import Function
    from coldframe._options import FunctionOptions


class FunctionFactory(Protocol):
    """The type of the fixture `coldframe_function`."""

    def __call__(self, handler: str, code: str | os.PathLike[str], **options: Unpack[FunctionOptions]) -> Function:
        """Make a `coldframe.Function` that is closed when the test ends."""


@pytest.fixture
def coldframe_function() -> Iterator[FunctionFactory]:
    """Return a factory of functions, with the arguments of `coldframe.Function`; all are closed when the test ends."""
    from coldframe import Function  # noqa: PLC0415 - the native module, only where a test wants it

    with contextlib.ExitStack() as made:

        def make(handler: str, code: str | os.PathLike[str], **options: Unpack[FunctionOptions]) -> Function:
            return made.enter_context(Function(handler, code, **options))

        yield make
