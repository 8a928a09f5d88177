"""Events, results and contexts of every kind."""

import json

from cases import Case, body, expression

_TYPES = """
import collections, dataclasses, datetime, decimal, enum, fractions, math, typing, uuid
from decimal import Decimal
Pair = collections.namedtuple("Pair", "left right")
class Text(str):
    def __str__(self): return "not this"
class Number(int):
    def __repr__(self): return "not this"
    __str__ = __repr__
class Real(float):
    def __repr__(self): return "not this"
class Listing(list): pass
class Mapping(dict): pass
class Colour(enum.IntEnum):
    RED = 1
class Name(str, enum.Enum):
    ADA = "ada"
class Plain(enum.Enum):
    X = 1
class Like:
    def _asdict(self): return {"like": [1, Pair(1, 2)]}
class Liar:
    def _asdict(self): return [1]
class Needy:
    def _asdict(self, more): return {}
class Json:
    def for_json(self): return "for_json"
class Listed:
    def __iter__(self): return iter([1])
    def __getitem__(self, i): return [1][i]
    def __len__(self): return 1
class Typed(typing.NamedTuple):
    a: int = 1
@dataclasses.dataclass
class Data:
    a: int = 1
"""

RESULTS = [
    expression(f"result {text}", text, _TYPES)
    for text in (
        "None",
        "True",
        "0",
        "-0.0",
        "1e400",
        "-1e400",
        "1e16",
        "1e-7",
        "1.0",
        "0.1 + 0.2",
        "math.nan",
        "[math.nan, {'a': -math.inf}]",
        "10 ** 400",
        "10 ** 5000",
        "''",
        "'plain'",
        "'quotes \" \\\\ / and \\b\\f\\n\\r\\t\\0\\x1f\\x7f'",
        "'grüße, 世界 \\U0001f600 \\u2028\\u2029 <&>'",
        "{'grüße': 'ü'}",
        "[]",
        "{}",
        "()",
        "(1, [2, {'a': (3,)}])",
        "Pair(1, Pair([2], {'p': Pair(3, 4)}))",
        "[Typed()]",
        "{'t': Typed(5)}",
        "Like()",
        "[Like(), {'like': Like()}]",
        "Liar()",
        "[Needy()]",
        "Json()",
        "Listed()",
        "Data()",
        "Text('text')",
        "[Text('text')]",
        "{Text('key'): Text('value')}",
        "Number(7)",
        "{Number(7): Number(8)}",
        "Real(1.5)",
        "[Real('nan')]",
        "Listing([1, Listing()])",
        "Mapping(a=Mapping())",
        "collections.OrderedDict(b=1, a=2)",
        "collections.defaultdict(list, a=[1])",
        "collections.Counter('aab')",
        "collections.deque([1])",
        "collections.ChainMap({'a': 1})",
        "Colour.RED",
        "{Colour.RED: Colour.RED}",
        "Name.ADA",
        "[Name.ADA]",
        "Plain.X",
        "Decimal('1.10')",
        "[Decimal('-0.00'), Decimal('1E+2'), Decimal('1e-9'), {'a': Decimal(10) ** 40}]",
        "[Decimal('NaN'), Decimal('-NaN'), Decimal('sNaN'), Decimal('Infinity'), Decimal('-Infinity')]",
        "{Decimal('1.5'): 1}",
        "fractions.Fraction(1, 3)",
        "1j",
        "{1, 2}",
        "[frozenset()]",
        "range(3)",
        "[b'inner', {'k': b'gr\\xc3\\xbc'}]",
        "{b'key': 1}",
        "[b'\\xff']",
        "{b'\\xff': 1}",
        "[bytearray(b'x')]",
        "[memoryview(b'x')]",
        "datetime.datetime(2026, 11, 21)",
        "[datetime.timedelta(1)]",
        "uuid.UUID(int=0)",
        "object",
        "len",
        "handler",
        "Ellipsis",
        "{1: 'a', 1.5: 'b', None: 'c', True: 'd', False: 'e'}",
        "{1: 'a', '1': 'b'}",
        "{math.nan: 1, math.inf: 2, -0.0: 3}",
        "{(1, 2): 3}",
        "{'deep': {frozenset(): 1}}",
        "[{'a': [object]}]",
        "map(str, [1])",
        "{'a': 1}.items()",
        "[{'a': 1}.keys()]",
        "type('Unnamed', (), {})",
        "event",
    )
] + [
    body("result that holds itself, list", "a = []\na.append(a)\nreturn a"),
    body("result that holds itself, dict", "a = {}\na['a'] = [a]\nreturn a"),
    body("result that holds itself, named tuple", "p = Pair([], 1)\np.left.append(p)\nreturn p", _TYPES),
    body("result that holds itself, after a Decimal", "a = [Decimal(1)]\na.append(a)\nreturn a", _TYPES),
    body("result that holds the same list twice", "a = [1]\nreturn [a, a, {'a': a}]"),
    body(
        "result of a coroutine function",
        "async def f(): return 1\nc = f()\ntry:\n    return c\nfinally:\n    c.close()",
    ),
    body(
        "result changed while it is read", "class D(dict):\n    def items(self): raise OSError('mine')\nreturn D(a=1)"
    ),
    body("result whose default was patched", "import json\njson.JSONEncoder.default = lambda s, o: 'p'\nreturn [{1}]"),
    body("result that is large", "return 'ü' * 200_000"),
]

EVENTS = [
    expression(f"event {event!r:.40}", "[repr(event), type(event).__name__, event]", event=event)
    for event in (
        None,
        True,
        0,
        -1.5,
        2**70,
        1e300,
        "",
        "grüße 世界 \U0001f600 \u2028 \x7f",
        [],
        {},
        {"a": [1, 2.0, None, {"b": "c"}], "": "", "ü": 1},
        [[[[[]]]]],
        "x" * 100_000,
    )
] + [
    expression(f"event text {text}", "[repr(event), event]", event=text.encode())
    for text in (
        '{"a": 1, "a": 2}',
        " \t\r\n[1 ,2] ",
        "1E5",
        "-0",
        "-0.0",
        "1.0000000000000000000001",
        "123456789012345678901234567890",
        '"\\u00fc\\ud83d\\ude00\\/"',
    )
]

_MEMBERS = """[getattr(context, name, "missing") for name in (
    "aws_request_id", "log_group_name", "function_name", "memory_limit_in_mb", "function_version",
    "invoked_function_arn", "tenant_id", "client_context")]"""
_CLIENT = """
def show(record):
    return record and {name: getattr(record, name) for name in record.__slots__}
def handler(event, context):
    given = show(context.client_context)
    return [given and {**given, "client": show(given["client"])}, context.w3c(), repr(context.client_context)]
"""

CONTEXT = [
    expression("context members", _MEMBERS),
    expression(
        "context types", "[type(getattr(context, name)).__name__ for name in sorted(vars(context)) if name[0] != '_']"
    ),
    expression("context member names", "sorted(name for name in dir(context) if name[0] != '_')"),
    expression("context vars", "sorted(name for name in vars(context) if name[0] != '_')"),
    expression(
        "context identity",
        "[context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id, repr(context.identity)]",
    ),
    expression(
        "context identity's names",
        "[context.identity.__slots__ == ['x'], sorted(n for n in dir(context.identity) if n[0] != '_')]",
    ),
    expression("context as text", "repr(context).replace(context.log_stream_name, 'stream')"),
    expression("context class", "[type(context).__name__, str(context)[:30]]"),
    expression(
        "context remaining time",
        (
            "[type(context.get_remaining_time_in_millis()).__name__, 2000 < "
            "context.get_remaining_time_in_millis() <= 3000]"
        ),
    ),
    expression(
        "context remaining time, later",
        (
            "[(a := context.get_remaining_time_in_millis()), __import__('time').sleep(0.02), 19 <= a - "
            "context.get_remaining_time_in_millis() <= 500][2]"
        ),
    ),
    expression("context w3c", "context.w3c()"),
    body("context w3c is a copy", "context.w3c()['a'] = 1\nreturn context.w3c()"),
    body(
        "context can be written to",
        "context.mine = 1\ncontext.function_name = 'x'\nreturn [context.mine, context.function_name]",
    ),
    body(
        "context with its variables changed",
        "import os\nos.environ['AWS_LAMBDA_FUNCTION_NAME'] = 'x'\nreturn context.function_name",
    ),
    *(
        Case(f"client context {json.dumps(given):.60}", {"app.py": _CLIENT}, client_context=given)
        for given in (
            {},
            {"custom": {"a": [1, "ü"]}, "env": {"locale": "de"}},
            {
                "client": {
                    "installation_id": "i",
                    "app_title": "t",
                    "app_version_name": "n",
                    "app_version_code": "3",
                    "app_package_name": "p",
                }
            },
            {"client": {}, "custom": None, "env": "text"},
            {"client": {"unknown": 1}, "more": 2},
            {"w3c": {"traceparent": "00-1-2-01", "tracestate": "x=y", "baggage": "b", "other": "dropped"}},
            {"w3c": {"traceparent": 5, "tracestate": None}, "custom": 1},
            {"w3c": "text"},
            {"w3c": None},
            {"custom": "x" * 3000},
        )
    ),
]

SURROUNDINGS = [
    body(
        f"surroundings {text}",
        f"import os, sys, time, locale, logging\nreturn {text}",
        env={"MINE": "grüße"},
    )
    for text in (
        "os.environ['MINE']",
        "os.environ.get('_X_AMZN_TRACE_ID', 'none')",
        (
            "[os.environ[name] for name in ('_HANDLER', 'LAMBDA_TASK_ROOT', 'LAMBDA_RUNTIME_DIR', 'TZ', "
            "'LANG', 'AWS_REGION')]"
        ),
        "os.environ.get('_LAMBDA_TELEMETRY_LOG_FD', 'none')",
        "[name for name in ('HOME', 'USER', 'HOSTNAME', 'SHELL') if name in os.environ]",
        "os.getcwd()",
        "[time.tzname, time.localtime(0).tm_hour]",
        "__name__",
        "__file__",
        "[__spec__.name, __spec__.origin, __package__, type(__loader__).__name__]",
        "sys.modules['app'] is sys.modules[__name__]",
        "sys.modules['__main__'].__name__",
        "[sys.getrecursionlimit(), sys.getswitchinterval()]",
        (
            "[sys.getdefaultencoding(), sys.getfilesystemencoding(), sys.flags.utf8_mode, "
            "locale.getpreferredencoding(False)]"
        ),
        "os.environ['LAMBDA_TASK_ROOT'] in sys.path",
        "logging.Formatter.converter is time.gmtime",
        "[__import__('signal').getsignal(n) is not None for n in (2, 13, 15)]",
        (
            "[int(__import__('signal').getsignal(n)) if not callable(__import__('signal').getsignal(n)) else "
            "'callable' for n in (13, 15)]"
        ),
        "__import__('threading').current_thread() is __import__('threading').main_thread()",
        "__import__('threading').active_count()",
        "__import__('gc').isenabled()",
        "[sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__]",
        "sys.warnoptions",
        "'exit' in dir(__builtins__) or 'exit' in __builtins__",
    )
]


CASES = [*RESULTS, *EVENTS, *CONTEXT, *SURROUNDINGS]
