"""Fresh random state for a process that was forked from a zygote.

`random` reseeds itself after a fork, and OpenSSL and everything on os.urandom need nothing. The rest of the well-known
state is renewed here, since it is cached for ever or watches the process id, which is the same in every environment.
Generators that a package made while it was preloaded cannot be found: `os.register_at_fork(after_in_child=...)` is
their hook.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_SEED_BYTES = 32


def to_renew() -> list[tuple[ModuleType, Callable[[Any], None]]]:
    """Return the modules with random state that are loaded, with what renews each."""
    known = {
        "numpy.random": _numpy,
        "uuid": _uuid,
        "tempfile": _tempfile,
        "multiprocessing.process": _multiprocessing,
    }
    return [(sys.modules[name], renew_one) for name, renew_one in known.items() if name in sys.modules]


def renew(modules: list[tuple[ModuleType, Callable[[Any], None]]]) -> None:
    """Renew the random state of these modules."""
    for module, renew_one in modules:
        try:
            renew_one(module)
        except Exception as error:  # noqa: BLE001, PERF203 - a version with other internals
            # Serving with shared state would be a leak in silence.
            print(f"the random state of {module.__name__} cannot be renewed: {error}", file=sys.stderr)  # noqa: T201
            os._exit(1)


def _numpy(module: Any) -> None:  # noqa: ANN401
    module.seed(list(memoryview(os.urandom(_SEED_BYTES)).cast("I")))


def _uuid(module: Any) -> None:  # noqa: ANN401
    module._last_timestamp = None  # noqa: SLF001
    # A random one has the bit of groups set: no network card's does.
    module._node = int.from_bytes(os.urandom(6), "big") | 1 << 40  # noqa: SLF001
    # libuuid, which has once been asked, keeps its node and its clock's number where nobody reaches them.
    module._generate_time_safe = None  # noqa: SLF001


def _tempfile(module: Any) -> None:  # noqa: ANN401
    module._name_sequence = None  # noqa: SLF001
    module.tempdir = None


def _multiprocessing(module: Any) -> None:  # noqa: ANN401
    module.current_process().authkey = os.urandom(_SEED_BYTES)
