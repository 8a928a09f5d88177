"""Output and logging, compared with what awslambdaric 4.2.2 writes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from test_runtime_driver import (
    REQUEST_ID,
    Driver,
    every_python,  # noqa: F401 - the fixture "python"
)

if TYPE_CHECKING:
    from pathlib import Path

LOGGING = """
import logging
logging.warning("at import")
def handler(event, context):
    logging.info("info %s", 1)
    logging.getLogger("my.lib").error("lib", extra={"k": 1, "o": object})
    logging.warning({"a": 1})
    logging.log(35, "odd")
    try:
        1 / 0
    except Exception:
        logging.exception("oops")
    print("after")
"""
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def masked(log: str) -> str:
    return re.sub(TIME, "TIME", log)


def test_text_records(tmp_path: Path, python: str) -> None:
    with Driver(tmp_path, LOGGING, python=python).ready() as driver:
        driver.call()
        lines = masked(driver.log()).splitlines()
    assert lines[:5] == [
        "[WARNING]\tTIME\t\tat import",
        f"[ERROR]\tTIME\t{REQUEST_ID}\tlib",
        f"[WARNING]\tTIME\t{REQUEST_ID}\t{{'a': 1}}",
        f"[Level 35]\tTIME\t{REQUEST_ID}\todd",
        f"[ERROR]\tTIME\t{REQUEST_ID}\toops",
    ]
    assert lines[5] == "Traceback (most recent call last):"
    assert lines[-2:] == ["ZeroDivisionError: division by zero", "after"]


@pytest.mark.parametrize(
    ("level", "shown"),
    [("INFO", True), ("TRACE", True), ("trace", False), ("WARN", False), ("bogus", False), ("", False)],
)
def test_the_level_of_text_records(tmp_path: Path, level: str, shown: bool) -> None:  # noqa: FBT001
    with Driver(tmp_path, LOGGING).ready(env={"AWS_LAMBDA_LOG_LEVEL": level}) as driver:
        driver.call()
        assert (f"[INFO]\tTIME\t{REQUEST_ID}\tinfo 1\n" in masked(driver.log())) is shown


def test_json_records(tmp_path: Path, python: str) -> None:
    with Driver(tmp_path, LOGGING, python=python) as driver:
        driver.ready(env={"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "DEBUG"})
        driver.call()
        *records, last = driver.log().splitlines()
    assert last == "after"
    lines = [json.loads(record) for record in records]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line.pop("timestamp")) for line in lines)
    request = {"requestId": REQUEST_ID}
    assert lines[:5] == [
        {"level": "WARNING", "message": "at import", "logger": "root", "requestId": ""},
        {"level": "INFO", "message": "info 1", "logger": "root", **request},
        {"level": "ERROR", "message": "lib", "logger": "my.lib", **request, "k": 1, "o": "<class 'object'>"},
        {"level": "WARNING", "message": {"a": 1}, "logger": "root", **request},
        {"level": "WARNING", "message": "odd", "logger": "root", **request},
    ]
    assert list(lines[5]) == [
        "level",
        "message",
        "logger",
        "stackTrace",
        "errorType",
        "errorMessage",
        "requestId",
        "location",
    ]
    assert lines[5]["errorType"] == "ZeroDivisionError"
    assert lines[5]["location"] == f"{tmp_path}/app.py:handler:12"


def test_a_json_error_block(tmp_path: Path) -> None:
    with Driver(tmp_path, "def handler(event, context): return {1}") as driver:
        driver.ready(env={"AWS_LAMBDA_LOG_FORMAT": "JSON"}).fail()
        line = json.loads(driver.log())
    assert list(line) == ["timestamp", "level", "errorMessage", "errorType", "requestId", "stackTrace"]
    assert (line["level"], line["errorType"]) == ("ERROR", "Runtime.MarshalError")


OUTPUT = """
import io, logging, os, sys
def handler(event, context):
    return eval(event)
def interleave():
    for index in range(3):
        print("out", index); print("err", index, file=sys.stderr); os.write(1, b"raw\\n")
class Broken:
    def flush(self): raise SystemExit(3)
    def write(self, text): raise OSError
"""


@pytest.mark.parametrize(
    ("expression", "log"),
    [
        ("print('line')", "line\n"),
        ("print('part', end='')", "part"),
        ("print('é\\ud800')", "é\\ud800\n"),
        ("sys.stdout.buffer.write(b'bytes') and None", "bytes"),
        ("print('e', end='', file=sys.stderr)", "e"),
        ("interleave()", "".join(f"out {index}\nerr {index}\nraw\n" for index in range(3))),
    ],
)
def test_output_is_complete_before_the_answer(tmp_path: Path, expression: str, log: str) -> None:
    with Driver(tmp_path, OUTPUT).ready() as driver:
        assert driver.call(expression) is None
        assert driver.log() == log


@pytest.mark.parametrize(
    "statement",
    [
        "sys.stdout = io.StringIO()",
        "sys.stdout = Broken()",
        "sys.stdout = None",
        "sys.stdout.close()",
        "del sys.stdout",
    ],
)
def test_a_replaced_stdout_costs_output_and_nothing_else(tmp_path: Path, statement: str) -> None:
    source = OUTPUT.replace(
        "    return eval(event)\n", f"    if event == 'do':\n        {statement}\n    return eval(event)\n"
    )
    with Driver(tmp_path, source.replace("eval(event)", "1 if event == 'do' else eval(event)")).ready() as driver:
        assert driver.call("do") == 1
        assert driver.call("logging.warning('lost or not')") is None
        assert driver.fail("1/0")["errorType"] == "ZeroDivisionError"
        assert driver.call("print('e', file=sys.stderr)") is None
        assert driver.log().endswith("e\n")


def test_what_is_left_in_a_replaced_stdout_is_flushed(tmp_path: Path) -> None:
    source = "import sys\ndef handler(e, c):\n    sys.stdout = open(1, 'w', closefd=False)\n    print('in there')"
    with Driver(tmp_path, source).ready() as driver:
        driver.call()
        assert driver.log() == "in there\n"
