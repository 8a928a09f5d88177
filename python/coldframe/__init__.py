"""coldframe: runs AWS Lambda handlers, each in an isolated Linux process of its own.

Layout: every public name is listed here, and lives in a private module named after its noun.

    _function     Function                      _decorator    function
    _host         Host, default_host, Environment
    _invocation   Invocation, Report            _stream       Stream
    _hardening    Hardening                     _build        build_info, __version__
    errors        every error, as a tree

Behind them: `_options` checks what a function is given, `_event` encodes events, `_future` is what `submit` returns,
`_observers` tells `otel` and `prometheus` of invocations when somebody asks, `_metrics` names what they count,
`_interpreter` and `_preload` describe what a function needs of Python, `_core` is the native module.

A name is loaded when it is first used. The pytest plugin, which pytest imports in every run, and `coldframe --help`
then cost next to nothing. The native module alone is loaded at once, in about a millisecond, to warn of a debug build.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coldframe._build import __version__, build_info
    from coldframe._decorator import function
    from coldframe._function import Function
    from coldframe._hardening import Hardening
    from coldframe._host import Environment, Host, default_host
    from coldframe._invocation import Invocation, Report
    from coldframe._stream import Stream
    from coldframe.errors import (
        ColdframeError,
        ConfigurationError,
        EnvironmentExit,
        HandlerError,
        HostCapabilityError,
        InitError,
        InvocationError,
        InvocationTimeout,
        OutOfMemoryError,
        PayloadError,
        ThrottledError,
    )

__all__ = [
    "ColdframeError",
    "ConfigurationError",
    "Environment",
    "EnvironmentExit",
    "Function",
    "HandlerError",
    "Hardening",
    "Host",
    "HostCapabilityError",
    "InitError",
    "Invocation",
    "InvocationError",
    "InvocationTimeout",
    "OutOfMemoryError",
    "PayloadError",
    "Report",
    "Stream",
    "ThrottledError",
    "__version__",
    "build_info",
    "default_host",
    "function",
]

if sys.platform != "linux":
    raise ImportError(
        f"coldframe isolates handlers with features of the Linux kernel and cannot work on {sys.platform}; "
        "run it on Linux, in a virtual machine if need be"
    )

# After the check above: there is no native module on other systems.
from coldframe import _build

_build.warn_about_debug_build()

_MODULES = {
    "Environment": "_host",
    "Function": "_function",
    "Hardening": "_hardening",
    "Host": "_host",
    "Invocation": "_invocation",
    "Report": "_invocation",
    "Stream": "_stream",
    "__version__": "_build",
    "build_info": "_build",
    "default_host": "_host",
    "function": "_decorator",
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})
