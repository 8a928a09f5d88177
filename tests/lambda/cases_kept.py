"""Where coldframe says something else on purpose: `ours` is what it says, and the comments have the reasons."""

from cases import Case, body

_ONE = "class Odd(Exception):\n    def __str__(self): "
_ERROR = (
    "import logging\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.exception('first')\n"
    "logging.error('second')"
)

# A response that is no JSON: what takes a payload here takes JSON.
BYTES = [body("bytes", "return b'x'", ours="Object of type bytes is not JSON serializable")]

# What is no Exception ends awslambdaric, and the caller learns that a process ended. Here it is an error by its name,
# and the environment lives on. The same goes for what it stumbles over while it reports an error.
ENDS = [
    body("KeyboardInterrupt", "raise KeyboardInterrupt('stop')", ours='"errorType": "KeyboardInterrupt"'),
    body("BaseException", "raise BaseException('base')", ours='"errorType": "BaseException"'),
    body("CancelledError", "import asyncio\nraise asyncio.CancelledError", ours='"errorType": "CancelledError"'),
    Case("at import", {"app.py": "raise BaseException('base')\n"}, ours='"errorType": "BaseException"'),
    body("__str__ that raises", f"{_ONE}1 / 0\nraise Odd", ours="str() of the exception raised ZeroDivisionError"),
    body("__str__ of no text", f"{_ONE}return 5\nraise Odd", ours="str() of the exception raised TypeError"),
    body("half a character in a result", "return 'a\\ud800'", ours='"errorType": "Runtime.MarshalError"'),
    body("half a character in an error", "raise ValueError('a\\ud800')", ours='"errorType": "ValueError"'),
    body("error without a stdout", "import sys\nsys.stdout.close()\nraise ValueError('heard')", ours="heard"),
]

# What is not ASCII in the error of an initialisation, awslambdaric sends in Latin-1, or fails to from Python 3.12 on.
INITIALISATION = [
    Case("error of two alphabets", {"app.py": "raise ValueError('grüße')\n"}, ours='"errorMessage": "grüße"'),
    Case("error of many alphabets", {"app.py": "raise ValueError('世界')\n"}, ours='"errorMessage": "世界"'),
    Case("module that is not UTF-8", {"app.py": b"x = '\xfc'\n"}, ours='"errorType": "Runtime.UserCodeSyntaxError"'),
]

# Nothing that is printed or logged fails for its characters: the log has them escaped.
CHARACTERS = [
    body("half a character that is printed", "print('a\\ud800')", ours="a\\ud800\n"),
    body("half a character that is logged", "import logging\nlogging.error('a\\ud800')", ours="\ta\\ud800\n"),
]

# Lambda frames what is logged, so that it knows where each record ends; without frames awslambdaric runs them together.
# Here they are lines. The two streams are lines, too, each by itself.
LINES = [
    body("traceback in a record", _ERROR, ours="division by zero\n[ERROR]\t"),
    body(
        "formatter with no end of line",
        "import logging\nroot = logging.getLogger()\nroot.handlers[0].setFormatter(logging.Formatter('%(message)s;'))\n"
        "root.error('a')\nroot.error('b')",
        ours="a;\nb;\n",
    ),
    body("streams in one line", "import sys\nsys.stdout.write('one')\nprint('two', file=sys.stderr)", ours="two\none"),
]

# The error has a name of Lambda's own, where awslambdaric is surprised by an AttributeError inside of itself.
CLIENT = [
    Case(
        "client context of no object",
        {"app.py": "def handler(event, context): return 1\n"},
        client_context={"client": "text"},
        ours="Runtime.LambdaContextUnmarshalError",
    )
]

# An interpreter's own farewell can take for ever, and nobody is left who would hear it.
FAREWELL = [
    body("atexit", "import atexit, sys\natexit.register(print, 'bye')\nsys.exit('leaving')", ours="leaving\n<end>")
]

CASES = [*BYTES, *ENDS, *INITIALISATION, *CHARACTERS, *LINES, *CLIENT, *FAREWELL]
