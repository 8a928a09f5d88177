"""What the benches share: hosts, floors, and times of several things taken in turn.

Whatever is compared is measured alternately in one run, so that a machine whose speed drifts slows all of it down. What
a bench promises is told to `promise`, which fails the bench when the bound is broken; the run ends with a table of all
numbers with medians and 99th percentiles, which are also in pytest-benchmark's record (`--benchmark-json`).
"""

import gc
import os
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from measuring import ECHO, EVENT, ONE_VCPU_MB, Floor, Times, need, p99, timed

import coldframe

NUMBERS = pytest.StashKey[list[str]]()
BROKEN = pytest.StashKey[list[str]]()


def pytest_configure(config) -> None:
    """Let a bench that fails before it measures say why, and nothing else."""
    config.addinivalue_line("filterwarnings", "ignore:Benchmark fixture was not used at all")


# What is measured.


@pytest.fixture
def alternately(benchmark) -> Callable[..., Times]:
    """Measure `ours` and each of `others` in turn, `rounds` times after a warm-up.

    `ours` is called, and `ready` before it, off the clock; the others are called and return the seconds of their round.
    With `burst`, so many of one kind follow one another before the next kind has its turn; `rounds` counts all of them.
    """

    def run(
        ours: Callable[[], object],
        rounds: int = 200,
        *,
        ready: Callable[[], object] = lambda: None,
        warm_up: int = 10,
        burst: int = 1,
        **others: Callable[[], float],
    ) -> Times:
        times: Times = {"ours": [], **{name: [] for name in others}}
        taken = 0

        def take_turns() -> None:
            nonlocal taken
            if taken % burst == 0:
                for name, other in others.items():
                    times[name] += [other() for _ in range(burst)]
            taken += 1
            ready()

        def ours_in_turn() -> None:
            times["ours"].append(timed(ours))

        for _ in range(warm_up):
            take_turns()
            ours_in_turn()
        for kept in times.values():
            kept.clear()
        taken = 0
        gc.collect()
        gc.disable()
        try:
            benchmark.pedantic(ours_in_turn, setup=take_turns, rounds=rounds, iterations=1)
        finally:
            gc.enable()
        return times

    return run


@pytest.fixture
def promise(benchmark, request) -> Callable[..., None]:
    """Hold a number to its bound: `promise("what", value, at_most=..., times=..., anything="else")`.

    `times` are told with medians and 99th percentiles in milliseconds, further numbers as they are. A bench may
    promise several things; all of them are looked at before it fails. A bound that is not reached yet is told as such,
    and the bench fails beyond `until_then`.
    """

    def hold(
        what: str,
        value: float,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        until_then: float | None = None,
        times: Mapping[str, list[float]] | None = None,
        **more: float,
    ) -> None:
        for name, taken in (times or {}).items():
            more[f"{name}_p50_ms"] = statistics.median(taken) * 1e3
            more[f"{name}_p99_ms"] = p99(taken) * 1e3
        holds = is_within(value, at_most, at_least)
        slack = float(os.environ.get("COLDFRAME_BENCH_SLACK", "1"))
        kept = is_within(value, at_most and at_most * slack, at_least and at_least / slack)
        if until_then is not None:
            kept = kept or (value <= until_then if at_most is not None else value >= until_then)
        bound = f"at most {at_most:g}" if at_most is not None else f"at least {at_least:g}"
        details = ", ".join(f"{name} {number:.4g}" for name, number in more.items())
        verdict = "holds  " if holds else "NOT YET" if kept else "BROKEN "
        line = f"{verdict} {value:8.3f} {bound:>14}  {what}\n{'':27}{details}"
        benchmark.extra_info.update({what: value, "bound": bound, **more})
        request.config.stash.setdefault(NUMBERS, []).append(line)
        if not kept:
            request.node.stash.setdefault(BROKEN, []).append(line)

    return hold


def is_within(value: float, at_most: float | None, at_least: float | None) -> bool:
    return (at_most is None or value <= at_most) and (at_least is None or value >= at_least)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Fail a bench whose promises are broken when all of them were looked at."""
    result = yield
    if broken := item.stash.get(BROKEN, []):
        pytest.fail("\n".join(broken), pytrace=False)
    return result


def pytest_terminal_summary(terminalreporter, config) -> None:
    """Print every number, also those that hold."""
    if lines := config.stash.get(NUMBERS, []):
        terminalreporter.section("numbers of SPECIFICATION.md")
        terminalreporter.write_line("\n".join(lines))


# What is compared with.


@pytest.fixture
def program(tmp_path_factory) -> Callable[..., Path]:
    """Compile a program of `benches/floor`: `program("calls", "-static")`, with options for the compiler."""
    compiler = need(tool="cc", why="the floors are C programs, compiled when they are needed")
    folder = tmp_path_factory.mktemp("floor")

    def build(name: str, *options: str) -> Path:
        source, program = Path(__file__).with_name("floor") / f"{name}.c", folder / name
        command = [compiler, "-O2", "-std=c11", "-Wall", "-Werror", *options, "-o", program, source]
        subprocess.run(command, check=True)
        return program

    return build


@pytest.fixture
def floor(program) -> Iterator[Callable[..., Floor]]:
    """Compile and start floors: `floor("cold")`, `floor("warm", argument)`; they end with the bench."""
    with ExitStack() as started:

        def start(name: str, *arguments: object) -> Floor:
            floor = Floor(program(name), *arguments)
            started.callback(floor.close)
            return floor

        yield start


# What is ours.


@pytest.fixture
def host() -> Iterator[coldframe.Host]:
    """Return a host with the settings that everybody gets."""
    with coldframe.Host() as host:
        yield host


@pytest.fixture
def unparked() -> Iterator[coldframe.Host]:
    """Return a host that parks nothing."""
    with coldframe.Host() as host:
        host._live().park_at_most(0)
        yield host


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    """Return code that hands its event back."""
    path = tmp_path / "app.py"
    path.write_text(ECHO)
    return path


@pytest.fixture
def function(echo) -> Iterator[Callable[..., coldframe.Function]]:
    """Make functions of one vCPU that hand their event back, or do what `code` says; they are closed with the bench."""
    with ExitStack() as made:

        def make(host: coldframe.Host, code: str | None = None, **options) -> coldframe.Function:
            path = echo
            if code is not None:
                path = echo.with_name(f"other{abs(hash(code))}") / "app.py"
                path.parent.mkdir(exist_ok=True)
                path.write_text(code)
            settings = {"memory_mb": ONE_VCPU_MB, "host": host, "name": "app", **options}
            return made.enter_context(coldframe.Function("app.handler", code=path, **settings))

        yield make


@pytest.fixture
def against_command(alternately, function, host, unparked) -> Callable[[list[str]], Times]:
    """Measure cold starts and a command in turn; beside them those of a host that parks nothing."""

    def run(command: list[str]) -> Times:
        fn, plain = function(host, reuse=False), function(unparked, reuse=False)
        return alternately(
            lambda: fn(EVENT),
            nothing_parked=lambda: timed(lambda: plain(EVENT)),
            command=lambda: timed(lambda: subprocess.run(command, check=True)),
        )

    return run
