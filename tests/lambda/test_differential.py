"""coldframe's own Python runtime says what Lambda's says: the same handlers through both, compared byte for byte.

Lambda's is `awslambdaric` from PyPI, as it is, in a process of its own that speaks to a stand-in for the Runtime API.
With COLDFRAME_DIFFERENTIAL=provided it runs in coldframe instead, in Debian's Python; its log has frames then, with
other ends of lines, and is left out.
"""

import importlib.util
import json
import os
import re
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cases_errors
import cases_kept
import cases_logs
import cases_values
import pytest
from runtime_api import REQUEST_ID, Runtime, lambda_environment, write_code

import coldframe

pytest.importorskip("awslambdaric")

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
EXECUTION_ENV = f"AWS_Lambda_python{max(VERSION, '3.12')}"
"""What is not ASCII is not escaped: as Lambda has it from Python 3.12 on, coldframe has it for every version."""
DEBIAN, LIBRARY = f"/usr/bin/python{VERSION}", os.path.dirname(os.__file__)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")
PLATFORMS = re.compile(
    rf"INIT_START |(INIT_REPORT) |(?:START|END|REPORT) RequestId: {REQUEST_ID}"
    r'|{"time": ?"<time>", ?"type": ?"platform\.(?:(initReport)|\w+)'
)
"""Lines that are not the runtime's; those with a group end the initialisation or one try of it."""
REPEATED = re.compile(r"\[Previous line repeated \d+ more times\]")
"""How often depends on how deep the runtime itself is in calls."""
IN_JSON = re.compile(r'"  File \\"[^"]*/awslambdaric/.*?\\n"(, )?')
IN_BLOCK = re.compile(r'\r\xa0\xa0File "[^"]*/awslambdaric/[^\r\n]*(\r\xa0{4}[^\r\n]*)?')
"""Frames of awslambdaric's own, which it shows when there are none but its own, or below the handler's."""

CASES = [*cases_values.CASES, *cases_errors.CASES, *cases_logs.CASES]
TOGETHER = [case for case in CASES if case.together]
ALONE = [case for case in CASES if not case.together]
NAMES = {case.name: f"case{number}" for number, case in enumerate(TOGETHER)}
ALL = {f"{NAMES[case.name]}.py": case.files["app.py"] for case in TOGETHER}
ALL["app.py"] = """
import importlib
def handler(event, context):
    name, event = event
    return importlib.import_module(name).handler(event, context)
"""


@dataclass(frozen=True)
class Said:
    """What a runtime made of an event, with what differs from run to run taken out."""

    kind: str
    """response, error, init or exit."""
    body: str
    log: str


def tidy(text, task="/var/task", request_id=REQUEST_ID):
    """Return `text` with the same folder, request id and time for everyone."""
    text = TIME.sub("<time>", text.replace(str(task), "/var/task").replace(request_id, REQUEST_ID))
    for pattern, instead in ((REPEATED, "[and so on]"), (IN_JSON, ""), (IN_BLOCK, "")):
        text = pattern.sub(instead, text)
    return text.replace('\\n", ]', '\\n"]')


def ended(status):
    """Return the error of a process that ended with `status`, as Lambda puts it."""
    if status == 0:
        how = "Runtime exited without providing a reason"
    elif status > 0:
        how = f"Runtime exited with error: exit status {status}"
    else:
        how = f"Runtime exited with error: signal: {signal.strsignal(-status).lower()}"
    return f'{{"errorType":"Runtime.ExitError","errorMessage":"RequestId: {REQUEST_ID} Error: {how}"}}'


def event_of(case):
    """Return the event as JSON, for an environment that has all cases if this is one of many."""
    event = case.event if isinstance(case.event, bytes) else json.dumps(case.event).encode()
    return b'["%s", %b]' % (NAMES[case.name].encode(), event) if case.name in NAMES else event


def client_of(case):
    return None if case.client_context is None else json.dumps(case.client_context).encode()


class Lambdas:
    """A function in awslambdaric."""

    def __init__(self, files, task, *, handler="app.handler", env=None):
        write_code(task, files)
        self.task = task
        env = lambda_environment(handler, task, AWS_EXECUTION_ENV=EXECUTION_ENV, **(env or {}))
        self.runtime = Runtime([sys.executable, "-m", "awslambdaric", handler], task, env)
        self.answer = self.runtime.start()
        self.log = self.answer.log

    def say(self, event, client=None):
        answer = self.answer
        if answer.kind == "next":
            headers = {"Lambda-Runtime-Client-Context": client.decode()} if client else None
            answer = self.runtime.invoke(event, headers=headers)
        log, self.log = self.log + answer.log if answer is not self.answer else self.log, b""
        body = ended(answer.status) if answer.kind == "exit" else answer.body.decode(errors="replace")
        return Said(answer.kind, tidy(body, self.task), tidy(log.decode(), self.task))

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.runtime.__exit__()


class Inside:
    """The same in coldframe."""

    def __init__(self, files, task, *, handler="app.handler", env=None):
        write_code(task, files)
        layer = task.with_name(f"{task.name}-layer")
        packages = [importlib.util.find_spec(name).origin for name in ("awslambdaric", "simplejson")]
        for package in map(Path, packages):
            shutil.copytree(package.parent, layer / "python" / package.parent.name)
        for name in ("runtime_client", "snapshot_restore_py"):
            shutil.copy(importlib.util.find_spec(name).origin, layer / "python")
        write_code(
            layer, {"bootstrap": f'#!/bin/sh\nPYTHONPATH=/opt/python exec {DEBIAN} -m awslambdaric "$_HANDLER"\n'}
        )
        (layer / "bootstrap").chmod(0o755)
        options = {"runtime": "provided", "layers": [layer], "name": "app", "env": env or {}}
        self.fn = coldframe.Function(handler, task, **options)

    def say(self, event, client=None):
        said = outcome_of(self.fn._live().invoke(event, client_context=client))
        return Said(said.kind, said.body.replace(f"/usr/lib/python{VERSION}", LIBRARY), "")

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.fn.close()


PROVIDED = os.environ.get("COLDFRAME_DIFFERENTIAL") == "provided"
Theirs = Inside if PROVIDED else Lambdas


def alone(case, task):
    """Run a case through an awslambdaric of its own."""
    with Theirs(case.files, task, handler=case.handler, env=case.env) as runtime:
        return runtime.say(event_of(case), client_of(case))


def ours(fn, case):
    """Run a case through coldframe."""
    return outcome_of(fn._live().invoke(event_of(case), client_context=client_of(case)))


def outcome_of(outcome):
    kind = {"ok": "response", "handler": "error", "payload": "error"}.get(outcome.kind, outcome.kind)
    body = (outcome.payload if kind == "response" else outcome.error).decode()
    return Said(kind, tidy(body, request_id=outcome.request_id), written(outcome))


def written(outcome):
    """Return what an environment wrote, without the lines that are the platform's, and of two tries only the first."""
    tries = [""]
    for line in tidy(outcome.log, request_id=outcome.request_id).removesuffix("\n").split("\n"):
        if platforms := PLATFORMS.match(line):
            tries += [""] * any(platforms.groups())
        else:
            tries[-1] += f"{line}\n"
    if len(tries) <= 2:
        return "".join(tries)
    assert tries == [tries[0], tries[0], ""], "an initialisation that failed is tried again, and fails in the same way"
    return tries[0]


@pytest.fixture(scope="module")
def theirs(request, tmp_path_factory):
    """Run the selected cases that want a process of their own, side by side; return what comes of each, by name."""
    chosen = [item.callspec.params["case"] for item in request.session.items if item.path == request.path]
    cases = [case for case in chosen if case.name not in NAMES]
    with ThreadPoolExecutor(2) as pool:
        yield {case.name: pool.submit(alone, case, tmp_path_factory.mktemp("theirs")) for case in cases}


@pytest.fixture
def our_own(host, tmp_path):
    """Return a function that runs a case through an environment of its own."""

    def run(case):
        tmp_path.joinpath("code").mkdir()
        write_code(tmp_path / "code", case.files)
        with coldframe.Function(case.handler, tmp_path / "code", name="app", env=case.env, host=host) as fn:
            return ours(fn, case)

    return run


@pytest.fixture(scope="module")
def their_many(tmp_path_factory):
    with Theirs(ALL, tmp_path_factory.mktemp("many")) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def our_many(host, tmp_path_factory):
    task = tmp_path_factory.mktemp("ours")
    write_code(task, ALL)
    with coldframe.Function("app.handler", task, name="app", host=host) as fn:
        yield fn


def compare(one, other):
    if PROVIDED:
        assert (one.kind, one.body) == (other.kind, other.body)
        return
    # A line that was not ended is, where the platform's next one follows.
    assert (one.kind, one.body, one.log.rstrip("\n")) == (other.kind, other.body, other.log.rstrip("\n"))


@pytest.mark.parametrize("case", TOGETHER, ids=lambda case: case.name)
def test_both_say_the_same_of_a_warm_invocation(case, our_many, their_many):
    compare(ours(our_many, case), their_many.say(event_of(case), client_of(case)))


@pytest.mark.parametrize("case", ALONE, ids=lambda case: case.name)
def test_both_say_the_same_of_a_first_invocation(case, our_own, theirs):
    compare(our_own(case), theirs[case.name].result())


@pytest.mark.parametrize("case", cases_kept.CASES, ids=lambda case: case.name)
def test_a_difference_is_kept_on_purpose(case, our_own, theirs):
    said = [our_own(case), theirs[case.name].result()]
    assert [case.ours in f"{each.body}\n{each.log}<end>" for each in said] == [True, False], said
