"""Whatever is given as an option, the answer is a function or a host, or an error of coldframe's that says why not."""

import inspect
import math
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import coldframe
from coldframe import ConfigurationError, Function, Hardening, Host, HostCapabilityError

MANY = 40
"""Examples per option where each may make a function or a host, which takes milliseconds."""


class Loud:
    """Something that cannot even be shown."""

    def __repr__(self):
        raise RuntimeError("repr")


numbers = st.one_of(
    st.integers(-2, 40),
    st.sampled_from([2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63)]),
    st.just(5000).map(lambda digits: 10**digits),
    st.just(5000).map(lambda digits: -(10**digits)),
    st.floats(allow_nan=True),
    st.sampled_from([math.inf, -math.inf, -0.0, 5e-324, 1e308, Decimal(1), 1j]),
)
texts = st.one_of(st.text(max_size=20), st.characters(codec=None).map(str), st.just("\ud800"), st.just("a\0b"))
plain = st.one_of(st.none(), st.booleans(), numbers, texts, st.binary(max_size=20), st.builds(object), st.builds(Loud))
anything = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.frozensets(st.integers() | texts, max_size=3),
        st.dictionaries(st.one_of(texts, st.integers(), st.none()), inner, max_size=3),
    ),
    max_leaves=5,
)
# What is close to right is where mistakes are.
close = {
    "handler": st.builds("{}.{}".format, texts, texts),
    "name": st.text("abcXYZ019_-", max_size=70),
    "memory_mb": st.integers(30, 10_242),
    "timeout_s": st.floats(0, 901),
    "tmp_mb": st.integers(0, 10_242),
    "max_processes": st.integers(0, 32_770),
    "log_kb": st.integers(-1, 1_048_578),
    "env": st.dictionaries(st.text("ABC_z09=", max_size=5) | texts, texts, max_size=4),
    "layers": st.lists(texts, max_size=7),
    "architecture": st.sampled_from(["x86_64", "arm64", "aarch64", "X86_64"]),
    "packages": st.sampled_from(["inherit", "none", "all"]),
    "preload": st.lists(
        st.sampled_from(["json", "numpy", "numpy.linalg", "app", "no.such", "..", ""]) | texts, max_size=3
    ),
    "isolation": st.sampled_from(["strict", "available", "none"]),
    "reserved_concurrency": st.integers(-1, 3),
}
OPTIONS = sorted(set(inspect.signature(Function).parameters) - {"host"})
HOST_OPTIONS = sorted(inspect.signature(Host).parameters)


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    folder = tmp_path_factory.mktemp("code")
    folder.joinpath("app.py").write_text("def handler(event, context):\n    return event\n")
    return folder


def test_every_option_is_tried():
    assert close.keys() <= set(OPTIONS)
    assert len(OPTIONS) >= 22
    assert len(HOST_OPTIONS) >= 6


@pytest.mark.parametrize("option", OPTIONS)
def test_a_function_is_made_or_refused(option, host, code):
    @settings(max_examples=MANY if settings.default.max_examples < 1000 else settings.default.max_examples // 10)
    @given(close.get(option, anything) | anything)
    def check(value):
        options = {"handler": "app.handler", "code": code, "preload": (), "host": host, option: value}
        try:
            function = Function(**options)
        except (ConfigurationError, HostCapabilityError) as error:
            assert str(error)  # noqa: PT017 - it may succeed
            return
        with function:
            repr(function)

    check()


@pytest.mark.parametrize("option", HOST_OPTIONS)
def test_a_host_is_made_or_refused(option):
    @settings(max_examples=settings.default.max_examples // 10)
    @given(anything)
    def check(value):
        try:
            host = Host(**{option: value})
        except (ConfigurationError, HostCapabilityError) as error:
            assert str(error)  # noqa: PT017 - it may succeed
            return
        with host:
            repr(host)

    check()


@given(st.dictionaries(st.sampled_from(["proc", "noexec_tmp", "on_unclean"]), anything))
def test_hardening_is_what_it_can_be_or_refused(options):
    try:
        repr(Hardening(**options))
    except ConfigurationError as error:
        assert str(error)  # noqa: PT017 - it may succeed


@given(timeout_s=st.none() | numbers | anything, client_context=anything, n=anything)
def test_an_invocation_has_its_options_or_is_refused(host, code, timeout_s, client_context, n):
    with Function("app.handler", code, preload=(), host=host) as function:
        for call in (
            lambda: function.invoke(1, timeout_s=timeout_s),
            lambda: function.invoke(1, client_context=client_context),
            lambda: host.prewarm(function, n if isinstance(n, int) and not 2 < n < 2**60 else object()),
        ):
            try:
                call()
            except coldframe.ColdframeError as error:
                assert str(error)  # noqa: PT017 - it may succeed
