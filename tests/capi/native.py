"""libcoldframe.so through cffi, from the header alone: a witness that shares nothing with the package's own glue."""

import json
import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cffi
import pytest

TOP = Path(__file__).resolve().parents[2]
HEADER = TOP / "rust/capi/include/coldframe.h"
LIBRARY = TOP / "target/capi/lib/libcoldframe.so"

if not LIBRARY.exists():
    reason = f"there is no {LIBRARY}; make it with `make capi`"
    if os.environ.get("COLDFRAME_REQUIRE"):
        pytest.fail(f"{reason} (COLDFRAME_REQUIRE demands it)", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def declarations():
    """Return what the header declares, as cffi reads it: without the preprocessor's lines."""
    text = HEADER.read_text().replace("COLDFRAME_CHECKED ", "")
    text = re.sub(r"#ifdef __cplusplus\n.*?#endif\n", "", text, flags=re.DOTALL)
    return re.sub(r"^#.*$", "", text, flags=re.MULTILINE)


def constant(name):
    """Return the text of a `#define` of the header."""
    return re.search(rf"^#define {name} (.*)$", HEADER.read_text(), re.MULTILINE)[1]


ffi = cffi.FFI()
ffi.cdef(declarations())
lib = ffi.dlopen(str(LIBRARY))
ABI = int(constant("COLDFRAME_ABI"))

VERDICTS = {value: name.removeprefix("COLDFRAME_") for value, name in ffi.typeof("coldframe_verdict").elements.items()}
CODES = {
    value: name.removeprefix("COLDFRAME_ERROR_") for value, name in ffi.typeof("coldframe_error_code").elements.items()
}
STARTS = {
    value: name.removeprefix("COLDFRAME_").lower() for value, name in ffi.typeof("coldframe_start").elements.items()
}


class Result(NamedTuple):
    """A copy of an invocation."""

    verdict: str
    request_id: str
    payload: bytes | None
    error: bytes | None
    error_type: str | None
    error_message: str | None
    stack_trace: list[str]
    log: str
    start: str
    report: dict[str, Any]


class NativeError(Exception):
    """What a function of the library returned."""

    def __init__(self, error):
        self.code, message = CODES[error.code], ffi.string(error.message).decode()
        super().__init__(message)
        lib.coldframe_error_free(error)


def check(error):
    """Raise an error that the library returned."""
    if error != ffi.NULL:
        raise NativeError(error)


def text(value):
    """Return an argument as C has it: text as UTF-8, options as JSON, None as NULL."""
    if value is None:
        return ffi.NULL
    return value if isinstance(value, bytes) else (value if isinstance(value, str) else json.dumps(value)).encode()


def new_host(options=None, abi=ABI):
    """Return a host, which somebody has to free."""
    place = ffi.new("coldframe_host **")
    check(lib.coldframe_host_new(abi, text(options), place))
    return place[0]


def new_function(host, handler, code, options=None):
    """Return a function, which somebody has to free."""
    place = ffi.new("coldframe_function **")
    check(lib.coldframe_function_new(host, text(handler), text(str(code)), text(options), place))
    return place[0]


@contextmanager
def opened_host(**options):
    """Return a host for a block."""
    host = new_host(options or None)
    try:
        yield host
    finally:
        lib.coldframe_host_free(host)


@contextmanager
def opened_call(timeout_s=None, client_context=None, wait=None):
    """Return a call for a block."""
    call = lib.coldframe_call_new()
    try:
        if timeout_s is not None:
            check(lib.coldframe_call_set_timeout_s(call, timeout_s))
        if client_context is not None:
            check(lib.coldframe_call_set_client_context(call, client_context, len(client_context)))
        if wait is not None:
            check(lib.coldframe_call_set_wait(call, wait))
        yield call
    finally:
        lib.coldframe_call_free(call)


def invoke(function, event, call=ffi.NULL):
    """Return what came of an event, which is bytes, or anything that becomes JSON."""
    event = event if isinstance(event, bytes) else json.dumps(event).encode()
    place = ffi.new("coldframe_invocation **")
    check(lib.coldframe_invoke(function, event, len(event), call, place))
    try:
        return read(place[0])
    finally:
        lib.coldframe_invocation_free(place[0])


def read(found):
    """Return a copy of an invocation."""

    def sized(data, size):
        if data == ffi.NULL:
            return None
        assert data[size] == b"\0", "what has a size has a NUL behind it"
        return bytes(ffi.buffer(data, size))

    def ended(data):
        return None if data == ffi.NULL else ffi.string(data).decode()

    report = {name: getattr(found.report, name) for name, _ in ffi.typeof("coldframe_report").fields}
    report["environment_id"] = ended(report["environment_id"])
    return Result(
        VERDICTS[found.verdict],
        ended(found.request_id),
        sized(found.payload, found.payload_size),
        sized(found.error, found.error_size),
        ended(found.error_type),
        ended(found.error_message),
        [ended(found.stack_trace[index]) for index in range(found.stack_trace_size)],
        sized(found.log, found.log_size).decode(),
        STARTS[report.pop("start")],
        report,
    )


def owned_text(fill):
    """Return what a function of the library has made a text of, read as JSON."""
    place = ffi.new("char **")
    check(fill(place))
    try:
        return json.loads(ffi.string(place[0]))
    finally:
        lib.coldframe_text_free(place[0])
