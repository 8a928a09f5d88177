"""What an invocation's log holds: START, everything that was written to either stream, END and REPORT."""

import json
import re

import pytest

import coldframe

REPORT = re.compile(
    r"REPORT RequestId: (?P<id>[0-9a-f-]{36})\t"
    r"Duration: (?P<duration>\d+\.\d\d) ms\tBilled Duration: (?P<billed>\d+) ms\t"
    r"Memory Size: (?P<size>\d+) MB\tMax Memory Used: (?P<used>\d+) MB(\tInit Duration: (?P<init>\d+\.\d\d) ms)?"
    r"(?P<status>(\tStatus: (error|timeout))?(\tError Type: [\w.]+)?)\t\n"
)
INIT_START = re.compile(
    r"INIT_START Runtime Version: python:3\.\d+\.v[\w.]+\t"
    r"Runtime Version ARN: arn:aws:lambda:us-east-1::runtime:[0-9a-f]{64}\n"
)
INIT_REPORT = re.compile(
    r"INIT_REPORT Init Duration: (?P<duration>\d+\.\d\d) ms\tPhase: (?P<phase>init|invoke)\t"
    r"Status: (?P<status>error|timeout)(\tError Type: (?P<type>[\w.]+))?\n"
)
LOGGED = r"\t\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t"


def output(invocation):
    """Return what lies between START and END, after checking the lines around it."""
    early, start, rest = invocation.log.partition(f"START RequestId: {invocation.request_id} Version: $LATEST\n")
    text, end, report = rest.rpartition(f"END RequestId: {invocation.request_id}\n")
    assert start
    assert end
    assert REPORT.fullmatch(report), report
    assert bool(INIT_START.match(early)) == (invocation.report.start == "cold")
    return text


def early_output(invocation):
    """Return what lies between INIT_START and START: what the initialisation printed, and what is said of it."""
    return INIT_START.sub("", invocation.log, count=1).partition("START RequestId: ")[0]


def report_line(invocation):
    return REPORT.fullmatch(invocation.log[invocation.log.rindex("REPORT ") :])


def test_the_lines_of_a_silent_invocation_are_lambdas_to_the_byte(make):
    fn = make("def handler(event, context):\n    pass\n", memory_mb=160)
    cold, warm = fn.invoke(), fn.invoke()
    for invocation in (cold, warm):
        report = invocation.report
        init = "" if report.init_duration_ms is None else f"\tInit Duration: {report.init_duration_ms:.2f} ms"
        head, log = re.fullmatch(f"({INIT_START.pattern})?(.*)", invocation.log, re.DOTALL).groups()
        assert (head is None) == (invocation is warm)
        assert log == (
            f"START RequestId: {invocation.request_id} Version: $LATEST\n"
            f"END RequestId: {invocation.request_id}\n"
            f"REPORT RequestId: {invocation.request_id}\tDuration: {report.duration_ms:.2f} ms\t"
            f"Billed Duration: {report.billed_duration_ms} ms\tMemory Size: 160 MB\t"
            f"Max Memory Used: {report.max_memory_mb} MB{init}\t\n"
        )
    assert "Init Duration" in cold.log
    assert "Init Duration" not in warm.log


def test_the_report_line_agrees_with_the_report(make):
    fn = make("import time\ndef handler(event, context):\n    time.sleep(0.02)\n")
    for invocation in (fn.invoke(), fn.invoke()):
        line, report = report_line(invocation), invocation.report
        assert line["id"] == invocation.request_id
        assert float(line["duration"]) == pytest.approx(report.duration_ms, abs=0.006)
        assert report.duration_ms >= 20
        assert int(line["billed"]) == report.billed_duration_ms
        assert report.duration_ms <= report.billed_duration_ms < report.duration_ms + 1
        assert int(line["used"]) == report.max_memory_mb
        assert 0 < report.max_memory_mb <= report.memory_mb == int(line["size"]) == 128


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("return 1", ""),
        ("raise ValueError", ""),
        ("time.sleep(30)", "\tStatus: timeout"),
        ("os._exit(1)", "\tStatus: error\tError Type: Runtime.ExitError"),
        ("bytearray(500 << 20)", "\tStatus: error\tError Type: Runtime.OutOfMemory"),
        ("return 'x' * 7_000_000", "\tStatus: error\tError Type: Function.ResponseSizeTooLarge"),
    ],
)
def test_the_report_line_says_how_it_failed(make, body, status):
    fn = make(f"import os, time\ndef handler(event, context):\n    {body}\n", timeout_s=2, memory_mb=64)
    assert report_line(fn.invoke())["status"] == status


def test_a_response_that_is_not_json_is_not_reported_as_too_large(make):
    line = report_line(make("def handler(event, context):\n    return {1}\n").invoke())
    assert "ResponseSizeTooLarge" not in line["status"]


def test_a_failed_initialisation_has_its_lines_too_for_both_tries(make):
    invocation = make("print('starting')\nraise RuntimeError('broken')\n").invoke()
    assert output(invocation) == ""
    line = report_line(invocation)
    assert line["status"] == "\tStatus: error\tError Type: Runtime.Unknown"
    assert line["init"] is None, "it was initialised within the invocation"
    told = early_output(invocation)
    tries = [(found["phase"], found["status"], found["type"]) for found in INIT_REPORT.finditer(told)]
    assert tries == [("init", "error", "Runtime.Unknown"), ("invoke", "error", "Runtime.Unknown")]
    assert len(re.findall(r"starting\n\[WARNING\]\t\S+Z\t\tLAMBDA_WARNING: Unhandled exception\. ", told)) == 2
    assert told.count("\r\n[ERROR] RuntimeError: broken\r") == 2
    assert INIT_REPORT.sub("", told).count("\n") == 6
    first, second = (float(found["duration"]) for found in INIT_REPORT.finditer(told))
    assert first == pytest.approx(invocation.report.init_duration_ms, abs=0.01)
    assert second < invocation.report.duration_ms


def test_a_failed_initialisation_is_told_by_the_name_of_its_error_where_that_is_lambdas(make):
    invocation = make("import nowhere\n").invoke()
    assert report_line(invocation)["status"] == "\tStatus: error\tError Type: Runtime.ImportModuleError"
    assert {found["type"] for found in INIT_REPORT.finditer(invocation.log)} == {"Runtime.ImportModuleError"}


def test_everything_that_is_written_is_there_in_order(make):
    fn = make(
        "import logging, os, subprocess, sys\n"
        "logging.getLogger().setLevel('INFO')\n"
        "def handler(event, context):\n"
        "    print('print')\n"
        "    logging.info('info %d', 7)\n"
        "    print('stderr', file=sys.stderr)\n"
        "    os.write(1, b'descriptor 1\\n')\n"
        "    os.write(2, b'descriptor 2\\n')\n"
        "    subprocess.run(['echo', 'child'], check=True)\n"
        "    subprocess.run('echo child error >&2', shell=True, check=True)\n"
        "    sys.stdout.write('unfinished')\n"
        "    logging.getLogger('mine').warning('last')\n"
    )
    for invocation in (fn.invoke(), fn.invoke()):
        pattern = (
            r"print\n"
            rf"\[INFO\]{LOGGED}{invocation.request_id}\tinfo 7\n"
            r"stderr\ndescriptor 1\ndescriptor 2\nchild\nchild error\n"
            rf"unfinished\[WARNING\]{LOGGED}{invocation.request_id}\tlast\n"
        )
        assert re.fullmatch(pattern, output(invocation))


def test_logging_follows_the_level_of_the_root_logger(make):
    fn = make(
        "import logging\n"
        "def handler(event, context):\n"
        "    logging.getLogger().setLevel(event)\n"
        "    for level in ('debug', 'info', 'warning', 'error', 'critical'):\n"
        "        getattr(logging, level)(level)\n"
    )
    assert re.findall(r"\[(\w+)\]", output(fn.invoke("WARNING"))) == ["WARNING", "ERROR", "CRITICAL"]
    assert len(re.findall(r"\[(\w+)\]", output(fn.invoke("DEBUG")))) == 5


def test_the_root_logger_warns_by_default(make):
    fn = make(
        "import logging\ndef handler(event, context):\n    logging.info('quiet')\n    logging.warning('loud')\n"
        "    return [type(h).__name__ for h in logging.getLogger().handlers]\n"
    )
    invocation = fn.invoke()
    assert invocation.payload == ["LambdaLoggerHandler"]
    assert "quiet" not in invocation.log
    assert "loud" in invocation.log


def test_logged_exceptions_come_with_their_traceback(make):
    fn = make(
        "import logging\n"
        "def handler(event, context):\n"
        "    try:\n"
        "        1 / 0\n"
        "    except ZeroDivisionError:\n"
        "        logging.exception('while dividing')\n"
    )
    text = output(fn.invoke())
    assert re.match(rf"\[ERROR\]{LOGGED}[0-9a-f-]+\twhile dividing\n", text)
    assert 'Traceback (most recent call last):\n  File "/var/task/app.py", line 4, in handler\n' in text
    assert text.endswith("ZeroDivisionError: division by zero\n")


def test_what_initialisation_prints_is_in_the_first_log_only_and_comes_before_start(make):
    fn = make(
        "import logging\nprint('at import')\nlogging.warning('logged at import')\n"
        "def handler(event, context):\n    print(event)\n"
    )
    first, second = fn.invoke("first"), fn.invoke("second")
    assert re.fullmatch(rf"at import\n\[WARNING\]{LOGGED}\tlogged at import\n", early_output(first))
    assert (output(first), early_output(second), output(second)) == ("first\n", "", "second\n")


def test_what_initialisation_prints_comes_before_start_in_every_environment(make):
    """Events go along with the order to initialise where that is quick, but then nobody could tell the two apart."""
    fn = make("print('at import')\ndef handler(event, context):\n    print(event)\n", reuse=False)
    for event in range(5):
        invocation = fn.invoke(event)
        assert (early_output(invocation), output(invocation)) == ("at import\n", f"{event}\n")


def test_a_handler_that_raises_leaves_the_error_block(make):
    fn = make("def handler(event, context):\n    print('before')\n    raise ValueError('boom\\nboom')\n")
    assert output(fn.invoke()) == (
        "before\n[ERROR] ValueError: boom\nboom\rTraceback (most recent call last):\r"
        "\xa0\xa0File \"/var/task/app.py\", line 3, in handler\r\xa0\xa0\xa0\xa0raise ValueError('boom\\nboom')\n"
    )


def test_texts_of_many_lines_and_strange_characters_are_kept(make):
    fn = make("def handler(event, context):\n    print(event)\n")
    text = "one\ntwo\n\n\tthree\rfour ü € 😀 \x1b[31mred\x1b[0m \0 end"
    assert output(fn.invoke(text)) == text + "\n"


def test_bytes_that_are_no_text_are_replaced_and_a_last_line_is_ended(make):
    fn = make("import os\ndef handler(event, context):\n    os.write(1, b'a\\xff\\xfeb\\xe2\\x82')\n")
    assert output(fn.invoke()) == "a\ufffd\ufffdb\ufffd\n"


def test_half_a_surrogate_pair_can_be_printed(make):
    fn = make("def handler(event, context):\n    print('a\\ud800b')\n    return 1\n")
    invocation = fn.invoke()
    assert invocation.ok
    assert re.match(r"a.+b\n", output(invocation))


def test_a_handler_cannot_have_the_last_word(make):
    fn = make(
        "def handler(event, context):\n"
        "    print(f'END RequestId: {context.aws_request_id}')\n"
        "    print('REPORT RequestId: forged')\n"
        "    return 1\n"
    )
    invocation = fn.invoke()
    assert invocation.log.endswith("\t\n")
    assert report_line(invocation)["id"] == invocation.request_id


def test_the_log_of_a_killed_handler_has_what_it_wrote_until_then(make):
    fn = make("import time\ndef handler(event, context):\n    print('before')\n    time.sleep(30)\n", timeout_s=0.3)
    invocation = fn.invoke()
    assert output(invocation) == "before\n"
    assert report_line(invocation)["status"] == "\tStatus: timeout"


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 9)", "sys.exit('farewell')"])
def test_the_log_of_a_handler_that_ends_itself_has_its_last_words(make, end):
    fn = make(f"import os, sys\ndef handler(event, context):\n    print('before')\n    {end}\n")
    words = output(fn.invoke())
    assert words.startswith("before\n")
    assert ("farewell\n" in words) == ("farewell" in end)


def test_a_log_within_log_kb_is_whole(make):
    fn = make("def handler(event, context):\n    print('x' * (event - 1))\n", log_kb=64)
    invocation = fn.invoke(64 << 10)
    assert invocation.report.log_dropped_bytes == 0
    assert len(output(invocation)) == 64 << 10
    assert fn.invoke((64 << 10) + 1).report.log_dropped_bytes == 1


def test_a_log_over_log_kb_is_cut_with_a_mark_that_says_how_much(make):
    fn = make(
        "def handler(event, context):\n"
        "    print('the first line')\n"
        "    for i in range(event):\n"
        "        print(f'{i:0>99}')\n"
        "    print('the last line')\n",
        log_kb=16,
        timeout_s=20,
    )
    invocation = fn.invoke(5_000)
    dropped = invocation.report.log_dropped_bytes
    text = output(invocation)
    mark = next(line for line in text.splitlines() if line.startswith("[coldframe: "))
    assert str(dropped) in mark
    assert "log_kb" in mark
    assert text.startswith("the first line\n")
    assert text.endswith("the last line\n")
    printed = len("the first line\n") + 100 * 5_000 + len("the last line\n")
    kept = len(text) - len(mark) - 1
    assert kept + dropped == pytest.approx(printed, abs=1)  # a line that was cut in two is ended
    assert kept == pytest.approx(16 << 10, abs=1)
    assert fn.invoke(1).report.log_dropped_bytes == 0


def test_a_log_of_no_size_is_a_mark(make):
    fn = make("def handler(event, context):\n    print(event)\n    return event\n", log_kb=0)
    invocation = fn.invoke("secret")
    assert invocation.payload == "secret"
    assert invocation.report.log_dropped_bytes == 7
    assert "secret" not in invocation.log
    assert REPORT.search(invocation.log)


def test_output_after_sys_stdout_was_replaced(make):
    fn = make(
        "import io, logging, os, sys\n"
        "def handler(event, context):\n"
        "    print('before')\n"
        "    sys.stdout = open(1, 'w', closefd=False, buffering=8192)\n"
        "    print('after')\n"
        "    logging.warning('logged')\n"
        "    return 1\n"
    )
    for invocation in (fn.invoke(), fn.invoke()):
        assert invocation.ok
        text = output(invocation)
        assert text.startswith("before\nafter\n[WARNING]")
        assert text.endswith("\tlogged\n")


@pytest.mark.parametrize("stdout", ["io.StringIO()", "None", "42", "open('/dev/full', 'w')"])
def test_a_useless_sys_stdout_is_the_handlers_loss_only(make, stdout):
    fn = make(
        "import io, logging, os, sys\n"
        "def handler(event, context):\n"
        f"    sys.stdout = {stdout}\n"
        "    os.write(1, b'past it\\n')\n"
        "    logging.warning('logged')\n"
        "    return event\n"
    )
    for event in (1, 2):
        invocation = fn.invoke(event)
        assert invocation.payload == event
        assert "past it\n" in output(invocation)


def test_the_error_block_gets_past_a_closed_sys_stdout(make):
    fn = make(
        "import sys\n"
        "def handler(event, context):\n"
        "    sys.stdout.close()\n"
        "    sys.stderr.close()\n"
        "    raise ValueError('heard')\n"
    )
    for _ in range(2):
        invocation = fn.invoke()
        assert invocation.error.error_type == "ValueError"
        assert "[ERROR] ValueError: heard" in output(invocation)


def test_lines_of_json(make):
    fn = make(
        "import logging\n"
        "def handler(event, context):\n"
        "    logging.info('hello %s', 'you', extra={'order': 7})\n"
        "    logging.debug('not shown')\n"
        "    raise ValueError('boom')\n",
        env={"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO"},
    )
    invocation = fn.invoke()
    _, (info, error) = records(invocation)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", info.pop("timestamp"))
    assert info == {
        "level": "INFO",
        "message": "hello you",
        "logger": "root",
        "requestId": invocation.request_id,
        "order": 7,
    }
    assert error.pop("timestamp")
    assert error.pop("stackTrace")
    assert error == {
        "level": "ERROR",
        "errorMessage": "boom",
        "errorType": "ValueError",
        "requestId": invocation.request_id,
    }


JSON = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def records(invocation):
    """Return the platform's records in a log of JSON, by their types, and every other line."""
    lines = [json.loads(line) for line in invocation.log.splitlines()]
    platform = [line for line in lines if line.get("type", "").startswith("platform.")]
    assert all(MOMENT.fullmatch(line["time"]) for line in platform)
    assert [line["time"] for line in platform] == sorted(line["time"] for line in platform)
    return (
        {line["type"].removeprefix("platform."): line["record"] for line in platform},
        [line for line in lines if line not in platform],
    )


def test_in_json_the_lines_of_the_platform_are_records(make):
    source = "import logging\nlogging.warning('early')\ndef handler(event, context):\n    logging.warning('late')\n"
    fn = make(source + "    return 12\n", env=JSON, memory_mb=160, name="orders")
    cold, warm = fn.invoke(), fn.invoke()
    told, logged = records(cold)
    assert list(told) == ["initStart", "start", "report"]
    version = told["initStart"].pop("runtimeVersion")
    arn = told["initStart"].pop("runtimeVersionArn")
    assert INIT_START.fullmatch(f"INIT_START Runtime Version: {version}\tRuntime Version ARN: {arn}\n")
    assert told["initStart"] == {
        "initializationType": "on-demand",
        "phase": "init",
        "functionName": "orders",
        "functionVersion": "$LATEST",
        "instanceId": cold.report.environment_id,
        "instanceMaxMemory": 160 << 20,
    }
    assert told["start"] == {
        "requestId": cold.request_id,
        "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:orders",
        "version": "$LATEST",
    }
    assert told["report"] == {
        "requestId": cold.request_id,
        "status": "success",
        "metrics": {
            "durationMs": pytest.approx(cold.report.duration_ms, abs=0.001),
            "billedDurationMs": cold.report.billed_duration_ms,
            "memorySizeMB": 160,
            "maxMemoryUsedMB": cold.report.max_memory_mb,
            "initDurationMs": pytest.approx(cold.report.init_duration_ms, abs=0.001),
        },
    }
    assert [line["message"] for line in logged] == ["early", "late"]
    told, _ = records(warm)
    assert list(told) == ["start", "report"]
    assert "initDurationMs" not in told["report"]["metrics"]


def test_the_level_of_the_system_log_says_which_records_there_are(make):
    source = "def handler(event, context):\n    if event:\n        raise ValueError(event)\n    return 12\n"
    for level, good, bad in [
        (
            "DEBUG",
            ["initStart", "initRuntimeDone", "initReport", "start", "runtimeDone", "report"],
            "runtimeDone report",
        ),
        ("WARN", [], "runtimeDone report"),
    ]:
        fn = make(source, env={**JSON, "AWS_LAMBDA_SYSTEM_LOG_LEVEL": level})
        told, _ = records(fn.invoke())
        assert list(told) == good
        if good:
            assert told["runtimeDone"]["metrics"]["producedBytes"] == 2
        told, logged = records(fn.invoke("bad"))
        assert [kind for kind in told if kind != "start"] == bad.split()
        assert (told["report"]["status"], told["report"]["errorType"]) == ("error", "Runtime.Unknown")
        assert logged[0]["errorType"] == "ValueError"


def test_a_level_that_there_is_not_is_refused(make):
    with pytest.raises(coldframe.ConfigurationError, match="AWS_LAMBDA_SYSTEM_LOG_LEVEL"):
        make("", env={"AWS_LAMBDA_SYSTEM_LOG_LEVEL": "LOUD"})


def test_in_json_a_failed_initialisation_has_a_record_for_each_try(make):
    invocation = make("import nowhere\n", env=JSON).invoke()
    lines = [json.loads(line) for line in invocation.log.splitlines()]
    told = [
        (line["record"]["phase"], line["record"]["errorType"])
        for line in lines
        if line.get("type") == "platform.initReport"
    ]
    assert told == [("init", "Runtime.ImportModuleError"), ("invoke", "Runtime.ImportModuleError")]
    assert [line["errorType"] for line in lines if line.get("level") == "ERROR"] == ["Runtime.ImportModuleError"] * 2
    assert lines[-1]["record"]["status"] == "error"


def test_in_json_what_is_missing_is_a_record(make):
    fn = make("def handler(event, context):\n    print('x' * 40_000)\n    print('y')\n", env=JSON, log_kb=1)
    invocation = fn.invoke()
    mark = next(line for line in invocation.log.splitlines() if "platform.logsDropped" in line)
    assert json.loads(mark)["record"]["droppedBytes"] == invocation.report.log_dropped_bytes > 0


def test_logs_of_invocations_side_by_side_do_not_mix(make):
    fn = make("def handler(event, context):\n    for _ in range(200):\n        print(f'<{event}>')\n", memory_mb=512)
    for event, invocation in enumerate(fn.map(range(8))):
        assert output(invocation) == f"<{event}>\n" * 200
