"""SPECIFICATION: with aws-lambda-go a warm invocation costs at most 4 times the native Python one, a cold start 3 times
what the same program needs as a bare process until it asks for its first event."""

import os
import socket
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from measuring import EVENT, ONE_VCPU_MB, PATIENCE_S, frozen, gone, need, ratio, timed

import coldframe

GREETER = Path(__file__).parents[1] / "examples" / "runtimes" / "go"


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """Return the code of a function whose bootstrap is a static Go program."""
    need(tool="go", why="the bootstrap is a Go program")
    folder = tmp_path_factory.mktemp("go")
    subprocess.run([GREETER / "build.sh", folder], check=True)
    return folder


@pytest.fixture
def provided(code):
    """Make functions of one vCPU with that code."""
    with ExitStack() as made:

        def make(host, **options):
            settings = {"memory_mb": ONE_VCPU_MB, "host": host, "name": "app", "runtime": "provided", **options}
            return made.enter_context(coldframe.Function("bootstrap", code=code, **settings))

        yield make


@contextmanager
def bare(bootstrap):
    """Yield a function that times a start up to the first request for an event; the end is off the clock."""
    with socket.create_server(("127.0.0.1", 0)) as api, ExitStack() as running:
        api.settimeout(PATIENCE_S)
        env = {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.getsockname()[1]}", "PATH": os.environ["PATH"]}

        def end(process):
            process.kill()
            process.wait()

        def start():
            process = subprocess.Popen([bootstrap], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            running.callback(end, process)
            connection = running.enter_context(api.accept()[0])
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(4096)
            assert b"/2018-06-01/runtime/invocation/next" in request

        def round_of_it():
            running.close()
            return timed(start)

        yield round_of_it


def test_a_warm_invocation_through_the_runtime_api(alternately, promise, function, provided, host):
    # Each on a host of its own, so that neither's idle environments are in the other's way.
    with coldframe.Host() as other:
        greeter = provided(other)
        # The same function in Python.
        python = function(host, GREETER.with_name("awslambdaric").joinpath("app.py").read_text())
        greeter(EVENT)
        python(EVENT)
        python_is_frozen, go_is_frozen = frozen(host), frozen(other)

        def one_of_python():
            python_is_frozen()
            return timed(lambda: python(EVENT))

        times = alternately(lambda: greeter(EVENT), rounds=500, warm_up=50, ready=go_is_frozen, python=one_of_python)
        assert greeter(EVENT)["guests"] > 500, "every one of them was warm"
    promise("warm, Go through the Runtime API / native Python", ratio(times, "python"), at_most=4, times=times)


def test_a_cold_start_of_a_bootstrap(alternately, promise, provided, host, code):
    fn = provided(host, reuse=False)
    with bare(code / "bootstrap") as start:
        times = alternately(lambda: fn(EVENT), rounds=100, ready=gone(host), bare=start)
    promise("cold start of a Go bootstrap / the bare process", ratio(times, "bare"), at_most=3, times=times)
