"""The decorator: what it takes, what becomes the code, and what it refuses."""

import functools
import importlib
import os
import runpy
import subprocess
import sys
import textwrap

import pytest
from test_python_fake import coldframe, fake  # noqa: F401

# These names are the fixtures of the stand-in.
# ruff: noqa: F811


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder of modules to import from, forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return tmp_path

    yield write
    for name in set(sys.modules) - before:
        sys.modules.pop(name)


PLAIN = """
import coldframe

@coldframe.function
def parse(event, context):
    "Parse it."
    return event
"""


def test_a_function_of_a_module(project, fake):
    project({"mod_a.py": PLAIN, "other.py": "", "secrets.env": ""})
    parse = importlib.import_module("mod_a").parse
    assert fake.hosts == []
    assert parse({"a": 1}) == {"a": 1}
    spec = fake.hosts[0].functions[0].spec
    assert (spec["handler"], spec["name"]) == ("mod_a.parse", "parse")
    assert spec["code"].endswith("mod_a.py")
    assert spec["code_files"] == []
    assert spec["code_exists"]


def test_it_looks_like_the_function(project, coldframe):
    project({"mod_b.py": PLAIN})
    parse = importlib.import_module("mod_b").parse
    assert isinstance(parse, coldframe.Function)
    assert (parse.__name__, parse.__doc__, parse.__module__) == ("parse", "Parse it.", "mod_b")
    assert parse.__wrapped__({"a": 1}, None) == {"a": 1}


def test_with_options(project, fake):
    project({"mod_c.py": PLAIN.replace("function\n", "function(memory_mb=256, timeout_s=1, name='other')\n")})
    importlib.import_module("mod_c").parse(1)
    spec = fake.hosts[0].functions[0].spec
    assert (spec["memory_mb"], spec["timeout_s"], spec["name"]) == (256, 1.0, "other")


def test_options_are_checked_when_the_module_is_imported(project, coldframe):
    project({"mod_d.py": PLAIN.replace("function\n", "function(timeout_s=0)\n")})
    with pytest.raises(coldframe.ConfigurationError, match="timeout_s"):
        importlib.import_module("mod_d")


@pytest.mark.parametrize("name", ["pkg_a.deep.mod", "pkg_a.mod", "pkg_a"])
def test_the_top_level_package_becomes_the_code_and_nothing_else(project, fake, name):
    files = {"pkg_a/__init__.py": "", "pkg_a/deep/__init__.py": "", "pkg_a/data.txt": "", "beside.py": "", ".env": ""}
    files |= {"pkg_a/__pycache__/x.pyc": ""}
    files |= {f"{name.replace('.', '/')}.py" if "." in name else "pkg_a/__init__.py": PLAIN}
    project(files)
    importlib.import_module(name).parse(1)
    spec = fake.hosts[0].functions[0].spec
    assert spec["handler"] == f"{name}.parse"
    assert {file.partition("/")[0] for file in spec["code_files"]} == {"pkg_a"}
    assert "pkg_a/data.txt" in spec["code_files"]
    assert not [file for file in spec["code_files"] if "__pycache__" in file]


def test_the_staged_copy_is_gone_afterwards(project, fake):
    project({"pkg_b/__init__.py": PLAIN})
    importlib.import_module("pkg_b").parse(1)
    spec = fake.hosts[0].functions[0].spec
    assert spec["code_files"] == ["pkg_b", "pkg_b/__init__.py"]
    assert not os.path.exists(spec["code"])


def test_a_package_without_init_is_a_package_too(project, fake):
    project({"space_a/mod.py": PLAIN, "space_a/more.py": ""})
    importlib.import_module("space_a.mod").parse(1)
    assert "space_a/more.py" in fake.hosts[0].functions[0].spec["code_files"]


def test_the_code_is_read_once(project, fake):
    project({"mod_e.py": PLAIN})
    parse = importlib.import_module("mod_e").parse
    assert [parse(1), parse(2), parse.submit(3).result(10).payload] == [1, 2, 3]
    assert len(fake.hosts[0].functions) == 1


SCRIPT = PLAIN + "\nspec = (parse.handler, parse.code)\n"


@pytest.mark.parametrize("run_name", ["__main__", "__mp_main__", "<run_path>"])
def test_a_script_is_named_after_its_file(project, fake, run_name):
    path = project({"my-script.py": SCRIPT}) / "my-script.py"
    assert runpy.run_path(str(path), run_name=run_name)["spec"] == ("my-script.parse", str(path))


def test_a_module_that_runs_as_the_program(project, fake):
    folder = project({"pkg_c/__init__.py": "", "pkg_c/tool.py": SCRIPT})
    assert runpy.run_module("pkg_c.tool", run_name="__main__", alter_sys=True)["spec"] == (
        "pkg_c.tool.parse",
        str(folder / "pkg_c"),
    )


@pytest.mark.parametrize("name", ["a.b.py", "__main__.py"])
def test_a_script_that_cannot_be_imported_is_refused(project, coldframe, name):
    path = project({name: PLAIN}) / name
    with pytest.raises(coldframe.ConfigurationError, match="rename the file"):
        runpy.run_path(str(path), run_name="__main__")


def test_a_module_loaded_by_its_path_goes_by_its_file(project, coldframe):
    path = project({"mod_f.py": SCRIPT}) / "mod_f.py"
    spec = importlib.util.spec_from_file_location("anything", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.spec == ("mod_f.parse", str(path))


def test_what_other_decorators_made_of_a_function_is_taken(project, fake):
    text = """
    import coldframe, functools

    def logged(function):
        @functools.wraps(function)
        def wrapper(event, context):
            return function(event, context)
        return wrapper

    @coldframe.function
    @logged
    def parse(event, context):
        return event
    """
    project({"mod_g.py": text})
    importlib.import_module("mod_g").parse(1)
    assert fake.hosts[0].functions[0].spec["handler"] == "mod_g.parse"


def top_level(event, context):
    return event


async def coroutine(event, context):
    return event


def generator(event, context):
    yield event


class Class:
    def method(self, event, context):
        return event


def test_what_cannot_be_imported_again_is_refused(coldframe):
    def closure(event, context):
        return coldframe

    refused = {
        "defined inside a function": closure,
        "is a lambda": lambda event, context: event,
        "defined in a class": Class.method,
        "is a method, not a function": Class().method,
        "is a type, not a function": Class,
        "is a partial, not a function": functools.partial(top_level),
        "is a builtin_function_or_method": len,
        "is a NoneType": None,
        "is a coroutine or a generator function": coroutine,
    }
    for why, function in refused.items():
        if function is None:
            continue  # that is the decorator with options
        with pytest.raises(coldframe.ConfigurationError, match=why):
            coldframe.function(function)
    with pytest.raises(coldframe.ConfigurationError, match="generator function"):
        coldframe.function(generator)
    assert coldframe.function(top_level).handler.endswith(".top_level")


def test_code_without_a_file_is_refused(coldframe):
    namespace = {"__name__": "nowhere", "coldframe": coldframe}
    with pytest.raises(coldframe.ConfigurationError, match="typed at a prompt"):
        exec(PLAIN, namespace)


def test_a_function_typed_after_a_script_is_refused(coldframe):
    namespace = {"__name__": "nowhere", "__file__": __file__, "coldframe": coldframe}
    with pytest.raises(coldframe.ConfigurationError, match="typed at a prompt"):
        exec(compile(PLAIN, "<stdin>", "exec"), namespace)


def test_a_prompt_is_refused():
    program = textwrap.dedent("""
        import sys
        sys.path[:0] = {path}
        import test_python_fake
        sys.modules["coldframe._core"] = test_python_fake.make_core()
    """).format(path=[entry for entry in sys.path if entry])
    for command, text in ((["-c", program + PLAIN], ""), (["-"], program + PLAIN)):
        done = subprocess.run([sys.executable, *command], input=text, capture_output=True, text=True, check=False)
        assert "ConfigurationError: @coldframe.function: parse was typed at a prompt" in done.stderr
