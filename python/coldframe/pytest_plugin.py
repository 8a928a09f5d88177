"""The pytest plugin: fixtures that make functions, and a marker that runs the test itself in an environment."""

# pytest imports this in every run. Options, settings, the marker and the fixtures are declared here; what they do is in
# `coldframe._pytest`, which nothing loads before a test asks for it.

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol, Unpack

import pytest

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Iterator, Mapping

    from coldframe import Function, Host
    from coldframe._options import FunctionOptions

_MARKER = (
    "coldframe(memory_mb=..., timeout_s=..., reuse=False, ...): run the test itself in an isolated environment, under "
    "the limits of coldframe.Function; without arguments those of --coldframe-memory and --coldframe-timeout hold"
)


class FunctionFactory(Protocol):
    """The type of `coldframe_function`, `coldframe_module_function` and `coldframe_session_function`."""

    def __call__(self, handler: str, code: str | os.PathLike[str], **options: Unpack[FunctionOptions]) -> Function:
        """Make a `coldframe.Function` that is closed when the fixture's scope ends.

        It runs on `coldframe_host`. Options that are not given are those of the command line or the configuration file
        (`--coldframe-memory`, `coldframe_memory_mb` and the like), or else `coldframe.Function`'s own.
        """


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the defaults that a run can have of its own; they are checked in `pytest_configure`."""
    group = parser.getgroup("coldframe", "coldframe: functions and tests in isolated environments")
    numbers = _knows_numbers()
    for option, name, kind, metavar, meaning in (
        ("memory", "memory_mb", "int", "MB", "memory of an environment in MiB"),
        ("timeout", "timeout_s", "float", "S", "seconds that an invocation, or a marked test, may take"),
        ("isolation", "isolation", "string", "strict|available", "every protection or an error, or what the host has"),
    ):
        who = "for functions of the fixtures and marked tests that do not say it themselves"
        group.addoption(f"--coldframe-{option}", dest=f"coldframe_{name}", metavar=metavar, help=f"{meaning}, {who}")
        in_a_file: Any = kind if numbers else "string"
        parser.addini(f"coldframe_{name}", f"the same as --coldframe-{option}", type=in_a_file, default=None)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and check the options if there are any."""
    config.addinivalue_line("markers", _MARKER)
    if any(_given(config, name) is not None for name in _SETTINGS):
        from coldframe._pytest import settings  # noqa: PLC0415 - only where somebody set something

        config.stash[_DEFAULTS] = settings.read({name: _given(config, name) for name in _SETTINGS})


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which options are in force, if any are."""
    chosen = config.stash.get(_DEFAULTS, None)
    return "coldframe: " + ", ".join(f"{name}={value}" for name, value in chosen.items()) if chosen else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> object:
    """Run a test that has the marker in an environment; leave every other one alone."""
    if item.get_closest_marker("coldframe") is None or item.config.getoption("setupplan", default=False):
        return None
    from coldframe._pytest import protocol  # noqa: PLC0415 - the native module, only where a test wants it

    return protocol.run(item, nextitem, item.config.stash.get(_DEFAULTS, {}))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the report of a failure what the invocations that failed in it had to say."""
    report = yield
    if "coldframe._pytest.failures" in sys.modules or (report.failed and "coldframe.errors" in sys.modules):
        from coldframe._pytest import failures  # noqa: PLC0415 - only where there may have been an invocation

        failures.tell(item.config, call, report)
    return report


@pytest.fixture(scope="session")
def coldframe_host(pytestconfig: pytest.Config) -> Host:
    """Return the host of all functions of this process's tests, closed when the run ends.

    Under pytest-xdist every worker has its own, with an equal part of the memory.
    """
    from coldframe._pytest import hosts  # noqa: PLC0415 - the native module, only where a test wants it

    return hosts.shared(pytestconfig)


@pytest.fixture
def coldframe_function(pytestconfig: pytest.Config, coldframe_host: Host) -> Iterator[FunctionFactory]:
    """Return a factory of functions, with the arguments of `coldframe.Function`; all are closed when the test ends."""
    yield from _factory(pytestconfig, coldframe_host)


@pytest.fixture(scope="module")
def coldframe_module_function(pytestconfig: pytest.Config, coldframe_host: Host) -> Iterator[FunctionFactory]:
    """Return a factory of functions like `coldframe_function`, for fixtures that tests of a module share."""
    yield from _factory(pytestconfig, coldframe_host)


@pytest.fixture(scope="session")
def coldframe_session_function(pytestconfig: pytest.Config, coldframe_host: Host) -> Iterator[FunctionFactory]:
    """Return a factory of functions like `coldframe_function`, for fixtures that all tests share."""
    yield from _factory(pytestconfig, coldframe_host)


_SETTINGS = ("memory_mb", "timeout_s", "isolation")
_DEFAULTS: pytest.StashKey[Mapping[str, object]] = pytest.StashKey()


def _knows_numbers() -> bool:
    """Return whether a setting can be a number, as it is written in TOML."""
    return tuple(map(int, pytest.__version__.split(".")[:2])) >= (8, 4)


def _given(config: pytest.Config, name: str) -> tuple[str, object] | None:
    """Return where a setting was given, and its value; the command line wins over the configuration file."""
    if (value := config.getoption(f"coldframe_{name}")) is not None:
        return f"--coldframe-{name.partition('_')[0]}", value
    try:
        value = config.getini(f"coldframe_{name}")
    except (TypeError, ValueError, pytest.UsageError) as error:
        raise pytest.UsageError(f"coldframe_{name}: {error}") from None
    return None if value is None else (f"coldframe_{name}", value)


def _factory(config: pytest.Config, host: Host) -> Iterator[FunctionFactory]:
    """Yield a factory of functions on `host`, and close them all."""
    from coldframe._pytest import functions  # noqa: PLC0415 - see coldframe_host

    with functions.Factory(config, host, config.stash.get(_DEFAULTS, {})) as factory:
        yield factory
