"""Events from JSON and results to JSON, byte for byte as Lambda's Python runtime makes them.

That runtime uses simplejson, which does more than the standard library: a named tuple becomes an object, bytes become
text, and a Decimal a number with all its digits. The standard library's encoder in C writes everything else; what it
would write differently is left to a slower encoder here.
"""

from __future__ import annotations

import json
import sys
from json import encoder
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import MARSHAL, UNMARSHAL, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_RESPONSE_BYTES = 6_291_556
TOO_LARGE = (
    b'{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes).",'
    b'"errorType":"Function.ResponseSizeTooLarge"}'
)

_ORDINARY = frozenset((str, int, float, bool, type(None), dict, list, tuple))
_QUOTE = encoder.encode_basestring
_decoder = json.JSONDecoder()
_decode = _decoder.decode
# The scanner in C itself: `decode` looks for white space around the document with two regular expressions.
_scan = _decoder.scan_once  # type: ignore[attr-defined]  # missing in typeshed


def unmarshal(body: memoryview | bytes) -> Any:  # noqa: ANN401 - an event is any JSON value
    """Return the event in `body`; an empty body is None."""
    if not body:
        return None
    try:
        text = str(body, "utf-8")
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            end = -1
        return value if end == len(text) else _decode(text)
    except Exception as error:  # noqa: BLE001 - too deep, too many digits, not UTF-8, no memory
        message = f"Unable to unmarshal input: {error}"
        raise Fault(UNMARSHAL, message) from None


def marshal(result: Any) -> bytes:  # noqa: ANN401 - a handler returns what it likes
    """Return `result` as JSON in UTF-8."""
    try:
        if isinstance(result, bytes):
            # Lambda would pass them on as a response that is not JSON, which coldframe does not have.
            _refuse(result)
        try:
            text = _fast(result)
        except (TypeError, ValueError):
            text = _exact(result)
        else:
            # A named tuple was written as an array. Most results have none, and many have no array at all.
            if "[" in text and _has_named_tuple(result):
                text = _exact(result)
        return text.encode()
    except Exception as error:  # noqa: BLE001 - the user's own types run code here
        message = f"Unable to marshal response: {error}"
        raise Fault(MARSHAL, message) from None


def encode_chunk(piece: Any) -> bytes:  # noqa: ANN401 - a generator yields what it likes
    """Return the bytes of a piece of a streamed response: of a text in UTF-8."""
    try:
        if isinstance(piece, str):
            return piece.encode()
        if isinstance(piece, (bytes, bytearray, memoryview)):
            return bytes(piece)
        message = f"a streamed response is made of str and bytes, not of {type(piece).__name__}"
        raise TypeError(message)
    except Exception as error:  # noqa: BLE001 - the user's own types run code here
        message = f"Unable to marshal response: {error}"
        raise Fault(MARSHAL, message) from None


def dumps(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return a value of the runtime's own as JSON in UTF-8, with `?` for what UTF-8 cannot hold."""
    return _fast(value).encode(errors="replace")


def _refuse(value: object) -> NoReturn:
    """Say of `value` what the standard library says."""
    message = f"Object of type {type(value).__name__} is not JSON serializable"
    raise TypeError(message)


def _fast_encoder() -> Callable[[Any], str]:
    """Return the standard library's encoder.

    `JSONEncoder.encode` builds an encoder in C for each call, half of the time that a small result takes: build one.
    A `default` of our own keeps out a `json.JSONEncoder.default` that the handler replaced, which Lambda ignores too.
    """
    plain = json.JSONEncoder(ensure_ascii=False, default=_refuse)
    try:
        sort_keys, skip_keys, allow_nan = False, False, True
        make: Any = encoder.c_make_encoder  # type: ignore[attr-defined]  # missing in typeshed, None on some builds
        chunks = make(None, _refuse, _QUOTE, None, ": ", ", ", sort_keys, skip_keys, allow_nan)
        chunks([1], 0)
    except (AttributeError, TypeError):
        return plain.encode

    def encode(value: Any) -> str:  # noqa: ANN401
        try:
            return "".join(chunks(value, 0))
        except RecursionError:
            return plain.encode(value)  # which keeps account of what it is inside of, and says when that is itself

    return encode


_fast = _fast_encoder()


def _has_named_tuple(value: Any) -> bool:  # noqa: ANN401
    """Tell whether `value`, which is known to be free of cycles, has a named tuple in it. Goes level by level."""
    level = [value]
    while level:
        if any(hasattr(kind, "_asdict") for kind in set(map(type, level)) - _ORDINARY):
            return True
        containers = [item for item in level if isinstance(item, (dict, list, tuple))]
        level = [below for item in containers for below in (item.values() if isinstance(item, dict) else item)]
    return False


def _exact(value: Any) -> str:  # noqa: ANN401
    """Return the JSON of `value` with simplejson's rules."""
    chunks: list[str] = []
    decimal = getattr(sys.modules.get("decimal"), "Decimal", ())
    _write(value, chunks.append, decimal, set())
    return "".join(chunks)


def _write(value: Any, out: Callable[[str], None], decimal: Any, open_ids: set[int]) -> None:  # noqa: ANN401
    """Pass the JSON of `value` to `out` in pieces; `open_ids` are the containers around it."""
    if isinstance(value, str):
        out(_QUOTE(value))
    elif isinstance(value, bytes):
        out(_QUOTE(value.decode()))
    elif isinstance(value, decimal):
        out("NaN" if value.is_nan() else str(value))
    elif not isinstance(fields := _fields(value), (dict, list, tuple)):
        out(_fast(value))
    elif id(value) in open_ids:
        message = "Circular reference detected"
        raise ValueError(message)
    else:
        open_ids.add(id(value))
        separator = ""
        if isinstance(fields, dict):
            out("{")
            for key, item in fields.items():
                out(f"{separator}{_key(key)}: ")
                _write(item, out, decimal, open_ids)
                separator = ", "
            out("}")
        else:
            out("[")
            for item in fields:
                out(separator)
                _write(item, out, decimal, open_ids)
                separator = ", "
            out("]")
        open_ids.remove(id(value))


def _fields(value: Any) -> Any:  # noqa: ANN401
    """Return what a named tuple, or something like it, makes of itself; anything else as it is."""
    as_dict = getattr(value, "_asdict", None)
    if callable(as_dict):
        try:
            fields = as_dict()
        except TypeError:
            return value
        if not isinstance(fields, dict):
            message = f"_asdict() must return a dict, not {type(fields).__name__}"
            raise TypeError(message)
        return fields
    return value


def _key(key: Any) -> str:  # noqa: ANN401
    """Return the JSON of a key of an object."""
    if isinstance(key, str):
        return _QUOTE(key)
    if isinstance(key, bytes):
        return _QUOTE(key.decode())
    if key is None or isinstance(key, (int, float)):
        return _QUOTE(_fast(key))
    message = f"keys must be str, int, float, bool or None, not {type(key).__name__}"
    raise TypeError(message)
