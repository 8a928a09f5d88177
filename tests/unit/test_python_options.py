"""What a function may be given, as far as that can be told without looking at the host."""

import inspect
import os

import pytest

from coldframe import ConfigurationError, Function, Hardening, _core, _options


class Described(Function):
    """A function that is checked when it is made, and whose code nobody reads."""

    _lazy = True


@pytest.mark.parametrize("handler", ["app.handler", "pkg/mod.handler", "pkg.mod.handler", "my-app.main", "a.b.c.d"])
def test_lambdas_notation(handler):
    assert Described(handler, "app.py").handler == handler


@pytest.mark.parametrize(
    "handler", ["app", "", ".", ".handler", "app.", "./.handler", "a b.c", "a.b\n", "a\0.b", None, 5]
)
def test_other_notations_are_refused(handler):
    with pytest.raises(ConfigurationError, match="handler"):
        Described(handler, "app.py")


@pytest.mark.parametrize(
    ("handler", "meant"),
    [("app:handler", "app.handler"), ("app.py:handler", "app.handler"), ("pkg/app.py:main", "pkg/app.main")],
)
def test_a_notation_of_other_tools_is_told_in_lambdas(handler, meant):
    with pytest.raises(ConfigurationError, match=f'like "{meant}"$'):
        Described(handler, "app.py")


@pytest.mark.parametrize("handler", ["", "main", "a b:c"])
def test_a_runtime_of_ones_own_has_a_notation_of_its_own(handler):
    assert Described(handler, "app.zip", runtime="provided").handler == handler
    for odd in ("a\0b", "\ud800"):
        with pytest.raises(ConfigurationError, match="handler"):
            Described(odd, "app.zip", runtime="provided")


@pytest.mark.parametrize("path", ["", "a\0b", b"bytes", None, 5])
def test_a_path_is_text(path):
    with pytest.raises(ConfigurationError, match="code must be a path"):
        _options.check_path("code", path)


def test_a_path_becomes_absolute(tmp_path):
    assert _options.check_path("code", tmp_path) == str(tmp_path)
    assert _options.check_path("code", "x/../y") == os.path.join(os.getcwd(), "y")


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("/x/hello", "hello"),
        ("/x/thumb.py", "thumb"),
        ("/x/my code.v2.zip", "my-code"),
        ("/", "function"),
        ("/é", "function"),
    ],
)
def test_a_name_is_made_of_the_code(code, name):
    assert _core.name_of(code) == name == Described("app.handler", code).name


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 65, 5, "a/b"])
def test_a_name_is_one_that_lambda_allows(name):
    assert Described("app.handler", "/x", name="my_function-2").name == "my_function-2"
    with pytest.raises(ConfigurationError, match=r"name (is|must be)"):
        Described("app.handler", "/x", name=name)


def test_variables_are_copied():
    env = {"KEY": "välue", "lower": ""}
    assert _options.check_env(env) == env
    assert _options.check_env(env) is not env


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"AWS_LAMBDA_FUNCTION_NAME": "x"}, "reserved by Lambda"),
        ({"_HANDLER": "x"}, "reserved by Lambda"),
        ({"AWS_LAMBDA_RUNTIME_API": "x"}, "reserved by Lambda"),
        ({"_X": "x"}, "a name is a letter"),
        ({"A-B": "x"}, "a name is a letter"),
        ({"": "x"}, "a name is a letter"),
        ({"A=B": "x"}, "a name is a letter"),
        ({"A\n": "x"}, "a name is a letter"),
        ({"A": 1}, "must be texts"),
        ({1: "A"}, "must be texts"),
        ({"A": "a\0b"}, "a NUL"),
        ({"A": "\ud800"}, "half of a surrogate"),
        (None, "must map names to texts"),
        ("AB", "must map names to texts"),
    ],
)
def test_variables_are_checked(env, why):
    with pytest.raises(ConfigurationError, match=why):
        Described("app.handler", "/x", env=env)


@pytest.mark.parametrize("layers", ["layer.zip", b"x", None, 5, [None], [""]])
def test_layers_are_a_list_of_paths(layers, tmp_path):
    assert _options.check_layers([tmp_path, str(tmp_path)]) == [str(tmp_path)] * 2
    with pytest.raises(ConfigurationError, match="layer"):
        _options.check_layers(layers)


@pytest.mark.parametrize("timeout_s", [0, -1, 901, float("nan"), float("inf"), 10**400, "3", None, True])
def test_a_timeout_is_above_0_and_up_to_900_seconds(timeout_s):
    for good in (0.001, 1, 900):
        assert f"timeout_s={good:g}>" in repr(Described("app.handler", "/x", timeout_s=good))
    with pytest.raises(ConfigurationError, match="timeout_s"):
        Described("app.handler", "/x", timeout_s=timeout_s)


@pytest.mark.parametrize("wrong", [{"proc": "all"}, {"noexec_tmp": 1}, {"on_unclean": "warm"}, {"proc": []}])
def test_hardening_is_checked(wrong):
    assert Hardening() == Hardening(proc=None, noexec_tmp=False, on_unclean="error")
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Hardening(**wrong)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"snapstart": 1}, "snapstart is 1: "),
        ({"snapstart": True, "runtime": "provided"}, "a copy of a process has one thread"),
        ({"mounts": ["/mnt/x"]}, "mounts must map"),
        ({"mounts": {"/mnt": "/x"}}, "the place inside must be /mnt/ and a name"),
        ({"mounts": {"/mnt/a/b": "/x"}}, "the place inside"),
        ({"mounts": {"/mnt/..": "/x"}}, "the place inside"),
        ({"mounts": {"/mnt/x\n": "/x"}}, "the place inside"),
        ({"mounts": {"/tmp/x": "/x"}}, "the place inside"),
        ({"mounts": {1: "/x"}}, "the place of a mount must be a text"),
        ({"mounts": {"/mnt/x": ("/x", "ro")}}, r"a path, which can be read, or \(path, 'rw'\)"),
        ({"mounts": {"/mnt/x": ("/x",)}}, "a path, which can be read"),
        ({"mounts": {"/mnt/x": 3}}, "must be a path"),
        ({"provisioned_concurrency": 1}, "prewarm"),
        ({"architecture": "riscv"}, 'architecture is "riscv"; it must be "x86_64" or "arm64"'),
        ({"isolation": "none"}, "isolation='none': use 'strict' or 'available'"),
        ({"packages": "all"}, "packages='all'"),
        ({"packages": ["x"]}, "packages="),
        ({"hardening": {"proc": "pid"}}, "coldframe.Hardening"),
        ({"memory_mb": "128"}, "memory_mb is .128.: .* integer"),
        ({"tmp_mb": 1.5}, "tmp_mb is 1.5: .* integer"),
        ({"memory_mb": 31}, "memory_mb is 31; it must be from 32 to 10240 MiB"),
        ({"tmp_mb": 10_241}, "tmp_mb is 10241; it must be from 1 to 10240 MiB"),
        ({"max_processes": 0}, "max_processes is 0"),
        ({"log_kb": -1}, "log_kb is -1"),
        ({"reserved_concurrency": -1}, "reserved_concurrency is -1"),
        ({"layers": ["/x"] * 6}, "more than 5 layers"),
    ],
)
def test_a_function_that_cannot_be_is_refused_before_its_code_is_looked_at(options, why):
    with pytest.raises(ConfigurationError, match=why):
        Described("app.handler", "/nowhere", **options)


@pytest.mark.parametrize(
    ("options", "why"), [({"preload": "numpy"}, "preload"), ({"runtime": "python3.11"}, "runtime=")]
)
def test_and_so_is_one_that_nothing_here_could_run(tmp_path, options, why):
    tmp_path.joinpath("app.py").write_text("def handler(event, context):\n    return event\n")
    with pytest.raises(ConfigurationError, match=why):
        Function("app.handler", tmp_path, **options)


def test_the_typed_options_are_those_of_function():
    signature = inspect.signature(Function)
    keywords = [name for name, each in signature.parameters.items() if each.kind is each.KEYWORD_ONLY]
    assert keywords == list(_options.FunctionOptions.__annotations__)


def test_the_signature_is_the_documented_one():
    defaults = {name: each.default for name, each in inspect.signature(Function).parameters.items()}
    assert defaults == {
        "handler": inspect.Parameter.empty,
        "code": inspect.Parameter.empty,
        "name": None,
        "runtime": "python",
        "memory_mb": 128,
        "timeout_s": 3.0,
        "tmp_mb": 512,
        "max_processes": 1024,
        "log_kb": 1024,
        "env": {},
        "layers": (),
        "architecture": None,
        "network": False,
        "packages": "inherit",
        "preload": "auto",
        "isolation": "strict",
        "reserved_concurrency": None,
        "provisioned_concurrency": 0,
        "snapstart": False,
        "reuse": True,
        "mounts": {},
        "hardening": Hardening(),
        "host": None,
    }
