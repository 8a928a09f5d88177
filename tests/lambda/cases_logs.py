"""Handlers that log and print."""

from cases import body

_LOGGING = """
import logging, sys
log = logging.getLogger(__name__)
class Odd:
    def __repr__(self): return "<odd ü>"
def speak():
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(logging, level)("%s of root", level)
        getattr(log, level)("%s of app", level)
    logging.log(5, "five")
    logging.log(35, "thirty-five")
    logging.log(70, "seventy")
"""
_LINES = {
    "every level": "speak()",
    "every level, set to debug": "logging.getLogger().setLevel('DEBUG')\nspeak()",
    "every level, set to error": "logging.getLogger().setLevel(logging.ERROR)\nspeak()",
    "child level": "log.setLevel('DEBUG')\nspeak()",
    "all disabled": "logging.disable()\nspeak()",
    "arguments": "logging.error('%s %d %r %(x)s' if 0 else '%s %d %r', 'a', 1, Odd())",
    "named arguments": "logging.error('%(x)s', {'x': 1})",
    "more than one line": "logging.error('one\\ntwo\\r\\nthree\\n')",
    "not ASCII": "logging.error('grüße 世界 \\U0001f600 \\u2028')",
    "not text": "logging.error({'a': [1, Odd()]})\nlogging.error(['l'])\nlogging.error(None)\nlogging.error(Odd())",
    "keys that are not text": "logging.error({1: 2, None: 3})",
    "an empty line": "logging.error('')",
    "extra": "logging.error('m', extra={'a': 1, 'b': {'c': [Odd()]}, 'none': None, 'level': 'mine', 'requestId': 'x'})",
    "extra of the runtime's own names": (
        "logging.error('m', extra={'aws_request_id': 'x', 'tenant_id': 'y', 'timestamp': 0})"
    ),
    "another thread": "import threading\nt = threading.Thread(target=logging.error, args=('t',))\nt.start()\nt.join()",
    "asyncio": "import asyncio\nasync def f(): logging.error('in a task')\nasyncio.run(f())",
    "warnings": "import warnings\nlogging.captureWarnings(True)\nwarnings.warn('careful')",
    "renamed level": (
        "logging.addLevelName(35, 'NOTICE')\nlogging.addLevelName(30, 'WARN')\nlogging.log(35, 'n')\n"
        "logging.warning('w')"
    ),
    "a formatter of the handler's": (
        "logging.getLogger().handlers[0].setFormatter(logging.Formatter('%(levelname)s|%(message)s|%(aws_request_id)s\\n'))\nlogging.error('m')"
    ),
    "basicConfig": "logging.basicConfig(level='INFO', format='%(message)s')\nlogging.info('i')\nlogging.error('e')",
    "basicConfig by force": (
        "logging.basicConfig(level='INFO', format='%(message)s', force=True)\nlogging.info('i')\nlogging.error('e')"
    ),
    "a second handler": "logging.getLogger().addHandler(logging.StreamHandler(sys.stdout))\nlogging.error('e')",
    "no handler": "logging.getLogger().handlers.clear()\nlogging.error('e')\nlogging.info('i')",
    "dictConfig": (
        "import logging.config\nlogging.config.dictConfig({'version': 1, 'root': {'level': 'INFO'}})\n"
        "logging.info('i')\nlogging.error('e')"
    ),
    "the handler's own kind": (
        "return [[type(h).__name__, h.level, type(h.formatter).__name__] for h in "
        "logging.getLogger().handlers] + [logging.getLogger().level]"
    ),
    "the format": "f = logging.getLogger().handlers[0].formatter\nreturn [f._fmt, f.datefmt]",
    "a filter": (
        "logging.getLogger().handlers[0].addFilter(lambda r: 'no' not in r.msg)\nlogging.error('yes')\n"
        "logging.error('no')"
    ),
    "bad arguments": "logging.error('%d', 'x')\nreturn 'went on'",
    "too many arguments": "logging.error('m', 1, 2)\nreturn 'went on'",
    "a message that cannot be shown": (
        "class E:\n    def __str__(self): raise ValueError('no text')\nlogging.error(E())\nreturn 'went on'"
    ),
    "a record by hand": (
        "logging.getLogger().handle(logging.makeLogRecord({'msg': 'by hand', 'levelno': 20, 'levelname': 'X'}))"
    ),
    "a logger that does not propagate": "log.propagate = False\nlog.error('e')\nlogging.error('r')",
    "stack_info": "logging.error('m', stack_info=False)",
}
_ALSO_AS_JSON = {
    "every level",
    "arguments",
    "named arguments",
    "more than one line",
    "not ASCII",
    "not text",
    "keys that are not text",
    "extra",
    "extra of the runtime's own names",
    "asyncio",
    "renamed level",
    "a formatter of the handler's",
    "the handler's own kind",
    "bad arguments",
    "a message that cannot be shown",
    "a record by hand",
}
_JSON = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}
LOGS = (
    [
        body(f"log of {name}{as_what}", text, _LOGGING, env=env)
        for name, text in _LINES.items()
        for as_what, env in (("", {}), (", as JSON", _JSON))
        if not env or name in _ALSO_AS_JSON
    ]
    + [
        body(
            f"log at {level}, {form}",
            "speak()\nreturn logging.getLogger().level",
            _LOGGING,
            env={"AWS_LAMBDA_LOG_LEVEL": level, "AWS_LAMBDA_LOG_FORMAT": form},
        )
        for level in (
            "TRACE",
            "DEBUG",
            "WARN",
            "FATAL",
            "info",
            "Trace",
            "NOTSET",
            "10",
            "nonsense",
            "",
        )
        for form in (("Text", "JSON") if level in ("DEBUG", "info", "nonsense") else ("JSON",))
    ]
    + [
        body(
            f"log of an exception, as JSON, {text}",
            f"try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    {text}",
            _LOGGING,
            env=_JSON,
        )
        for text in (
            "logging.exception('what')",
            "logging.error('m', exc_info=error)",
            "logging.error('m', exc_info=True)",
            "log.warning({'a': 1}, exc_info=True)",
            "logging.error('m', exc_info=(None, None, None))",
        )
    ]
    + [
        body("log of no exception, as JSON", "logging.exception('none')", _LOGGING, env=_JSON),
        body("error as JSON", "print('before')\nraise ValueError('grüße\\ntwo')", env=_JSON),
        body("error as json in lower case", "raise ValueError('x')", env={"AWS_LAMBDA_LOG_FORMAT": "json"}),
        body("error in another format", "raise ValueError('x')", env={"AWS_LAMBDA_LOG_FORMAT": "xml"}),
        body("error as JSON, marshalling", "return {1}", env=_JSON),
        body("error at level critical", "raise ValueError('x')", env={**_JSON, "AWS_LAMBDA_LOG_LEVEL": "CRITICAL"}),
    ]
)

OUTPUT = [
    body(f"output {text}", text, "import sys, os", together=False)
    for text in (
        "print('one')",
        "print('no end', end='')",
        "print('one\\ntwo\\n\\nthree')",
        "print('a\\rb\\tc')",
        "print('grüße 世界 \\U0001f600')",
        "print()",
        "print({'a': 1})",
        "print('err', file=sys.stderr)",
        "print('o'); print('e', file=sys.stderr); print('o')",
        "sys.stdout.writelines(['a\\n', 'b\\n'])",
        "sys.stdout.buffer.write(b'bytes\\n'); sys.stdout.flush(); print('text')",
        "os.write(1, b'raw\\n'); print('text'); os.write(2, b'raw too\\n')",
        "os.system('echo of a child; echo err >&2')",
        "print('x' * 10_000)",
        "print('x'); raise ValueError('after')",
        "print('no end', end=''); raise ValueError('after')",
        "context.log('as it is'); context.log('\\n'); context.log(5)",
        "context.log('ü\\n')",
        "sys.stdout = sys.stderr; print('moved')",
        "import io; sys.stdout = io.StringIO(); print('lost'); return sys.stdout.getvalue()",
        "import io; sys.stdout = io.StringIO(); context.log('lost'); raise ValueError('where?')",
        (
            "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as out:\n    print('kept')\n"
            "return out.getvalue()"
        ),
        "print('a', 'b', sep='|', flush=True)",
        "print('[ERROR] not an error')",
        "print('START RequestId: not-mine Version: 1')",
        "input()",
        "return sys.stdin.read()",
        "return [sys.stdout.encoding, sys.stderr.encoding]",
        "return [sys.stdout.isatty(), sys.stdout.fileno(), sys.stderr.fileno()]",
        "return [sys.stdout.name, sys.stdout.mode, sys.stdout.closed]",
        "import traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    traceback.print_exc()",
        "import warnings; warnings.warn('careful')",
    )
]


CASES = [*LOGS, *OUTPUT]
