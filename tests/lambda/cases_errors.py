"""Handlers that raise, exit, or cannot be imported."""

from cases import Case, body

_RAISING = """
class Unhappy(Exception):
    pass
class Outer:
    class Inner(ValueError):
        pass
class Silent(Exception):
    def __str__(self): return ""
class Coded(Exception):
    def __init__(self, code, text):
        super().__init__(code, text)
        self.code = code
def deeper(error):
    raise error
def generator():
    yield 1
    raise Unhappy("in a generator")
"""

ERRORS = [
    body(f"error {text}", text, _RAISING)
    for text in (
        "raise Exception('Handler fails')",
        "raise Exception",
        "raise Unhappy",
        "raise Unhappy('one', 2)",
        "raise Unhappy('grüße 世界 \\U0001f600')",
        "raise Unhappy('two\\nlines\\n')",
        "raise Unhappy('\\ttab \\r carriage \\0 null \\x1b[31m red')",
        "raise Unhappy('x' * 100_000)",
        "raise Unhappy(b'bytes')",
        "raise Outer.Inner('nested')",
        "raise Silent('never shown')",
        "raise Coded(7, 'seven')",
        "raise KeyError('missing')",
        "{}['missing']",
        "[][5]",
        "1 / 0",
        "int('x')",
        "None.attribute",
        "undefined_name",
        "context.nothing",
        "event['key']",
        "open('/nowhere')",
        "b'\\xff'.decode()",
        "'\\ud800'.encode()",
        "assert 1 == 2",
        "assert 1 == 2, {'a': 1}",
        "raise StopIteration(3)",
        "raise MemoryError",
        "raise NotImplementedError('later')",
        "raise UserWarning('a warning')",
        "raise TimeoutError('mine')",
        "raise OSError(28, 'No space', 'file')",
        "raise UnicodeDecodeError('utf-8', b'x', 0, 1, 'why')",
        "deeper(Unhappy('from below'))",
        "(lambda: deeper(Unhappy('from a lambda')))()",
        "return [deeper(Unhappy('in a comprehension')) for _ in '1']",
        "list(generator())",
        "import json; json.loads('{')",
        "exec('raise Unhappy(\"without a source\")')",
        "eval('1 +')",
        "import nothing_of_this_name",
        "from json import nothing_of_this_name",
        "raise 'a string'",
        "raise Unhappy('with a note') from ValueError('the cause')",
        "raise Unhappy('no context') from None",
    )
] + [
    body(
        "error while another is handled",
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise Unhappy('second')",
        _RAISING,
    ),
    body("error raised anew", "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise", _RAISING),
    body(
        "error with a traceback of old",
        "e = Unhappy('kept')\ntry:\n    raise e\nexcept Unhappy:\n    pass\nraise e",
        _RAISING,
    ),
    body("error without a traceback's file", "code = compile('1/0', '/no/such/file.py', 'exec')\nexec(code)"),
    body(
        "error of a thread",
        "import threading\nt = threading.Thread(target=deeper, args=(Unhappy('t'),), name='T')\n"
        "t.start()\nt.join()\nreturn 'fine'",
        _RAISING,
    ),
    body(
        "error of a future",
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor() as pool:\n"
        "    pool.submit(deeper, Unhappy('f')).result()",
        _RAISING,
    ),
    body("error of asyncio.run", "import asyncio\nasync def f(): deeper(Unhappy('async'))\nasyncio.run(f())", _RAISING),
    body("error with an odd name", "raise type('Grüße', (Exception,), {})('x')"),
    Case(
        "error in another file",
        {
            "app.py": "import other\ndef handler(event, context):\n    other.fail()\n",
            "other.py": "def fail():\n    (1).y\n",
        },
    ),
    Case(
        "error in a package",
        {
            "app.py": "from pkg import sub\nhandler = sub.handler\n",
            "pkg/__init__.py": "",
            "pkg/sub.py": "def handler(e, c):\n    raise ValueError(e)\n",
        },
    ),
    Case("handler of one argument", {"app.py": "def handler(event):\n    return 1\n"}),
    Case("handler that is not callable", {"app.py": "handler = 5\n"}),
    Case("handler that is None", {"app.py": "handler = None\n"}),
    Case("handler that is a class", {"app.py": "class handler:\n    def __init__(self, event, context): pass\n"}),
    Case(
        "handler that is an instance",
        {"app.py": "class H:\n    def __call__(self, e, c): return e\nhandler = H()\n"},
        event=[1],
    ),
    Case("handler that is a method", {"app.py": "class H:\n    def m(self, e, c): return 1/0\nhandler = H().m\n"}),
    Case(
        "handler that is a partial", {"app.py": "import functools\nhandler = functools.partial(lambda x, e, c: x, 1)\n"}
    ),
    Case("handler that is a generator function", {"app.py": "def handler(e, c):\n    yield 1\n"}),
    Case("handler of another module", {"app.py": "from os.path import join as handler\n"}, event="a"),
]

EXITS = [
    body(f"exit {text}", text, together=False)
    for text in (
        "import sys; sys.exit()",
        "import sys; sys.exit(0)",
        "import sys; sys.exit(3)",
        "import sys; sys.exit(-1)",
        "import sys; sys.exit(256)",
        "import sys; sys.exit('with a message')",
        "import sys; sys.exit(['x'])",
        "raise SystemExit(2)",
        "raise SystemExit",
        "import os; os._exit(0)",
        "import os; os._exit(9)",
        "import os; os.abort()",
        "import os; os.kill(os.getpid(), 9)",
        "import os; os.kill(os.getpid(), 15)",
    )
]

IMPORTS = [
    Case("import of a missing module", {"other.py": ""}),
    Case("import of what the module imports", {"app.py": "import nothing_of_this_name\n"}),
    Case("import of what a module of the code imports", {"app.py": "import other\n", "other.py": "from . import x\n"}),
    Case("import of a missing name", {"app.py": "from json import nothing_of_this_name\n"}),
    Case("handler missing", {"app.py": "x = 1\n"}),
    Case("handler of two dots", {"app.py": ""}, handler="..app.handler"),
    Case("handler of a builtin module", {"time.py": "def handler(e, c): return 1\n"}, handler="time.handler"),
    Case("handler of sys", {"app.py": ""}, handler="sys.exit"),
    Case("handler of the standard library", {"app.py": ""}, handler="json.dumps", event={"a": 1}),
    Case("handler that is a dunder", {"app.py": ""}, handler="app.__name__"),
    Case(
        "handler in a package, slash",
        {"pkg/__init__.py": "", "pkg/mod.py": "def handler(e, c): return __name__\n"},
        handler="pkg/mod.handler",
    ),
    Case(
        "handler in a package, dot",
        {"pkg/__init__.py": "", "pkg/mod.py": "def handler(e, c): return __name__\n"},
        handler="pkg.mod.handler",
    ),
    Case(
        "handler in a namespace package",
        {"a/b/mod.py": "def handler(e, c): return __name__\n"},
        handler="a/b/mod.handler",
    ),
    Case(
        "handler in a package's __init__",
        {"pkg/__init__.py": "def handler(e, c): return __name__\n"},
        handler="pkg.handler",
    ),
    Case("handler in a package that is missing", {"app.py": ""}, handler="pkg/mod.handler"),
    Case("handler in a missing module of a package", {"pkg/__init__.py": ""}, handler="pkg/mod.handler"),
    Case("handler in a module that is no package", {"app.py": ""}, handler="app.mod.handler"),
    Case(
        "handler in a package that fails", {"pkg/__init__.py": "1 / 0\n", "pkg/mod.py": ""}, handler="pkg.mod.handler"
    ),
    Case(
        "handler in a file with a dash", {"my-app.py": "def handler(e, c): return __name__\n"}, handler="my-app.handler"
    ),
    Case(
        "handler through a module's __getattr__", {"app.py": "def __getattr__(name):\n    return lambda e, c: name\n"}
    ),
    Case("handler through a __getattr__ that fails", {"app.py": "def __getattr__(name):\n    raise KeyError(name)\n"}),
    Case("handler by an underscore", {"app.py": "def _h(e, c): return 1\n"}, handler="app._h"),
    Case("module that raises", {"app.py": "def f():\n    raise ValueError('at import')\nf()\n"}),
    Case("module that raises without a word", {"app.py": "raise ValueError\n"}),
    Case("module that raises in two lines", {"app.py": "raise ValueError('a\\nb')\n"}),
    Case("module that imports what raises", {"app.py": "import other\n", "other.py": "1 / 0\n"}),
    Case("module that imports what has a syntax error", {"app.py": "import other\n", "other.py": "x = (\n"}),
    Case("module that raises ImportError", {"app.py": "raise ImportError('mine')\n"}),
    Case("module that raises ModuleNotFoundError", {"app.py": "raise ModuleNotFoundError\n"}),
    Case("module that raises SyntaxError", {"app.py": "raise SyntaxError('mine')\n"}),
    Case("module that raises AttributeError", {"app.py": "import json\njson.nothing\n"}),
    Case("module that is unfinished", {"app.py": "def handler(event, context:\n    return 1\n"}),
    Case("module with bad indentation", {"app.py": "def handler(event, context):\nreturn 1\n"}),
    Case("module with tabs and spaces", {"app.py": "if 1:\n        x = 1\n\ty = 2\n"}),
    Case("module with a bad string", {"app.py": "x = 'abc\n"}),
    Case("module in another encoding", {"app.py": b"# -*- coding: latin-1 -*-\ndef handler(e, c): return '\xfc'\n"}),
    Case("module of an unknown encoding", {"app.py": b"# coding: nothing\n"}),
    Case("module with a NUL", {"app.py": b"x = 1\0\n"}),
    Case("module with a byte order mark", {"app.py": b"\xef\xbb\xbfdef handler(e, c): return 1\n"}),
    Case("module with carriage returns", {"app.py": b"def handler(e, c):\r\n    return '''a\r\nb'''\r\n"}),
    Case("module that exits", {"app.py": "import sys\nsys.exit()\n"}),
    Case("module that exits with a status", {"app.py": "import sys\nprint('out')\nsys.exit(5)\n"}),
    Case("module that exits with a message", {"app.py": "import sys\nsys.exit('why')\n"}),
    Case("module that leaves at once", {"app.py": "import os\nprint('out')\nos._exit(7)\n"}),
    Case(
        "module that logs",
        {"app.py": "import logging\nprint('p')\nlogging.warning('w')\ndef handler(e, c): logging.error('e')\n"},
    ),
    Case("module that logs and raises", {"app.py": "import logging\nprint('p')\nlogging.error('w')\n1 / 0\n"}),
    Case(
        "module that logs and raises, as JSON",
        {"app.py": "import logging\nprint('p')\nlogging.error('w')\n1 / 0\n"},
        env={"AWS_LAMBDA_LOG_FORMAT": "JSON"},
    ),
]


CASES = [*ERRORS, *EXITS, *IMPORTS]
