"""Functions: a handler, its code and its limits, and every way to invoke it."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections import deque
from concurrent.futures import wait as wait_for
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

from coldframe import _core, _interpreter, _observers, _preload
from coldframe._event import encode_client_context, encode_event
from coldframe._future import InvocationFuture
from coldframe._hardening import Hardening
from coldframe._host import default_host
from coldframe._invocation import decode_text, from_outcome
from coldframe._observers import Watch
from coldframe._options import (
    PROVIDED,
    check_choice,
    check_env,
    check_layers,
    check_mounts,
    check_path,
    check_text,
    check_timeout,
    refuse_unfinished,
    shown,
)
from coldframe._stream import Stream
from coldframe.errors import ColdframeError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    from coldframe._host import Host
    from coldframe._invocation import Invocation
    from coldframe._options import Mount

_RUNTIME = Path(__file__).with_name("_runtime")
_NO_VARIABLES: Mapping[str, str] = MappingProxyType({})
_NO_MOUNTS: Mapping[str, Mount] = MappingProxyType({})
_DEFAULT_HARDENING = Hardening()

# How many events `map` begins with, and how long it waits for the oldest one before it looks whether to take on more.
_FIRST_WINDOW = 2 * (os.cpu_count() or 1)
_PATIENCE_S = 0.02


class Function:
    """A handler with its code and its limits; immutable. The code is read once, when the function is made.

    A failed handler is a result of `invoke`, `submit`, `ainvoke` and `map`, and an exception of a call. What the caller
    got wrong is raised by every form, by `submit` in the future.
    """

    _lazy = False
    """Whether the code is read at the first use instead."""

    def __init__(
        self,
        handler: str,
        code: str | os.PathLike[str],
        *,
        name: str | None = None,
        runtime: str | os.PathLike[str] = "python",
        memory_mb: int = 128,
        timeout_s: float = 3.0,
        tmp_mb: int = 512,
        max_processes: int = 1024,
        log_kb: int = 1024,
        env: Mapping[str, str] = _NO_VARIABLES,
        layers: Sequence[str | os.PathLike[str]] = (),
        architecture: Literal["x86_64", "arm64"] | None = None,
        network: bool = False,
        packages: Literal["inherit", "none"] = "inherit",
        preload: Literal["auto"] | Sequence[str] = "auto",
        isolation: Literal["strict", "available"] = "strict",
        reserved_concurrency: int | None = None,
        provisioned_concurrency: int = 0,
        snapstart: bool = False,
        reuse: bool = True,
        mounts: Mapping[str, Mount] = _NO_MOUNTS,
        hardening: Hardening = _DEFAULT_HARDENING,
        host: Host | None = None,
    ) -> None:
        """Make a function.

        Args:
            handler: Lambda's notation, `module.function`; `pkg/mod.function` and `pkg.mod.function` both work. Any
                text for a `runtime` of "provided", which finds it as `_HANDLER`.
            code: A directory, a single `.py` file or a `.zip`; it becomes `/var/task`. For a `runtime` of "provided" it
                may be a container image, which becomes the root: a layout of OCI, or a `.tar` of `docker save`.
            name: Letters, digits, hyphens and underscores; None takes the name of the code.
            runtime: "python" for the interpreter that embeds coldframe, the path of another CPython, 3.9 or later, or
                "provided" for an executable `bootstrap` at the top of the code or of a layer, which speaks Lambda's
                Runtime API.
            memory_mb: Hard cap of the whole environment in MiB, 32 to 10,240. CPU follows it: 1,769 is one vCPU.
            timeout_s: Seconds of wall clock for one invocation, above 0 and up to 900.
            tmp_mb: Size of `/tmp` in MiB, 1 to 10,240; what is written there counts as memory.
            max_processes: Processes and threads together.
            log_kb: KiB of one invocation's output that are kept; the rest is counted.
            env: Environment variables, beside Lambda's own; nothing of the host's environment enters.
            layers: Up to five directories or `.zip` files, laid over one another in order under `/opt`.
            architecture: "x86_64" or "arm64"; None is the host's.
            network: False is an empty network with loopback only, True the host's.
            packages: "inherit" makes the interpreter's installed packages readable, "none" hides them.
            preload: Installed packages to import before the fork; "auto" reads them off the code's imports.
            isolation: "strict" wants every protection, "available" takes what the host can do.
            reserved_concurrency: Invocations of this function in flight at a time; None sets no limit of its own.
            provisioned_concurrency: Not in this version; see `Host.prewarm`.
            snapstart: True initialises the function once, and makes new environments as copies of what came of that.
            reuse: False gives every event a fresh environment.
            mounts: Host directories by their places inside, `/mnt/` and a name: a path can be read, `(path, "rw")` also
                written; what is written belongs to the directory's owner. No size here bounds that.
            hardening: The few protections that are left to choose.
            host: The host to run on; None is `default_host()`.

        Raises:
            ConfigurationError: The function cannot exist as it is described.
            HostCapabilityError: The host lacks a protection, and `isolation` is "strict".
        """
        refuse_unfinished(provisioned_concurrency=provisioned_concurrency)
        check_choice("packages", packages, ("inherit", "none"))
        check_choice("isolation", isolation, ("strict", "available"))
        if not isinstance(hardening, Hardening):
            raise ConfigurationError(f"hardening must be a coldframe.Hardening, not {shown(hardening)}")
        self.handler: str = check_text("handler", handler, "app.handler")
        self.code: str = check_path("code", code)
        self.name: str = _core.name_of(self.code) if name is None else check_text("name", name, "thumbnails")
        self._runtime = runtime
        self._on_unclean = hardening.on_unclean
        self._preload = preload
        self._reserved = reserved_concurrency
        self._host = host
        self._spec: dict[str, Any] = {
            "name": self.name,
            "handler": self.handler,
            "layers": check_layers(layers),
            "packages": packages,
            "memory_mb": memory_mb,
            "timeout_s": check_timeout(timeout_s),
            "tmp_mb": tmp_mb,
            "max_processes": max_processes,
            "log_kb": log_kb,
            "env": check_env(env),
            "mounts": check_mounts(mounts),
            "network": network,
            "architecture": architecture,
            "isolation": isolation,
            "reserved_concurrency": reserved_concurrency,
            "snapstart": snapstart,
            "reuse": reuse,
            "proc": hardening.proc or ("masked" if runtime == PROVIDED else "pid"),
            "noexec_tmp": hardening.noexec_tmp,
            "max_code_mb": hardening.max_code_mb,
            "max_zip_mb": hardening.max_zip_mb,
            "max_image_mb": hardening.max_image_mb,
            "runtime_dir": str(_RUNTIME),
        }
        _core.check(python=runtime != PROVIDED, **self._spec)
        self._closed = False
        self._bound: tuple[_core.Host, _core.Function] | None = None
        self._code_key: str | None = None
        if not self._lazy:
            self._live()

    def __call__(
        self,
        event: Any = None,  # noqa: ANN401 - any JSON
        *,
        timeout_s: float | None = None,
        client_context: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever JSON the handler returned
        """Invoke the function and return the payload; raise an `InvocationError` when the invocation failed."""
        if _observers.installed:
            return self.invoke(event, timeout_s=timeout_s, client_context=client_context).unwrap()
        body = encode_event(event)
        if timeout_s is None and client_context is None:
            answer = self._live().call(body, decode_text)
        else:
            answer = self._live().call(body, decode_text, *_options(timeout_s, client_context))
        return from_outcome(answer).unwrap() if type(answer) is _core.Outcome else answer

    def invoke(
        self,
        event: Any = None,  # noqa: ANN401 - any JSON
        *,
        timeout_s: float | None = None,
        client_context: Mapping[str, Any] | None = None,
    ) -> Invocation:
        """Invoke the function and wait for the outcome; a failed handler is a result here, not an exception.

        Args:
            event: The handler's first argument, anything that JSON can express, at most 6,291,556 bytes of it.
            timeout_s: Seconds for this invocation; None is the function's own.
            client_context: What the handler finds as `context.client_context`.

        Raises:
            PayloadError: The event is not JSON, or too large.
            ThrottledError: The host, or the function's reserved concurrency, has no room.
            HostCapabilityError: The host cannot give the isolation that was asked for.
        """
        if _observers.installed:
            return Watch(self).run(
                lambda trace_id: self._call(
                    encode_event(event), _options(timeout_s, client_context), None, trace_id, wait=False
                )
            )
        return self._call(encode_event(event), _options(timeout_s, client_context), None, "", wait=False)

    def submit(
        self,
        event: Any = None,  # noqa: ANN401 - any JSON
        *,
        timeout_s: float | None = None,
        client_context: Mapping[str, Any] | None = None,
    ) -> InvocationFuture:
        """Invoke the function in a thread of its own; like `invoke`, but everything is raised by the future.

        The future is a `concurrent.futures.Future`. Cancelling it kills the environment, also while the handler runs.
        """
        return self._submit(event, timeout_s, client_context, wait=False)

    async def ainvoke(
        self,
        event: Any = None,  # noqa: ANN401 - any JSON
        *,
        timeout_s: float | None = None,
        client_context: Mapping[str, Any] | None = None,
    ) -> Invocation:
        """Do as `invoke`, for asyncio; cancelling the task kills the environment."""
        import asyncio  # noqa: PLC0415 - slow to import, and loaded already where this is called

        future = self.submit(event, timeout_s=timeout_s, client_context=client_context)
        return await asyncio.wrap_future(future)

    def map(
        self,
        events: Iterable[Any],
        *,
        timeout_s: float | None = None,
        client_context: Mapping[str, Any] | None = None,
    ) -> Generator[Invocation, None, None]:
        """Invoke the function on every event, side by side, and yield the results in the order of the events.

        It starts when the first result is asked for, with a few events in flight, and takes on twice as many, up to the
        host's `max_concurrency`, whenever it has to wait for handlers at work: quick ones are served by a few warm
        environments, slow ones by many. At the limit it waits instead of raising `ThrottledError`. Leaving the loop
        early, or closing the generator, cancels what is in flight.
        """
        limit = self.host.max_concurrency
        limit = limit if self._reserved is None else min(limit, self._reserved)
        window = min(limit, _FIRST_WINDOW)
        pending: deque[InvocationFuture] = deque()
        try:
            for event in events:
                # With nothing reserved there is no room to wait for.
                pending.append(self._submit(event, timeout_s, client_context, wait=limit > 0))
                while pending and (len(pending) >= window or pending[0].done()):
                    if wait_for([pending[0]], _PATIENCE_S if window < limit else None).not_done:
                        if not self._at_work(pending):
                            continue
                        window = min(limit, 2 * window)
                        break
                    invocation = pending[0].result()
                    pending.popleft()
                    yield invocation
            while pending:
                invocation = pending[0].result()
                pending.popleft()
                yield invocation
        finally:
            for future in pending:
                future.cancel()

    def stream(
        self,
        event: Any = None,  # noqa: ANN401 - any JSON
        *,
        timeout_s: float | None = None,
        client_context: Mapping[str, Any] | None = None,
    ) -> Stream:
        """Invoke the function and iterate over its answer as the handler writes it, chunk by chunk.

        A handler streams by returning a generator, or another iterator, of str and bytes; what any other one returns
        is a single chunk of JSON. At most 200 MiB come through. What `invoke` raises is raised with the first chunk.
        """
        watch = Watch(self)
        try:
            timeout, context = _options(timeout_s, client_context)
            native = self._live().stream(
                encode_event(event), timeout_s=timeout, client_context=context, trace_id=watch.trace_id
            )
        except BaseException as error:
            watch.end(error)
            raise
        return Stream(native, watch)

    @property
    def host(self) -> Host:
        """The host that runs this function."""
        if self._host is None:
            self._host = default_host()
        return self._host

    @property
    def isolation(self) -> Mapping[str, str]:
        """Every protection, by name, and what of it is in force."""
        return MappingProxyType(self._live().isolation())

    def close(self) -> None:
        """Retire the function's environments; it cannot be invoked afterwards. Does nothing the second time."""
        self._closed = True
        bound, self._bound = self._bound, None
        if bound is not None:
            self._finalizer()

    def __enter__(self) -> Self:
        """Return the function itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the function."""
        self.close()

    def __repr__(self) -> str:
        """Show the handler, the name and the limits that matter most."""
        spec = self._spec
        closed = "closed " if self._closed else ""
        return (
            f"<{closed}Function {self.name} ({self.handler}), memory_mb={spec['memory_mb']}, "
            f"timeout_s={spec['timeout_s']:g}>"
        )

    def _submit(
        self,
        event: Any,  # noqa: ANN401 - any JSON
        timeout_s: float | None,
        client_context: Mapping[str, Any] | None,
        *,
        wait: bool,
    ) -> InvocationFuture:
        """Submit one invocation, which waits for room when `wait` says so."""
        watch = Watch(self)
        try:
            body, options = encode_event(event), _options(timeout_s, client_context)
            host = self.host
        except ColdframeError as error:
            watch.end(error)
            failed = InvocationFuture()
            failed.fail(error)
            return failed
        future = InvocationFuture(
            lambda ticket: watch.run(lambda trace_id: self._call(body, options, ticket, trace_id, wait=wait))
        )
        future.add_done_callback(watch.settle)
        host._run(future, waiting=wait)
        return future

    def _at_work(self, futures: Iterable[InvocationFuture]) -> bool:
        """Return whether a handler is running for each of `futures` that is not done.

        More environments help only then: while some are being made, more of them would all take longer to make.
        """
        busy = sum(each.state == "busy" for each in self.host.environments() if each.function == self.name)
        return busy >= sum(not future.done() for future in futures)

    def _call(
        self,
        body: bytes,
        options: tuple[float | None, bytes | None],
        ticket: _core.Ticket | None,
        trace_id: str,
        *,
        wait: bool,
    ) -> Invocation:
        """Run one invocation: what every form comes down to, but for a plain call."""
        timeout_s, client_context = options
        native = self._live()
        return from_outcome(
            native.invoke(
                body, timeout_s=timeout_s, client_context=client_context, trace_id=trace_id, ticket=ticket, wait=wait
            )
        )

    def _in_flight(self) -> int:
        """Return how many invocations are in flight: none in a fork of the process that has them."""
        bound, host = self._bound, self._host
        return bound[1].in_flight if bound is not None and host is not None and bound[0] is host._native else 0

    def _live(self) -> _core.Function:
        """Return the native function, made anew when its host was: in a fork of the process that had it."""
        bound, host = self._bound, self._host
        if bound is not None and host is not None and bound[0] is host._native:
            return bound[1]
        return self._bind()

    def _bind(self) -> _core.Function:
        """Read the code and make the native function."""
        host = self.host
        with host._binding:
            if self._closed:
                raise ColdframeError(f"function {self.name!r} is closed; make a new one")
            native_host = host._live()
            if self._bound is not None and self._bound[0] is native_host:
                return self._bound[1]
            with self._source() as (code, origin):
                if "interpreter" not in self._spec:
                    self._spec.update(self._surroundings(code, origin))
                native = native_host.function(code=code, **self._spec)
            if self._code_key not in (None, native.code_key):
                native.close()
                raise ConfigurationError(
                    f"the code of function {self.name!r} changed after the function was made, and before this process "
                    "was forked off; make a new Function"
                )
            self._code_key = native.code_key
            self._finalizer = weakref.finalize(self, _retire, native, os.getpid())
            self._finalizer.atexit = False  # the host takes all environments with it
            self._bound = native_host, native
            return native

    @contextlib.contextmanager
    def _source(self) -> Iterator[tuple[str, str]]:
        """Yield the path of the code while it is read, and the place it came from."""
        yield self.code, self.code

    def _surroundings(self, code: str, origin: str) -> dict[str, Any]:
        """Return what the function needs of the interpreter and its packages."""
        if self._runtime == PROVIDED:
            return {"interpreter": None, "preload": [], "preload_optional": True}
        try:
            interpreter = _interpreter.describe(self._runtime, self._spec["packages"])
            preload = _preload.resolve(
                self._preload,
                packages=self._spec["packages"],
                handler=self.handler,
                code=code,
                origin=origin,
                layers=self._spec["layers"],
                interpreter=interpreter,
            )
        except OSError as error:
            if isinstance(error, ColdframeError):
                raise
            raise ColdframeError(
                f"function {self.name!r}: its interpreter and packages could not be looked at: {error}"
            ) from error
        return {
            "interpreter": interpreter.spec(),
            "preload": list(preload),
            "preload_optional": self._preload == "auto" or self._on_unclean == "cold",
        }


def _options(timeout_s: float | None, client_context: Mapping[str, Any] | None) -> tuple[float | None, bytes | None]:
    """Return the options of one call, checked and encoded."""
    return None if timeout_s is None else check_timeout(timeout_s), encode_client_context(client_context)


def _retire(native: _core.Function, pid: int) -> None:
    """Retire the environments of a function, but not those of a parent process."""
    if os.getpid() == pid:
        native.close()
