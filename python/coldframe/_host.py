"""Hosts: each owns a set of execution environments."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from coldframe import _core
from coldframe._options import check_choice, check_span, check_whole, shown
from coldframe.errors import ColdframeError, ConfigurationError, ThrottledError

if TYPE_CHECKING:
    from collections.abc import Callable

    from coldframe._function import Function
    from coldframe._future import InvocationFuture


# A library is quiet unless its program wants to hear of it. Everybody who uses a host has loaded `logging` already.
logging.getLogger("coldframe").addHandler(logging.NullHandler())

# Threads beside those of the invocations in flight, so that a submission over the limit is refused and not queued.
_SPARE_THREADS = 8

_CLOSED = "this Host is closed; make a new one"


@dataclass(frozen=True, slots=True)
class Environment:
    """An execution environment, as it was when `Host.environments()` looked.

    `state` is "init", "ready", "busy", "frozen" or "dead"; `pid` the process id of its init as this host sees it;
    `cgroups` maps each hierarchy to the absolute path of the environment's cgroup; `memory_mb` is what it uses now, in
    MiB; `created` and `last_used` are seconds since the epoch, as `time.time()` has them.
    """

    id: str
    function: str
    state: str
    pid: int
    cgroups: dict[str, str]
    memory_mb: float
    created: float
    last_used: float


class Host:
    """Creates, reuses, freezes, evicts and destroys execution environments.

    A function that is given no host uses `default_host()`. After a fork the child's hosts start anew, with no
    environments; those of the parent stay the parent's.
    """

    def __init__(
        self,
        *,
        max_concurrency: int = 1000,
        max_memory_mb: int | None = None,
        idle_timeout_s: float = 600.0,
        freeze: bool = True,
        freeze_after_ms: float = 0.0,
        cgroup: Literal["take"] | None = None,
    ) -> None:
        """Make a host.

        Args:
            max_concurrency: Invocations in flight at a time, of all functions; idle environments do not count.
            max_memory_mb: Memory in use by all environments together, in MiB; None is 80% of what the caller's own
                cgroup may use. Over it idle environments go first, then invocations raise `ThrottledError`.
            idle_timeout_s: Seconds after which an idle environment is destroyed.
            freeze: Whether idle environments are frozen, so that they use no processor time.
            freeze_after_ms: Milliseconds between an answer and the freeze. In a burst, once eight events in a row have
                each come within a millisecond of the answer before, the freeze waits until none has come for 10 ms.
            cgroup: "take" allows moving the processes of the caller's own cgroup into a leaf below it, which a
                delegated version 2 cgroup needs when there are others in it; None moves nothing of others.

        Raises:
            ConfigurationError: A value is out of range or of the wrong type.
            HostCapabilityError: This host has no cgroups that the caller may use.
        """
        check_choice("cgroup", cgroup, ("take", None))
        check_whole("max_concurrency", max_concurrency, 1)
        if max_memory_mb is not None:
            check_whole("max_memory_mb", max_memory_mb, 1)
        check_span("idle_timeout_s", idle_timeout_s, "seconds")
        check_span("freeze_after_ms", freeze_after_ms, "milliseconds")
        if not isinstance(freeze, bool):
            raise ConfigurationError(f"freeze={shown(freeze)}: it must be True or False")
        self._settings = {
            "max_concurrency": max_concurrency,
            "max_memory_mb": max_memory_mb,
            "idle_timeout_s": idle_timeout_s,
            "freeze": freeze,
            "freeze_after_ms": freeze_after_ms,
            "cgroup": cgroup,
        }
        self.max_concurrency = max_concurrency
        self._closed = False
        self._native: _core.Host | None = None
        self._finalizer: Callable[[], object]
        self._pools: dict[bool, ThreadPoolExecutor]
        self._lock: threading.RLock
        self._binding: threading.RLock
        self._forget()
        self._live()
        _hosts.add(self)

    @property
    def closed(self) -> bool:
        """Whether the host was closed."""
        return self._closed

    @property
    def parked(self) -> int:
        """How many environments wait for a function to be assigned to."""
        native = self._native
        return 0 if native is None or self._closed else native.parked

    @property
    def max_memory_mb(self) -> int:
        """Memory that all environments together may use, in MiB: what was given, or what None came to here."""
        return self._live().max_memory_mb

    def environments(self) -> list[Environment]:
        """Return the environments that belong to a function now; parked ones are only counted, in `parked`."""
        native = self._native
        if native is None or self._closed:
            return []
        return [
            Environment(
                id=info.id,
                function=info.function,
                state=info.state,
                pid=info.pid,
                cgroups=dict(info.cgroups),
                memory_mb=info.memory_mb,
                created=info.created,
                last_used=info.last_used,
            )
            for info in native.environments()
        ]

    def prewarm(self, function: Function, n: int) -> None:
        """Make `n` initialised environments of `function` ahead of need; with `reuse=False` each serves one event.

        Raises:
            ConfigurationError: The function belongs to another host, or `n` is no number of environments.
            InitError: The function could not be initialised; or InvocationTimeout, OutOfMemoryError or EnvironmentExit
                where that took too long, took too much memory, or ended the process.
            ThrottledError: There is no room for so many.
        """
        check_whole("n", n, 0)
        if function.host is not self:
            raise ConfigurationError(
                f"function {function.name!r} belongs to another host; make it with host=, or prewarm it on fn.host"
            )
        native = function._live()
        try:
            self._live().prewarm(native, n)
        except OverflowError as error:
            raise ConfigurationError(f"n={shown(n)}: {error}") from None

    def close(self) -> None:
        """Destroy every environment and end what is in flight; does nothing the second time."""
        self._closed = True
        with self._lock:
            native, pools = self._native, list(self._pools.values())
        try:
            self._finalizer()
            if native is not None:
                native.close()  # whoever else closes it meanwhile: this waits for the same end
        finally:
            inside = getattr(_worker, "inside", False)
            for pool in pools:
                pool.shutdown(wait=not inside, cancel_futures=True)  # a thread cannot wait for itself

    def __enter__(self) -> Self:
        """Return the host itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the host."""
        self.close()

    def __repr__(self) -> str:
        """Show the settings."""
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings.items())
        return f"<closed Host({settings})>" if self._closed else f"Host({settings})"

    def _live(self) -> _core.Host:
        """Return the native host, made anew when this process is a fork of the one that had it."""
        native = self._native
        if native is not None and not self._closed:
            return native
        with self._lock:
            if self._closed:
                raise ColdframeError(_CLOSED)
            if self._native is None:
                try:
                    self._native = _core.Host(**self._settings)  # type: ignore[arg-type]
                except (TypeError, OverflowError) as error:
                    raise ConfigurationError(f"Host: {error}") from None
                self._finalizer = weakref.finalize(self, _close, self._native, os.getpid())
            return self._native

    def _run(self, future: InvocationFuture, *, waiting: bool) -> None:
        """Run `future` in a thread; those that may wait for room have threads apart from those that may not."""
        try:
            with self._lock:
                if self._closed:
                    raise ColdframeError(_CLOSED)
                pool = self._pools.get(waiting)
                if pool is None:
                    name = "coldframe-map" if waiting else "coldframe-submit"
                    pool = ThreadPoolExecutor(self.max_concurrency + _SPARE_THREADS, name, _enter_worker)
                    self._pools[waiting] = pool
            task = pool.submit(future.run)
        except ColdframeError as error:
            future.fail(error)
        except RuntimeError as error:
            future.fail(ThrottledError(f"no thread can be started for the invocation: {error}; submit less at a time"))
        else:
            task.add_done_callback(lambda task: task.cancelled() and future.cancel())

    def _forget(self) -> None:
        """Leave the native host and the threads to the process that has them: the parent, after a fork."""
        if self._native is not None:
            self._native.forget()
        self._native = None
        self._finalizer = _nothing
        self._pools = {}
        # New ones, since a thread that the child does not have may hold the old ones.
        self._lock = threading.RLock()
        self._binding = threading.RLock()


def default_host() -> Host:
    """Return the host of the functions that were given none, made when it is first needed."""
    global _default
    with _default_lock:
        if _default is None or _default.closed:
            _default = Host()
        return _default


def _close(native: _core.Host, pid: int) -> None:
    """Close `native`, but not for a parent process whose child ends."""
    if os.getpid() == pid:
        native.close()


def _nothing() -> None:
    """Do nothing: the finalizer of a host that has nothing to close."""


def _enter_worker() -> None:
    """Mark this thread as one of a host's."""
    _worker.inside = True


def _after_fork() -> None:
    """Make the hosts of a child its own."""
    global _default_lock
    _default_lock = threading.RLock()
    for host in list(_hosts):
        host._forget()


_hosts: weakref.WeakSet[Host] = weakref.WeakSet()
_worker = threading.local()
_default: Host | None = None
_default_lock = threading.RLock()
os.register_at_fork(after_in_child=_after_fork)
