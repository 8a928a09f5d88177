"""What build of the native core this is."""

from __future__ import annotations

import warnings

try:
    from coldframe import _core
except ImportError as error:
    raise ImportError(
        f"coldframe's native module cannot be loaded ({error}); install a wheel for this machine, Linux on x86-64 or "
        "arm64, or build it in a checkout: `pip install .`"
    ) from None


def build_info() -> _core.BuildInfo:
    """Return what belongs into a bug report: `version`, `profile` ("release" or "debug") and `target`."""
    return _core.build_info()


def warn_about_debug_build() -> None:
    """Warn when the core was built without optimisation: whatever is measured with it says nothing."""
    if _core.build_info()["profile"] == "debug":
        warnings.warn(
            "this coldframe is a debug build and slow; install a wheel, or build with `maturin develop --release`",
            RuntimeWarning,
            stacklevel=3,
        )


__version__: str = _core.build_info()["version"]
