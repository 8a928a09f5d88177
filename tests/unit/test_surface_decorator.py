"""`@coldframe.function`: on functions of modules and scripts, and refused where nothing could be imported again."""

import functools
import importlib
import subprocess
import sys
import textwrap

import pytest

import coldframe
from coldframe import ConfigurationError


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes modules and imports one of them."""
    made = []

    def module(name, files):
        for path, text in files.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text))
            made.append(path.partition("/")[0].removesuffix(".py"))
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield module
    for name in list(sys.modules):
        if name.partition(".")[0] in made:
            del sys.modules[name]


def run(path, *arguments, cwd=None):
    told = subprocess.run(
        [sys.executable, "-W", "error", *arguments, path],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=50,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout


PARSE = """
    import os
    import coldframe

    offset = 1

    def helper(number):
        return number + offset

    @coldframe.function(memory_mb=192, timeout_s=1)
    def parse(event, context):
        "Parses."
        return {"result": helper(event["n"]), "memory": context.memory_limit_in_mb, "files": sorted(os.listdir("."))}

    @coldframe.function
    def bare(event, context):
        return [event, os.getpid(), type(bare).__name__, type(parse).__name__]
"""


def test_a_function_of_an_importable_module(module):
    decorated = module("surface_parse", {"surface_parse.py": PARSE, "surface_other.py": ""})
    with decorated.parse as parse:
        assert isinstance(parse, coldframe.Function)
        assert parse({"n": 2}) == {"result": 3, "memory": "192", "files": ["surface_parse.py"]}
        assert parse.invoke({"n": 2}).report.start == "warm"
        assert parse.submit({"n": 3}).result(10).payload["result"] == 4
        assert [each.payload["result"] for each in parse.map([{"n": 1}, {"n": 2}])] == [2, 3]
        assert (parse.name, parse.handler) == ("parse", "surface_parse.parse")
        assert (parse.__name__, parse.__doc__) == ("parse", "Parses.")
        assert parse.__wrapped__({"n": 1}, type("C", (), {"memory_limit_in_mb": "0"}))["result"] == 2


def test_inside_an_environment_the_decorated_name_is_the_plain_function(module):
    decorated = module("surface_plain", {"surface_plain.py": PARSE})
    with decorated.bare as bare:
        event, pid, own, other = bare("x")
        assert (event, own, other) == ("x", "function", "function")
        assert pid == 2


def test_of_a_package_the_top_level_package_becomes_the_code_and_nothing_else(module):
    text = """
        import os
        import coldframe
        from surface_pkg.sub import helper
        from .. import shared

        @coldframe.function
        def handle(event, context):
            return [helper.double(event), shared.name, sorted(os.listdir(".")), __name__]
    """
    decorated = module(
        "surface_pkg.sub.app",
        {
            "surface_pkg/__init__.py": "",
            "surface_pkg/shared.py": "name = 'shared'\n",
            "surface_pkg/sub/__init__.py": "",
            "surface_pkg/sub/helper.py": "def double(x):\n    return 2 * x\n",
            "surface_pkg/sub/app.py": text,
            "surface_beside.py": "",
        },
    )
    with decorated.handle as handle:
        assert handle(4) == [8, "shared", ["surface_pkg"], "surface_pkg.sub.app"]


def test_a_function_in_the_init_of_a_package(module):
    text = "import coldframe\n@coldframe.function\ndef handle(event, context):\n    return [event, __name__]\n"
    decorated = module("surface_init", {"surface_init/__init__.py": text})
    with decorated.handle as handle:
        assert handle(1) == [1, "surface_init"]


def test_importing_a_decorated_module_starts_nothing(module):
    before = coldframe._host._default if "coldframe._host" in sys.modules else None
    decorated = module("surface_lazy", {"surface_lazy.py": PARSE})
    assert coldframe._host._default is before
    assert decorated.parse.handler == "surface_lazy.parse"


SCRIPT = """
    import coldframe

    @coldframe.function(memory_mb=128, timeout_s=1)
    def parse(event, context):
        return {"doubled": event * 2, "name": __name__}

    if __name__ == "__main__":
        print(parse(21))
        try:
            parse("x" * 10, timeout_s=-1)
        except coldframe.ConfigurationError as error:
            print(type(error).__name__)
"""


def test_a_function_of_a_script(tmp_path):
    path = tmp_path / "surface_script.py"
    path.write_text(textwrap.dedent(SCRIPT))
    (tmp_path / "beside.py").write_text("")
    assert run(path) == "{'doubled': 42, 'name': 'surface_script'}\nConfigurationError\n"
    assert run("surface_script.py", cwd=tmp_path).startswith("{'doubled': 42,")


@pytest.mark.parametrize("use", ["double({})", "double.invoke({}).unwrap()"])
def test_a_script_that_does_not_ask_whether_it_is_the_main_one_is_told_so(tmp_path, use):
    (tmp_path / "eager.py").write_text(
        f"import coldframe\n\n@coldframe.function\ndef double(event, context): return 2\n\n{use}\n"
    )
    command = [sys.executable, "eager.py"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=50)
    assert ended.returncode == 1
    assert ended.stderr.count('belongs below `if __name__ == "__main__":`') == 1, ended.stderr


def test_a_function_of_a_module_that_is_run(tmp_path):
    package = tmp_path / "surface_run"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("factor = 2\n")
    text = textwrap.dedent(SCRIPT).replace("event * 2", "event * helper.factor")
    (package / "app.py").write_text("from surface_run import helper\n" + text)
    (package / "__main__.py").write_text("from surface_run import helper\n" + text)
    assert run("surface_run.app", "-m", cwd=tmp_path).startswith("{'doubled': 42, 'name': 'surface_run.app'}")


def test_a_script_whose_name_is_no_module_is_refused_or_works(tmp_path):
    path = tmp_path / "my-script.v2.py"
    path.write_text(textwrap.dedent(SCRIPT))
    told = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False, timeout=50)
    assert told.stdout.startswith("{'doubled': 42") or "ConfigurationError" in told.stderr


def refused(function):
    with pytest.raises(ConfigurationError, match=r"@coldframe\.function") as caught:
        coldframe.function(function)
    with pytest.raises(ConfigurationError):
        coldframe.function(memory_mb=64)(function)
    return str(caught.value)


class Holder:
    def method(self, event, context):
        pass


async def coroutine(event, context):
    pass


def generator(event, context):
    yield


def plain(event, context):
    return event


def test_what_could_not_be_imported_again_is_refused():
    def closure(event, context):
        return event

    assert "closure" in refused(closure)
    assert "lambda" in refused(lambda event, context: event)
    assert "method" in refused(Holder.method)
    refused(Holder().method)
    refused(Holder)
    refused(coroutine)
    refused(generator)
    refused(functools.partial(plain))
    refused(len)
    refused(7)


def test_a_function_that_was_typed_at_a_prompt_is_refused():
    typed = "import coldframe\n@coldframe.function\ndef f(event, context):\n    return 1\n"
    for arguments, stdin in ((["-c", typed], None), (["-i", "-q"], typed + "\n"), (["-"], typed)):
        told = subprocess.run(
            [sys.executable, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=50
        )
        assert "ConfigurationError" in told.stderr
    namespace = {"__name__": "made_up"}
    exec(compile("def f(event, context):\n    return 1\n", "<string>", "exec"), namespace)
    refused(namespace["f"])


def test_wrong_options_are_refused_when_the_decorator_runs(module):
    decorated = module("surface_options", {"surface_options.py": "def f(event, context):\n    return event\n"})
    for wrong in ({"timeout_s": 0}, {"memory_mb": 31}, {"env": {"_HANDLER": "x"}}, {"layers": ["a"] * 6}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            coldframe.function(**wrong)(decorated.f)
    with pytest.raises(TypeError, match="memory"):
        coldframe.function(memory=1)(decorated.f)
    with coldframe.function(name="mine", env={"A": "b"})(decorated.f) as fn:
        assert (fn.name, fn(5)) == ("mine", 5)


def test_using_more_of_coldframe_inside_is_explained(module):
    text = """
        import coldframe

        @coldframe.function
        def handle(event, context):
            return coldframe.Function("a.b", "c")
    """
    with module("surface_inside", {"surface_inside.py": text}).handle as handle:
        error = handle.invoke().error
    assert error.error_type == "AttributeError"
    assert "inside an execution environment" in error.error_message
