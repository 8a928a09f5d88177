"""The example ``hello``: a greeting, cold and warm."""

from pathlib import Path

import coldframe

HELLO = Path(__file__).resolve().parents[2] / "examples" / "hello"


def test_it_greets_by_name() -> None:
    with coldframe.Function("app.handler", code=HELLO, timeout_s=20) as hello:
        assert hello({"name": "Ada"}) == {"message": "Hello, Ada!"}
        assert hello({}) == {"message": "Hello, world!"}


def test_the_second_greeting_comes_from_the_same_environment() -> None:
    with coldframe.Function("app.handler", code=HELLO, timeout_s=20) as hello:
        cold = hello.invoke({"name": "Zoë"})
        warm = hello.invoke({"name": "Zoë"})
    assert cold.payload == warm.payload == {"message": "Hello, Zoë!"}
    assert (cold.report.start, warm.report.start) == ("cold", "warm")
    assert cold.report.environment_id == warm.report.environment_id
