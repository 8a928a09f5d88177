"""That `tests/typing`, which the type checkers read, uses everything that is public."""

import ast
import dataclasses
import inspect
from pathlib import Path

import pytest

import coldframe

PROGRAMS = [ast.parse(file.read_text()) for file in (Path(__file__).parents[1] / "typing").glob("[!w]*.py")]
"""All but `wrong.py`, which is there to be refused."""
NODES = [node for program in PROGRAMS for node in ast.walk(program)]
ATTRIBUTES = {node.attr for node in NODES if isinstance(node, ast.Attribute)}
KEYWORDS = {keyword.arg for node in NODES if isinstance(node, ast.Call) for keyword in node.keywords}
CLASSES = [getattr(coldframe, name) for name in coldframe.__all__ if inspect.isclass(getattr(coldframe, name))]


def attributes(cls):
    """Return what is public of a class beside what it has from Python's own."""
    names = {name for base in cls.__mro__ if base.__module__.startswith("coldframe") for name in vars(base)}
    if dataclasses.is_dataclass(cls):
        names |= {field.name for field in dataclasses.fields(cls)}
    return {name for name in names if not name.startswith("_")}


def test_every_public_name_is_used():
    imported = {alias.name for node in NODES if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(coldframe.__all__) <= ATTRIBUTES | imported


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_public_attribute_is_used(cls):
    internal = {"from_outcome"} if issubclass(cls, coldframe.InvocationError) else set()
    assert attributes(cls) - ATTRIBUTES <= internal


@pytest.mark.parametrize(
    "callable_",
    [
        coldframe.Function,
        coldframe.Function.__call__,
        coldframe.Function.invoke,
        coldframe.Function.submit,
        coldframe.Function.ainvoke,
        coldframe.Function.map,
        coldframe.Function.stream,
        coldframe.Hardening,
        coldframe.Host,
        coldframe.Host.prewarm,
    ],
    ids=lambda callable_: callable_.__qualname__,
)
def test_every_argument_is_passed(callable_):
    assert set(inspect.signature(callable_).parameters) - {"self"} <= KEYWORDS
