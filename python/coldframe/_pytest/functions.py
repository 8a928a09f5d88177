"""Functions that the fixtures make: they remember how they failed, for the report of the test."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Self, Unpack

from coldframe import Function, _event, _function, _invocation
from coldframe._pytest import failures
from coldframe.errors import ColdframeError, InvocationError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import pytest

    from coldframe import Host, Invocation
    from coldframe._options import FunctionOptions


def _told(error: pytest.ExceptionInfo[BaseException]) -> bool:
    """Return whether an error says all that there is to say, so that a traceback can do without our frames."""
    return error.errisinstance(ColdframeError)


__tracebackhide__ = True
for _module in (_event, _function, _invocation):
    vars(_module)["__tracebackhide__"] = _told


class Factory:
    """Makes functions on one host; a context manager that closes them. See `coldframe.pytest_plugin`."""

    def __init__(self, config: pytest.Config, host: Host, defaults: Mapping[str, object]) -> None:
        """Take the options that functions have unless they are given."""
        self._remembered = failures.remembered(config)
        self._defaults = {"host": host, **defaults}
        self._made = contextlib.ExitStack()

    def __call__(self, handler: str, code: str | os.PathLike[str], **options: Unpack[FunctionOptions]) -> Function:
        """Make a function."""
        given: Any = {**self._defaults, **options}
        return self._made.enter_context(_TestedFunction(self._remembered, handler, code, **given))

    def __enter__(self) -> Self:
        """Return the factory itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close every function that was made."""
        self._made.close()


class _TestedFunction(Function):
    """A function whose failed invocations are remembered, also where nobody raises them: `assert fn.invoke(e).ok`."""

    def __init__(
        self,
        remembered: failures.Failures,
        handler: str,
        code: str | os.PathLike[str],
        **options: Unpack[FunctionOptions],
    ) -> None:
        """Make a function that adds to `remembered`."""
        self._remembered = remembered
        super().__init__(handler, code, **options)

    def __call__(
        self,
        event: Any = None,  # noqa: ANN401 - any JSON
        *,
        timeout_s: float | None = None,
        client_context: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever JSON the handler returned
        """Do as `Function` does."""
        try:
            return super().__call__(event, timeout_s=timeout_s, client_context=client_context)
        except InvocationError as error:
            self._remember(error.invocation)
            raise

    def _call(self, *arguments: Any, **options: Any) -> Invocation:  # noqa: ANN401 - passed on as they come
        """Run one invocation, for every form but a plain call that nobody observes."""
        invocation = super()._call(*arguments, **options)
        if invocation.error is not None:
            self._remember(invocation)
        return invocation

    def _remember(self, invocation: Invocation | None) -> None:
        """Remember a failed invocation, once."""
        if invocation is not None and all(invocation is not each for _, each in tuple(self._remembered)):
            self._remembered.append((self.name, invocation))
