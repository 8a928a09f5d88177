"""The documents are true: their code runs, their commands work, their links and paths lead somewhere.

A block of Python that begins with the comment `# name.py` is that file; it is run when it is a script, and given to
pytest when it is a test. All others are run one after the other, in one namespace for each document.
"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
WITH_CODE = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
STRICT = ("kernel", "namespaces", "seccomp", "landlock", "cgroup.cpu", "cgroup.memory", "cgroup.pids", "cgroup.freeze")

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w/]+\.py)\n")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"`((?:rust|python|tests|docs|examples|benches)/[\w./-]*)(?:::(\w+))?`")
PROGRAM = re.compile(r"#!.*\n# ([\w./-]+)\n")
NEITHER_RUN_NOR_MADE = {"pip", "systemd-run"}
"""Commands that change the machine or need what a test cannot count on."""


class Block(NamedTuple):
    language: str
    line: int
    text: str


def blocks(document):
    """Return the fenced blocks of a document, each with the number of lines before it."""
    text = document.read_text(encoding="utf-8")
    return [Block(found[1], text.count("\n", 0, found.start(2)), found[2]) for found in BLOCK.finditer(text)]


def commands(document):
    """Return the commands in a document's shell blocks, as lists of words."""
    lines = [line for block in blocks(document) if block.language == "sh" for line in block.text.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def relative(document):
    return str(document.relative_to(ROOT))


def run(*command):
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 0, f"{shlex.join(map(str, command))}\n{done.stdout}{done.stderr}"


def run_python(document, block, namespace):
    named = FILE.match(block.text)
    if named is None:
        # So many empty lines in front that a traceback has the document's own line numbers.
        exec(compile("\n" * block.line + block.text, document, "exec"), namespace)  # the code of our own documents
        return
    file = Path(named[1])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(block.text, encoding="utf-8")
    if file.name.startswith("test_"):
        run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file)
    elif "__main__" in block.text:
        run(sys.executable, file)


def make_program(block):
    file = Path(PROGRAM.match(block.text)[1])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(block.text, encoding="utf-8")
    file.chmod(0o755)


@pytest.mark.timeout(180)
@pytest.mark.needs(*STRICT)
@pytest.mark.parametrize("document", WITH_CODE, ids=relative)
def test_what_is_shown_works(document, tmp_path, monkeypatch):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": document.stem}
    for block in blocks(document):
        if block.language == "python":
            run_python(document, block, namespace)
        elif block.language == "bash":
            if not shutil.which("curl"):
                pytest.skip("the program that is shown asks with curl, which is not installed")
            make_program(block)
        elif block.language == "sh":
            for words in (shlex.split(line, comments=True) for line in block.text.splitlines()):
                if words[:1] == ["coldframe"]:
                    run(sys.executable, "-m", *words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_commands_are_ones_that_exist(document):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for program, *arguments in commands(document):
        if program == "make":
            assert set(arguments) <= targets
        else:
            assert program == "coldframe" or program in NEITHER_RUN_NOR_MADE


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_lead_somewhere(document):
    links = LINK.findall(document.read_text(encoding="utf-8"))
    inside = [link.partition("#")[0] for link in links if not link.startswith("https://")]
    assert [link for link in inside if link and not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_paths_and_what_is_named_in_them_exist(document):
    wrong = []
    for path, name in PATH.findall(document.read_text(encoding="utf-8")):
        place = ROOT / path
        defined = rf"\b(?:def|fn) {name}\("
        if not place.exists() or (name and not re.search(defined, place.read_text(encoding="utf-8"))):
            wrong.append(f"{path}::{name}" if name else path)
    assert wrong == []


def test_every_protection_says_where_it_is_and_what_holds_it():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    table = text.partition("| protection | code | tests |\n")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[1:]]
    assert len(rows) > 20
    for protection, code, tests in rows:
        assert PATH.search(code), f"{protection}: where is it?"
        assert PATH.search(tests), f"{protection}: what holds it?"


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_documents_know_nothing_of_this_machine(document):
    text = document.read_text(encoding="utf-8")
    assert str(ROOT) not in text
    assert str(Path.home()) + "/" not in text
