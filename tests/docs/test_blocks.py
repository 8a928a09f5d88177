"""The code of the documents runs, and prints what is shown.

In an empty directory that has a copy of examples/, a document at a time and a block after the other:

    python  a block that begins with the comment `# name.py` is that file. It is run when it is a script, and given to
            pytest when it is a test, at once or, where a command below names it, by that command. All others run in one
            namespace.
    sh      a command a line. It exits 0, or as the comment `# exits 1` at its end says. Those that change the machine
            are left alone, and targets of make have to exist.
    bash    a program, which begins with `#!` and the comment `# path`.
    text    after the line `<!-- output -->`: what the block before it prints. `…` stands for anything, and white space
            for any white space.
    c rust  is built by one of BUILDERS, which names the document, or is an excerpt of a program in EXCERPTS, which
            others build and run. `// …` stands for what is left out.
    json toml yaml ini
            can be read.
"""

import configparser
import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
from documents import DOCUMENTS, ROOT, WITH_CODE, blocks, relative, shell_lines

STRICT = ("kernel", "namespaces", "seccomp", "landlock", "cgroup.cpu", "cgroup.memory", "cgroup.pids", "cgroup.freeze")
FILE = re.compile(r"# ([\w/]+\.py)\n")
PROGRAM = re.compile(r"#!.*\n# ([\w./-]+)\n")
EXITS = re.compile(r"# exits (\d+)$")
RUN = {"coldframe", "python", "pytest", "mkdir"}
"""Programs whose lines of shell are run."""
LEFT_ALONE = {"pip", "systemd-run", "cargo", "cc"}
"""Commands that change the machine or need what a test cannot count on."""
EXCERPTS = {
    "c": [ROOT / "examples" / "embedding" / "c", ROOT / "rust" / "capi"],
    "rust": sorted(ROOT.glob("rust/*/examples")),
}
BUILDERS = sorted((ROOT / "tests" / "examples").glob("test_*.py"))
NOT_RUN = {"", "console", "{toctree}", "{eval-rst}"}


class Reader:
    """Someone who follows a document in the directory that is current, and remembers what was printed last."""

    def __init__(self, document):
        """Begin at the top of `document`."""
        self.document = document
        self.blocks = blocks(document)
        self.namespace = {"__name__": document.stem}
        self.printed = ""

    def follow(self):
        """Do what each block says."""
        for block in self.blocks:
            if block.is_output:
                assert block.language == "text"
                assert matches(block.text, self.printed), (
                    f"{self.where(block)} shows\n{block.text}\nnot\n{self.printed}"
                )
            elif (act := getattr(self, f"do_{block.language}", None)) is not None:
                act(block)

    def where(self, block):
        return f"{relative(self.document)}:{block.line}"

    def do_python(self, block):
        named = FILE.match(block.text)
        if named is None:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                # So many empty lines in front that a traceback has the document's own line numbers.
                exec(compile("\n" * block.line + block.text, self.document, "exec"), self.namespace)
            self.printed = out.getvalue()
            return
        file = Path(named[1])
        write(file, block.text)
        if self.names(file):
            return
        if file.name.startswith("test_"):
            self.run(f"python -m pytest -q -p no:cacheprovider {file}")
        elif "__main__" in block.text:
            self.run(f"python {file}")

    def do_sh(self, block):
        lines = [line for line in shell_lines(block) if first_word(line) in RUN]
        self.printed = "".join([self.run(line) for line in lines])

    def do_bash(self, block):
        if not shutil.which("curl"):
            pytest.skip("the program that is shown asks with curl, which is not installed")
        file = Path(PROGRAM.match(block.text)[1])
        write(file, block.text)
        file.chmod(0o755)

    def names(self, file):
        """Return whether a command of this document names `file`."""
        lines = [line for block in self.blocks if block.language == "sh" for line in shell_lines(block)]
        return any(str(file) in shlex.split(line, comments=True) for line in lines if first_word(line) in RUN)

    def run(self, line):
        """Run a line of shell with the programs of this interpreter; return what it printed, errors among it."""
        surroundings = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": "100",
            "PYTHONWARNINGS": "ignore:The configuration option",  # pytest-asyncio wants one that readers do not need
        }
        done = subprocess.run(
            ["bash", "-c", line],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            env=surroundings,
            timeout=60,
            check=False,
        )
        expected = int(found[1]) if (found := EXITS.search(line)) else 0
        assert done.returncode == expected, f"{relative(self.document)}: {line}\n{done.stdout}"
        self.printed = done.stdout
        return done.stdout


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def first_word(line):
    return next(iter(shlex.split(line, comments=True)), "")


def matches(shown, printed):
    """Return whether `printed` is what is `shown`, where `…` is anything and white space any white space."""
    parts = [r"\s+".join(map(re.escape, part.split())) for part in shown.split("…")]
    return re.fullmatch(r"\s*" + r"\s*.*?\s*".join(parts) + r"\s*", printed, re.DOTALL) is not None


def read_ini(text):
    configparser.RawConfigParser(strict=False).read_string(text)


def read_yaml(text):
    list(pytest.importorskip("yaml").safe_load_all(text))


READERS = {"json": json.loads, "toml": tomllib.loads, "ini": read_ini, "yaml": read_yaml}


@pytest.mark.timeout(180)
@pytest.mark.needs(*STRICT)
@pytest.mark.parametrize("document", WITH_CODE, ids=relative)
def test_what_is_shown_works(document, tmp_path, monkeypatch):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    Reader(document).follow()


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_block_is_of_a_kind_that_is_checked(document):
    kinds = {name.removeprefix("do_") for name in dir(Reader) if name.startswith("do_")}
    kinds |= {"text", *EXCERPTS, *READERS, *NOT_RUN}
    assert {block.language for block in blocks(document)} <= kinds


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_commands_are_ones_that_exist(document):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    for line in (line for block in blocks(document) if block.language == "sh" for line in shell_lines(block)):
        program, *arguments = shlex.split(line, comments=True) or ["pip"]
        if program == "make":
            assert set(arguments) <= targets
        else:
            assert program in RUN | LEFT_ALONE, line


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_files_of_settings_can_be_read(document):
    for block in blocks(document):
        if block.language in READERS:
            READERS[block.language](block.text)


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_c_and_rust_are_built_or_excerpts_of_programs_that_are(document):
    if any(relative(document) in test.read_text(encoding="utf-8") for test in BUILDERS):
        return
    for block in blocks(document):
        files = [file for folder in EXCERPTS.get(block.language, ()) for file in folder.rglob("*.*")]
        sources = [unindented(file.read_text(encoding="utf-8")) for file in files if file.suffix in {".c", ".h", ".rs"}]
        for part in re.split(r"^\s*// …$", block.text, flags=re.MULTILINE) if block.language in EXCERPTS else ():
            assert any(unindented(part) in source for source in sources), f"line {block.line}: no program has\n{part}"


def unindented(text):
    """Return the lines of `text` without their indentation and without empty ones."""
    return "\n".join(line.strip() for line in textwrap.dedent(text).splitlines() if line.strip())


def test_what_is_shown_is_compared():
    assert matches("a … c\n", "a b b\n  c\n")
    assert matches("…\nREPORT …\tMemory Size: 64 MB …\n", "x\nREPORT  1\t Memory Size: 64 MB\t\n")
    assert not matches("a … c\n", "a b\n")
    assert not matches("a\n", "a b\n")
