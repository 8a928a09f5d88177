"""Events on their way in: from Python values to the JSON bytes that the core passes on unread."""

from __future__ import annotations

import json
from collections.abc import Mapping
from json import encoder
from typing import TYPE_CHECKING, Any, NoReturn, cast

from coldframe._options import shown
from coldframe.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_EVENT_BYTES = 6_291_556
"""Lambda's limit for a synchronous event: 6 MiB and 100 bytes."""

# NaN is allowed, as in Lambda.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode_event(event: Any) -> bytes:  # noqa: ANN401 - any JSON
    """Return `event` as JSON, or raise `PayloadError` when it is none or too large."""
    try:
        body = "".join(_chunks(event, 0)).encode()
    except Exception:  # noqa: BLE001 - the caller's own types run code here
        return _to_json(event, "the event")  # which says why
    return body if len(body) <= MAX_EVENT_BYTES else _to_json(event, "the event")


def encode_client_context(client_context: Mapping[str, Any] | None) -> bytes | None:
    """Return `client_context` as a JSON object, or None without one."""
    if client_context is None:
        return None
    if not isinstance(client_context, Mapping):
        raise PayloadError(
            f"the client context must be a mapping, as Lambda's is a JSON object, not {type(client_context).__name__}",
            error_type="InvalidRequestContentException",
        )
    return _to_json(client_context, "the client context", dict)


def _fast_encoder() -> Callable[[Any, int], Iterable[str]]:
    """Return the encoder in C itself, which takes a value and its depth.

    `JSONEncoder.encode` makes one for every call, half of a small event's time.
    It keeps no account of what it is inside of, so that threads can share it: an event that holds itself is nested too
    deeply for it. What it refuses, for whatever reason, is left to `_encode` to explain.
    """
    sort_keys, skip_keys, allow_nan = False, False, True
    make: Any = encoder.c_make_encoder  # type: ignore[attr-defined]  # missing in typeshed, None on some builds
    try:
        chunks = make(None, _refuse, encoder.encode_basestring, None, ":", ",", sort_keys, skip_keys, allow_nan)
        chunks([1], 0)
    except TypeError:
        return lambda value, _depth: (_encode(value),)
    return cast("Callable[[Any, int], Iterable[str]]", chunks)


def _refuse(value: object) -> NoReturn:
    """Refuse what is no JSON."""
    raise TypeError(type(value))


_chunks = _fast_encoder()


def _to_json(value: Any, what: str, take: Callable[[Any], Any] | None = None) -> bytes:  # noqa: ANN401 - any JSON
    """Return `value`, or what `take` makes of it, as compact JSON in UTF-8; `what` names it in errors."""
    cause: Exception | None = None
    try:
        body = _encode(take(value) if take else value).encode()
    except RecursionError:
        why = "it is nested too deeply; flatten it"
    except UnicodeEncodeError as error:
        bad = ascii(error.object[error.start : error.start + 1])
        why = f"a text in it holds {bad}, half of a surrogate pair, which UTF-8 cannot express; repair the text"
    except (TypeError, ValueError) as error:
        why = f"{error}; convert it to dict, list, str, int, float, bool and None first"
    except Exception as error:  # noqa: BLE001 - of the caller's own types, which it can be told of
        cause, why = error, f"{shown(error)} was raised when it was read; convert it to dict, list and the like first"
    else:
        if len(body) <= MAX_EVENT_BYTES:
            return body
        why = f"it has {len(body):,} bytes of JSON and the limit is {MAX_EVENT_BYTES:,}; store it and pass its address"
        raise PayloadError(f"{what} is too large: {why}", error_type="RequestTooLargeException")
    raise PayloadError(f"{what} is not JSON: {why}", error_type="InvalidRequestContentException") from cause
