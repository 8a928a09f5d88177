"""The native core: pools of execution environments, and one supervisor that watches them all.

Private: `coldframe` is the interface. Errors are raised as the classes of `coldframe.errors`, with the message alone; a
panic is a `ColdframeError` that says that it is a defect of coldframe. Every wait releases the GIL and ends with
`KeyboardInterrupt` on Ctrl-C, after killing what it waited for.
"""

from collections.abc import Callable
from typing import Any, Literal, TypedDict, Unpack, final, type_check_only

__all__ = [
    "EnvironmentInfo",
    "Function",
    "Host",
    "Outcome",
    "Stream",
    "Ticket",
    "build_info",
    "check",
    "doctor",
    "gc",
    "leftovers",
    "name_of",
    "owners",
]

@type_check_only
class BuildInfo(TypedDict):
    """What build this is."""

    version: str
    profile: Literal["release", "debug"]
    target: str

@type_check_only
class Protection(TypedDict):
    """One protection, and what this host gives of it."""

    protection: str
    in_force: bool
    detail: str
    remedy: str | None

@type_check_only
class Leftover(TypedDict):
    """What an owner of environments has left.

    A dead one's is collected when the next host starts. One that lives could not end it, and goes on trying.
    """

    owner: str
    alive: bool
    directory: str
    cgroups: list[str]
    processes: list[int]

@type_check_only
class Collected(Leftover):
    """What became of a dead owner's: why some of it is still there, a text for each reason, or nothing."""

    failures: list[str]

@type_check_only
class Owner(TypedDict):
    """An owner of environments that lives, and its directory, in which it listens on the Unix socket `status`."""

    owner: str
    directory: str

@type_check_only
class InterpreterSpec(TypedDict):
    """A Python interpreter, as `coldframe._interpreter` describes it; paths are absolute and exist.

    `site` directories that lie under no prefix are mounted as well, when packages are inherited.
    """

    executable: str
    version: str
    prefixes: list[str]
    stdlib: list[str]
    site: list[str]

@type_check_only
class Options(TypedDict, total=False):
    """The description of a function; what is missing is as `coldframe.Function` has it."""

    name: str
    handler: str
    code: str
    layers: list[str]
    interpreter: InterpreterSpec | None
    preload: list[str]
    preload_optional: bool
    packages: Literal["inherit", "none"]
    memory_mb: int
    least_vcpus: float
    timeout_s: float
    tmp_mb: int
    max_processes: int
    log_kb: int
    env: dict[str, str]
    network: bool
    architecture: str | None
    isolation: Literal["strict", "available"]
    reserved_concurrency: int | None
    snapstart: bool
    reuse: bool
    mounts: list[tuple[str, str, bool]]
    proc: Literal["pid", "masked"]
    noexec_tmp: bool
    max_code_mb: int
    max_zip_mb: int
    max_image_mb: int
    runtime_dir: str

def check(*, python: bool = True, **options: Unpack[Options]) -> None:
    """Refuse options that no function can have, before its code is looked at.

    `python` says whether an interpreter is to run the handler, whose notation is Lambda's then.
    """

def name_of(path: str) -> str:
    """Return the name of a function whose code is at `path`."""

def build_info() -> BuildInfo:
    """Return the version, the profile and the target of this build."""

def doctor() -> list[Protection]:
    """Return every protection with what this host gives; "strict" can be had when all are in force."""

def leftovers() -> list[Leftover]:
    """Return what owners of environments have left in this user's state directory; nothing is collected."""

def gc() -> list[Collected]:
    """Remove what dead owners have left in this user's state directory, and return what became of it.

    Raises HostCapabilityError when the directory is not this user's alone.
    """

def owners() -> list[Owner]:
    """Return the owners of environments that live."""

@final
class Ticket:
    """Cancels the one invocation that it is given to."""

    def __new__(cls) -> Ticket:
        """Make a ticket."""

    def cancel(self) -> None:
        """Kill the environment that runs the invocation, whose `invoke` then raises `CancelledError`.

        Before the invocation has begun, it makes `invoke` raise at once; after it has ended, it does nothing.
        """

@final
class Outcome:
    """How one invocation ended, and what it took."""

    @property
    def kind(self) -> Literal["ok", "handler", "init", "timeout", "memory", "exit", "payload"]:
        """The verdict."""
    @property
    def payload(self) -> bytes | None:
        """The result as the environment sent it, when `kind` is "ok"; not checked to be JSON."""
    @property
    def error(self) -> bytes | None:
        """Lambda's error JSON, when `kind` is not "ok"; not checked when it comes from the environment."""
    @property
    def request_id(self) -> str:
        """A UUID."""
    @property
    def log(self) -> str:
        """The output, between Lambda's INIT_START, START, END and REPORT lines."""
    @property
    def start(self) -> Literal["cold", "warm", "restored"]:
        """How the environment came to be."""
    @property
    def duration_ms(self) -> float:
        """Milliseconds from the event to the answer."""
    @property
    def billed_duration_ms(self) -> int:
        """The same, rounded up."""
    @property
    def init_duration_ms(self) -> float | None:
        """Milliseconds of initialisation; None when it had none."""
    @property
    def restore_duration_ms(self) -> float | None:
        """Milliseconds of the restore; None when it had none."""
    @property
    def memory_mb(self) -> int:
        """The cap, in MiB."""
    @property
    def max_memory_mb(self) -> int:
        """The peak of the whole environment, in MiB."""
    @property
    def cpu_ms(self) -> float:
        """Processor time of all processes, in milliseconds."""
    @property
    def throttled_ms(self) -> float:
        """Milliseconds without a processor, for having used up the quota."""
    @property
    def log_dropped_bytes(self) -> int:
        """Bytes of output that are not in the log."""
    @property
    def phases(self) -> dict[str, float]:
        """Milliseconds by phase: queue, fork, isolate, import, initialise, freeze, thaw, invoke, if they happened."""
    @property
    def environment_id(self) -> str:
        """Which environment it was."""

@final
class Stream:
    """An invocation whose answer is read piece by piece; cancelled when it is dropped before its end."""

    def chunk(self) -> bytes | None:
        """Wait for the next chunk; None when there is no more.

        Raises ValueError while another thread waits for one, and `concurrent.futures.CancelledError` when it was closed
        meanwhile.
        """
    def outcome(self) -> Outcome | None:
        """Return the outcome, once, when the last chunk has been returned."""
    def close(self) -> None:
        """Kill the environment that is at it."""

@final
class EnvironmentInfo:
    """One environment, as it was when it was looked at."""

    @property
    def id(self) -> str:
        """Its name, unique on this host."""
    @property
    def function(self) -> str:
        """The name of its function."""
    @property
    def state(self) -> str:
        """One of init, ready, busy, frozen and dead."""
    @property
    def pid(self) -> int:
        """The process id of its init, as the host sees it."""
    @property
    def cgroups(self) -> dict[str, str]:
        """The absolute path of its cgroup in each hierarchy."""
    @property
    def memory_mb(self) -> float:
        """What it uses now, in MiB."""
    @property
    def created(self) -> float:
        """When it was made, in seconds since the epoch."""
    @property
    def last_used(self) -> float:
        """When its last invocation ended, in seconds since the epoch."""

@final
class Function:
    """A function on one host, with a private copy of its code; made by `Host.function`."""

    @property
    def code_key(self) -> str:
        """The content address of the code and the layers."""
    @property
    def in_flight(self) -> int:
        """How many of its invocations were admitted and have not ended."""
    def invoke(
        self,
        event: bytes,
        *,
        timeout_s: float | None = None,
        client_context: bytes | None = None,
        trace_id: str = "",
        ticket: Ticket | None = None,
        wait: bool = False,
    ) -> Outcome:
        """Run one invocation; `wait` says to wait for room instead of raising `ThrottledError`.

        `trace_id` is X-Ray's header, which the handler finds as `_X_AMZN_TRACE_ID`; empty for none.

        Raises `concurrent.futures.CancelledError` when the ticket was cancelled.
        """
    def call(
        self,
        event: bytes,
        decode: Callable[[str], Any],
        timeout_s: float | None = None,
        client_context: bytes | None = None,
    ) -> Any:  # noqa: ANN401 - whatever it makes
        """Run one invocation and return what `decode` makes of its payload.

        The outcome comes out where there is no payload, or where `decode` raises ValueError or RecursionError.
        """
    def stream(
        self,
        event: bytes,
        *,
        timeout_s: float | None = None,
        client_context: bytes | None = None,
        trace_id: str = "",
    ) -> Stream:
        """Return an invocation that begins when its first chunk is asked for."""
    def isolation(self) -> dict[str, str]:
        """Return every protection with what of it is in force."""
    def close(self) -> None:
        """Destroy the function's environments, now or when they have answered."""

@final
class Host:
    """Owns environments; `coldframe.Host` has the meaning of the settings."""

    def __new__(
        cls,
        *,
        max_concurrency: int,
        max_memory_mb: int | None,
        idle_timeout_s: float,
        freeze: bool,
        freeze_after_ms: float,
        cgroup: str | None,
    ) -> Host:
        """Make a host, and the supervisor of this process with the first one."""
    def function(self, **options: Unpack[Options]) -> Function:
        """Check the description, read the code and the layers, and make a function."""
    def prewarm(self, function: Function, n: int) -> None:
        """Make `n` initialised environments of `function`; raises the `InvocationError` of one that cannot be."""
    def environments(self) -> list[EnvironmentInfo]:
        """Return the environments that belong to a function."""
    @property
    def parked(self) -> int:
        """How many environments wait for a function."""
    @property
    def max_memory_mb(self) -> int:
        """What all environments together may hold, in MiB."""
    def wait_for_stock(self, within_s: float) -> bool:
        """Wait until what recent demand asks for is made ahead; False if that takes longer than `within_s` seconds."""
    def park_at_most(self, most: int | None, seats: int | None = None) -> None:
        """Bound, for comparisons, how many environments are parked for one zygote, and how many free seats are kept.

        `None`: as many as recent demand asks for.
        """
    def reclaim_after(self, rest_s: float) -> None:
        """Set, for comparisons, after how many seconds an environment that stands still gives memory back; first 30."""
    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
    def close(self) -> None:
        """Destroy everything, and return when nothing is left."""
    def forget(self) -> None:
        """In a forked child: leave everything to the parent, and touch nothing, from now on and when collected."""
