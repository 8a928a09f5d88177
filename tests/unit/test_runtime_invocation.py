"""What a handler gets and gives back, for good and for ill."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING

import pytest
from test_runtime_driver import (
    ERROR,
    REQUEST_ID,
    RESPONSE,
    Driver,
    every_python,  # noqa: F401 - the fixture "python"
)

if TYPE_CHECKING:
    from pathlib import Path

RESULTS = """
import collections, decimal, enum
class Int(enum.IntEnum): A = 1
class Float(float): pass
class Text(str): pass
class Dict(dict): pass
class Broken:
    def __str__(self): raise ValueError
Point = collections.namedtuple("Point", "x y")
loop = []
loop.append(loop)
deep = []
for _ in range(200_000):
    deep = [deep]
def handler(event, context):
    return eval(event)
"""

# What awslambdaric 4.2.2 on Python 3.13 made of the same results, but for the top-level bytes.
MARSHALLED = [
    ("None", "null"),
    ("'é\\u2028\\x7f'", '"é\u2028\x7f"'),
    ("float('nan')", "NaN"),
    ("[Float(1.5), Int.A, Text('t'), Dict(a=1), (1,), True]", '[1.5, 1, "t", {"a": 1}, [1], true]'),
    ("{1: 1, None: 2, 1.5: 4, False: 5, Int.A: 6, Text('s'): 7}", '{"1": 6, "null": 2, "1.5": 4, "false": 5, "s": 7}'),
    ("Point(1, 2)", '{"x": 1, "y": 2}'),
    ("{'a': Point(1, [Point(3, {})]), 'b': []}", '{"a": {"x": 1, "y": [{"x": 3, "y": {}}]}, "b": []}'),
    ("{'a': b'x\\xc3\\xa9', b'k': 1}", '{"a": "xé", "k": 1}'),
    ("decimal.Decimal('1.10')", "1.10"),
    ("[decimal.Decimal(d) for d in ('NaN', 'Infinity', '1E+5', '-0')]", "[NaN, Infinity, 1E+5, -0]"),
    ("{'n': decimal.Decimal('7'), 's': {1: [None, 'é', 2.5]}}", '{"n": 7, "s": {"1": [null, "é", 2.5]}}'),
    ("collections.OrderedDict(a=1)", '{"a": 1}'),
]
REFUSED = [
    ("{1}", "Object of type set is not JSON serializable"),
    ("b'raw'", "Object of type bytes is not JSON serializable"),
    ("{'k': collections.deque()}", "Object of type deque is not JSON serializable"),
    ("[decimal.Decimal(1), {1}]", "Object of type set is not JSON serializable"),
    ("{(1,): 1}", "keys must be str, int, float, bool or None, not tuple"),
    ("{decimal.Decimal(1): 1}", "keys must be str, int, float, bool or None, not Decimal"),
    ("loop", "Circular reference detected"),
    ("{'d': decimal.Decimal(1), 'l': loop}", "Circular reference detected"),
    ("b''.join([b'a']) and {'a': b'\\xff'}", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ("'a\\ud800'", "'utf-8' codec can't encode character '\\ud800' in position 2: surrogates not allowed"),
    ("Broken()", "Object of type Broken is not JSON serializable"),
]


BROKEN = "The environment ends: descriptor 3, on which it answers, cannot be used: [Errno 9] Bad file descriptor\n"


def write(task: Path, source: str) -> None:
    (task / "app.py").write_text(textwrap.dedent(source), encoding="utf-8")


def test_results_are_encoded_as_lambda_encodes_them(tmp_path: Path, python: str) -> None:
    with Driver(tmp_path, RESULTS, python=python).ready() as driver:
        for expression, expected in MARSHALLED:
            answer = driver.invoke(expression)
            assert answer is not None
            assert (answer.kind, answer.body.decode()) == (RESPONSE, expected), expression


def test_results_that_are_no_json_are_marshal_errors(tmp_path: Path, python: str) -> None:
    with Driver(tmp_path, RESULTS, python=python).ready() as driver:
        for expression, reason in REFUSED:
            assert driver.fail(expression) == {
                "errorMessage": f"Unable to marshal response: {reason}",
                "errorType": "Runtime.MarshalError",
                "requestId": REQUEST_ID,
                "stackTrace": [],
            }, expression
            assert driver.call("1") == 1
        for expression in ("deep", "[decimal.Decimal(1), deep]"):
            error = driver.fail(expression)
            assert error["errorType"] == "Runtime.MarshalError"
            assert "recursion" in error["errorMessage"]
        assert driver.call("[1]") == [1]


def test_a_replaced_default_encoder_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, "import json\njson.JSONEncoder.default = lambda self, value: 'x'\ndef handler(e, c): return [{1}]")
    with Driver(tmp_path).ready() as driver:
        assert driver.fail()["errorType"] == "Runtime.MarshalError"


def test_the_size_limit_is_exact_and_counts_bytes(tmp_path: Path) -> None:
    write(tmp_path, "def handler(event, context): return event[0] * event[1]")
    with Driver(tmp_path).ready() as driver:
        for letter, most in (("a", 6_291_554), ("é", 3_145_777)):
            answer = driver.invoke([letter, most])
            assert answer is not None
            assert (answer.kind, len(answer.body)) == (RESPONSE, 6_291_556)
            answer = driver.invoke([letter, most + 1])
            assert answer is not None
            assert answer.kind == ERROR
            assert answer.body == (
                b'{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes).",'
                b'"errorType":"Function.ResponseSizeTooLarge"}'
            )
        assert driver.log() == ""


def test_events_may_be_any_json_and_more(tmp_path: Path, python: str) -> None:
    write(tmp_path, "def handler(event, context): return repr(event)")
    with Driver(tmp_path, python=python).ready() as driver:
        assert driver.call(raw=b"") == "None"
        assert driver.call(raw=b"null") == "None"
        assert driver.call(raw=b"[NaN, -Infinity]") == "[nan, -inf]"
        assert driver.call(raw=b'"\\ud800"') == "'\\ud800'"
        assert driver.call(raw='"é😀"'.encode()) == "'é😀'"


def test_events_that_cannot_be_decoded_are_unmarshal_errors(tmp_path: Path, python: str) -> None:
    write(tmp_path, "def handler(event, context): return 1")
    with Driver(tmp_path, python=python).ready() as driver:
        for raw in (b"{bad", b'"\xff"', b"[" * 100_000 + b"]" * 100_000, b"1 2"):
            error = driver.fail(raw=raw)
            assert error["errorType"] == "Runtime.UnmarshalError"
            assert error["errorMessage"].startswith("Unable to unmarshal input: ")
            assert error["stackTrace"] == []
            assert driver.call() == 1


def test_an_exception_comes_with_the_frames_of_the_user_alone(tmp_path: Path, python: str) -> None:
    write(
        tmp_path,
        """\
        def inner():
            raise ValueError("boom é")
        def handler(event, context):
            inner()
        """,
    )
    with Driver(tmp_path, python=python).ready() as driver:
        answer = driver.invoke()
        assert answer is not None
        path = tmp_path / "app.py"
        assert list(answer.value.items()) == [
            ("errorMessage", "boom é"),
            ("errorType", "ValueError"),
            ("requestId", REQUEST_ID),
            (
                "stackTrace",
                [
                    f'  File "{path}", line 4, in handler\n    inner()\n',
                    f'  File "{path}", line 2, in inner\n    raise ValueError("boom é")\n',
                ],
            ),
        ]
        assert driver.log() == (
            f"[ERROR] ValueError: boom é\rTraceback (most recent call last):"
            f'\r\u00a0\u00a0File "{path}", line 4, in handler\r\u00a0\u00a0\u00a0\u00a0inner()'
            f'\r\u00a0\u00a0File "{path}", line 2, in inner\r\u00a0\u00a0\u00a0\u00a0raise ValueError("boom é")\n'
        )


@pytest.mark.parametrize(
    ("statement", "error_type", "message"),
    [
        ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("raise GeneratorExit('g')", "GeneratorExit", "g"),
        ("import asyncio; raise asyncio.CancelledError", "CancelledError", ""),
        ("{}['x']", "KeyError", "'x'"),
        ("raise type('Odd', (Exception,), {'__str__': lambda s: 1 / 0})", "Odd", None),
        ("raise ValueError('a\\nb')", "ValueError", "a\nb"),
        ("raise ValueError('\\ud800')", "ValueError", "?"),
        ("raise ValueError('x' * 7_000_000)", "ValueError", None),
        ("import signal; signal.raise_signal(signal.SIGINT)", "KeyboardInterrupt", ""),
        ("handler(event, context)", "RecursionError", None),
        ("import sys; sys.setrecursionlimit(100_000); raise StopIteration(3)", "StopIteration", "3"),
    ],
)
def test_whatever_is_raised_is_an_error_of_its_own_name(
    tmp_path: Path, statement: str, error_type: str, message: str | None
) -> None:
    write(tmp_path, f"def handler(event, context):\n    if event: return event\n    {statement}")
    with Driver(tmp_path).ready() as driver:
        error = driver.fail()
        assert error["errorType"] == error_type
        assert message is None or error["errorMessage"] == message
        assert len(json.dumps(error)) < 6_291_556
        assert driver.call(5) == 5


def test_endless_recursion_is_folded(tmp_path: Path, python: str) -> None:
    write(tmp_path, "def handler(event, context): return handler(event, context)")
    with Driver(tmp_path, python=python).ready() as driver:
        error = driver.fail()
        assert error["errorType"] == "RecursionError"
        assert "  [Previous line repeated" in error["stackTrace"][-1]


@pytest.mark.parametrize(
    ("source", "error_type", "message"),
    [
        ("handler = 5", "TypeError", "'int' object is not callable"),
        ("def handler(): pass", "TypeError", "handler() takes 0 positional arguments but 2 were given"),
        (
            "async def handler(event, context): pass",
            "Runtime.MarshalError",
            "Unable to marshal response: Object of type coroutine is not JSON serializable",
        ),
    ],
)
def test_what_is_no_handler_fails_when_it_is_called(tmp_path: Path, source: str, error_type: str, message: str) -> None:
    write(tmp_path, source)
    with Driver(tmp_path).ready() as driver:
        assert driver.fail() == {
            "errorMessage": message,
            "errorType": error_type,
            "requestId": REQUEST_ID,
            "stackTrace": [],
        }


@pytest.mark.parametrize(
    "source", ["class H:\n    def m(self, e, c): return e\nhandler = H().m", "handler = lambda e, c: e"]
)
def test_any_callable_is_a_handler(tmp_path: Path, source: str) -> None:
    write(tmp_path, source)
    with Driver(tmp_path).ready() as driver:
        assert driver.call(3) == 3


@pytest.mark.parametrize(
    ("statement", "status", "output"),
    [
        ("sys.exit()", 0, ""),
        ("sys.exit(7)", 7, ""),
        ("sys.exit(-1)", 255, ""),
        ("sys.exit('bye')", 1, "bye\n"),
        ("print('part', end=''); sys.exit(2)", 2, "part"),
        ("os._exit(5)", 5, ""),
        ("os.close(3)", 1, BROKEN),
        ("os.closerange(0, 1024)", 1, ""),
        ("os.dup2(os.open('/dev/null', os.O_RDONLY), 3)", 1, BROKEN),
        ("os.dup2(os.open('/dev/null', os.O_RDWR), 3)", 0, ""),
    ],
)
def test_a_process_that_cannot_go_on_ends_at_once(tmp_path: Path, statement: str, status: int, output: str) -> None:
    write(tmp_path, f"import os, sys\ndef handler(event, context): {statement}")
    with Driver(tmp_path).ready() as driver:
        assert driver.invoke() is None
        assert driver.exit_status() == status
        assert driver.log() == output


def test_a_control_socket_that_does_not_block_is_never_polled(tmp_path: Path) -> None:
    write(tmp_path, "import os\ndef handler(event, context): os.set_blocking(3, False)")
    with Driver(tmp_path).ready() as driver:
        assert driver.call() is None
        assert driver.exit_status() == 1


def test_a_signal_handler_left_behind_ends_the_environment_with_its_traceback(tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        import signal
        def late(*arguments):
            raise TimeoutError("too late")
        def handler(event, context):
            signal.signal(signal.SIGALRM, late)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        """,
    )
    with Driver(tmp_path).ready() as driver:
        assert driver.call() is None
        assert driver.exit_status() == 1
        assert driver.log().endswith("TimeoutError: too late\n")


def test_a_forked_child_that_comes_back_does_not_answer(tmp_path: Path, python: str) -> None:
    write(
        tmp_path,
        """\
        import os
        def handler(event, context):
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
            elif event == "raise":
                raise ValueError("in the child")
            return "child" if pid == 0 else "parent"
        """,
    )
    with Driver(tmp_path, python=python).ready() as driver:
        for event in ("return", "raise", "return"):
            assert driver.call(event) == "parent"
        assert "ValueError: in the child" in driver.log()


def test_module_state_is_kept_and_nothing_of_an_invocation_is(tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        import gc, weakref
        count, seen = 0, []
        class Event(dict): pass
        def handler(event, context):
            global count
            count += 1
            alive = [one() is not None for one in seen]
            seen.append(weakref.ref(context))
            return [count, any(alive)]
        """,
    )
    with Driver(tmp_path).ready() as driver:
        assert [driver.call() for _ in range(3)] == [[1, False], [2, False], [3, False]]


def test_the_runtime_survives_patches_of_the_standard_library(tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        import json, os, sys, time
        def handler(event, context):
            json.loads = json.dumps = os.getpid = os.write = os.writev = os.readv = time.monotonic_ns = None
            sys.modules.clear()
            return event
        """,
    )
    with Driver(tmp_path).ready() as driver:
        assert driver.call(1) == 1
        assert driver.call(2) == 2
