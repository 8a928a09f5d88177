"""AWS's own runtimes, unmodified, with the function of `examples/runtimes/`: by themselves, and in coldframe.

`make test-runtimes` builds them; without it they are skipped.
"""

import re

import pytest
from places import KINDS, Alone, Inside, built

import coldframe

STREAMING = [kind for kind in KINDS if kind.streams]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def kind(request):
    return request.param


@pytest.fixture(scope="module", params=[Alone, Inside], ids=lambda place: place.__name__.lower())
def place(request, kind):
    """Return a runtime that is warm for the second test; each leaves it as one that has greeted some guests."""
    made = request.param(kind, env={"GREETING": "Grüß Gott"})
    yield made
    made.close()


def test_a_result_its_context_and_its_log(place, kind):
    result = place.invoke({"name": "Ada"})
    assert result.ok, result
    guests, remaining = result.value.pop("guests"), result.value.pop("remaining_ms")
    assert guests >= 1
    assert 10_000 < remaining <= 20_000
    assert result.value == {
        "greeting": "Grüß Gott, Ada!",
        "text": "",
        "request_id": result.request_id,
        "arn": result.arn,
        "function": "app",
    }
    assert re.search(kind.line.format(id=result.request_id), result.log, re.MULTILINE), result.log


def test_the_process_stays_for_the_next_event(place):
    first, second, third = (place.invoke({"name": "Ada"}).value["guests"] for _ in range(3))
    assert (second, third) == (first + 1, first + 2)


def test_an_error_is_what_the_runtime_says(place, kind):
    before = place.invoke({"name": "Ada"}).value["guests"]
    result = place.invoke({})
    assert not result.ok
    assert (result.value["errorType"], result.value["errorMessage"]) == (kind.error_type, "nobody to greet")
    assert place.invoke({"name": "Ada"}).value["guests"] == before + 1


@pytest.mark.parametrize(
    "text", ["世界 \U0001f600 \u2028 ü\x7f", "x" * 3_000_000, "ü" * 1_000_000], ids=["odd", "large", "wide"]
)
def test_a_text_comes_back_whole(place, text):
    result = place.invoke({"name": "世界", "text": text})
    assert result.ok, result.log[-1000:]
    assert result.value["greeting"] == "Grüß Gott, 世界!"
    assert result.value["text"] == text


@pytest.mark.parametrize("place", [Alone, Inside], ids=["alone", "inside"])
def test_an_exit_has_its_status(place, kind):
    made = place(kind)
    try:
        result = made.invoke({"exit": 3})
        assert not result.ok
        if place is Alone:
            assert result.status == 3
        else:
            assert result.value == {
                "errorType": "Runtime.ExitError",
                "errorMessage": f"RequestId: {result.request_id} Error: Runtime exited with error: exit status 3",
            }
            assert made.invoke({"name": "Ada"}).value["guests"] == 1
    finally:
        made.close()


def test_a_timeout_kills(kind):
    made = Inside(kind, timeout_s=1.5)
    try:
        assert made.invoke({"name": "Ada"}).value["guests"] == 1
        invocation = made.call({"name": "Ada", "sleep_ms": 60_000})
        assert isinstance(invocation.error, coldframe.InvocationTimeout)
        assert 1_500 <= invocation.report.duration_ms < 5_000
        after = made.call({"name": "Ada"})
        assert (after.payload["guests"], after.report.start) == (1, "cold")
    finally:
        made.close()


def test_cold_then_warm_then_frozen(kind):
    made = Inside(kind)
    try:
        first, second = (made.call({"name": "Ada"}) for _ in range(2))
        assert (first.report.start, second.report.start) == ("cold", "warm")
        assert first.report.environment_id == second.report.environment_id
        assert first.report.init_duration_ms > 0
    finally:
        made.close()


@pytest.mark.parametrize("place", [Alone, Inside], ids=["alone", "inside"])
@pytest.mark.parametrize("kind", STREAMING, ids=lambda kind: kind.name)
def test_a_streamed_response_comes_in_pieces(place, kind):
    made = place(kind, handler=kind.streams)
    try:
        pieces, error = made.stream({"name": "Ada", "sleep_ms": 400})
        assert (b"".join(piece for _, piece in pieces), error) == (kind.prelude + b"Hello, Ada! ", None)
        assert pieces[-1][0] - pieces[0][0] > 0.3
        pieces, error = made.stream({"name": "Ada", "fail": True})
        body = b"".join(piece for _, piece in pieces)
        assert body.startswith(kind.prelude + b"Hello, Ada! ")
        # lambda_runtime writes what should be trailers into the body.
        assert error or b"Lambda-Runtime-Function-Error-Type: " in body
    finally:
        made.close()


@pytest.mark.parametrize(("layer", "name"), [("extensions-bash", "notes"), ("extensions-rust", "scribe")])
def test_an_extension_hears_of_invocations(layer, name):
    made = Inside(next(kind for kind in KINDS if kind.name == "go"), layers=[built(layer)])
    try:
        invocations = [made.call({"name": "Ada"}) for _ in range(3)]
        assert [invocation.payload["guests"] for invocation in invocations] == [1, 2, 3]
        log = "".join(invocation.log for invocation in invocations)
        for invocation in invocations[:2]:
            assert f"{name}: invocation {invocation.request_id}" in log
    finally:
        made.close()
