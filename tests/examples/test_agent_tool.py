"""The example ``embedding/agent_tool``: the conversation, and calls of code that a model should not have written."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EMBEDDING = Path(__file__).resolve().parents[2] / "examples" / "embedding"
NAMES = ["../../etc/passwd", "/etc/passwd", "folder/file", "..", "", ".bashrc", "two\nlines", "x" * 101]
# The code shares a process with the runner, and so can have it return whatever it likes.
FORGE = "import runner\nrunner.collect = lambda *_: ({files!r}, {left!r})"


def run(*arguments: object, calls: str = "") -> str:
    command = [sys.executable, "-m", "agent_tool", *map(str, arguments)]
    done = subprocess.run(command, cwd=EMBEDDING, input=calls, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def answers(folder: Path, *codes: str, options: tuple[object, ...] = ("--memory", 512, "--timeout", 3)) -> list[Any]:
    """Have some code run, one after the other, in one conversation; its files are in `folder` afterwards."""
    calls = "".join(json.dumps({"code": code}) + "\n" for code in codes)
    lines = run("--calls", "--save", folder, *options, calls=calls).splitlines()
    assert len(lines) == len(codes)
    return [json.loads(line) for line in lines]


def test_the_conversation() -> None:
    shown = run("--timeout", 0.5)
    assert "value:    ('february', {'january': 61.5, 'february': 75.0, 'march': 33.0})" in shown
    assert "            KeyError: 'amount'" in shown
    assert "files:    sales.svg (210 bytes)" in shown
    assert "error:    TimeLimit: the code was stopped after 0.5 s" in shown


def test_the_description_is_what_a_model_is_given() -> None:
    description = json.loads(run("--describe", "--memory", 64))
    assert " 64 MB of memory and 2 s." in description["description"]
    assert description["name"] == "run_python"
    assert description["input_schema"]["required"] == ["code"]


def test_output_value_error_and_files_come_back(tmp_path: Path) -> None:
    (tmp_path / "given.txt").write_text("given", encoding="utf-8")
    told = answers(
        tmp_path / "out",
        "print(open('given.txt').read())\nx = 6\nx * 7",
        "open('note.txt', 'w').write('kept')\nfile = open('late.txt', 'w')\nfile.write('not closed')\nNone",
        "open('note.txt').read() + open('late.txt').read()",
        "x",
        "def f(n):\n    return 1 / n\nf(0)",
        "import sys; sys.exit('enough')",
        "this is no Python",
        "print('x' * 200_000)",
        options=("--file", tmp_path / "given.txt"),
    )
    assert told[0] == {"stdout": "given\n", "value": "42"}
    assert told[1] == {"files": ["late.txt (10 bytes)", "note.txt (4 bytes)"]}
    assert told[2] == {"value": "'keptnot closed'"}
    assert told[3]["error"].endswith("NameError: name 'x' is not defined\n")
    assert told[4]["error"].startswith(
        'Traceback (most recent call last):\n  File "<code>", line 3, in <module>\n    f(0)'
    )
    assert "runner" not in told[4]["error"]
    assert told[5]["error"].endswith("SystemExit: enough\n")
    assert 'File "<code>", line 1\n    this is no Python' in told[6]["error"]
    assert 5_000 < len(told[7]["stdout"]) < 11_000
    saved = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir()}
    assert saved == {"given.txt": "given", "late.txt": "not closed", "note.txt": "kept"}


def test_what_no_file_should_be_stays_inside(tmp_path: Path) -> None:
    forged = dict.fromkeys(NAMES, "ZXZpbA==") | {"good.txt": "Z29vZA==", "bad.txt": "no base64", "odd.txt": 3}
    told = answers(
        tmp_path,
        "import os, socket\nos.symlink('/etc/passwd', 'link')\nos.mkdir('folder')\nopen('huge', 'w').close()\n"
        "os.truncate('huge', 1 << 26)\nsocket.socket(socket.AF_UNIX).bind('socket')",
        "import os\nos.mknod('device', 0o020666, os.makedev(1, 5))",
        "for n in range(30): open(f'{n:02}', 'w').close()",
        FORGE.format(files=forged, left={}),
        FORGE.format(files="none", left={"a": [[]], "b": "x" * 1000}),
        "import runner\nrunner.collect = lambda *_: ({str(n): 1 for n in range(20_000)},) * 2",
    )
    assert [each.partition(": ")[0] for each in told[0]["not kept"]] == ["'folder'", "'huge'", "'link'", "'socket'"]
    assert "PermissionError" in told[1]["error"]
    assert (len(told[2]["files"]), len(told[2]["not kept"])) == (20, 10)
    # The twenty from before fill the conversation: nothing more is taken, whatever its name.
    assert "files" not in told[3]
    reasons = {each.partition(": ")[2] for each in told[3]["not kept"]}
    assert reasons == {"not a plain file name", "there are 20 files already"}
    assert told[4]["not kept"] == ["'a': no reason given", "'b': " + "x" * 80]
    assert len(told[5]["not kept"]) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n:02}" for n in range(20)]


def test_what_no_text_can_be_written_from_is_still_answered(tmp_path: Path) -> None:
    half = "import sys\nsys.modules['coldframe_runtime.marshalling']._fast = lambda _: "
    half += repr('{"value": "\\ud800", "error": "\\ud800", "left": {"\\ud800": "\\ud800"}}')
    told = answers(tmp_path, half, "1 + 1")
    assert (told[0]["value"], told[0]["error"], told[1]["value"]) == ("?", "?", "2")
    assert told[0]["not kept"] == ["'\\ud800': ?"]


def test_forged_names_and_contents_are_refused_one_by_one(tmp_path: Path) -> None:
    forged = dict.fromkeys(NAMES, "ZXZpbA==") | {"bad.txt": "no base64", "odd.txt": 3, "good.txt": "Z29vZA=="}
    large = "import runner\nrunner.collect = lambda *_: ({str(n): 'A' * 1_200_000 for n in range(5)}, {})"
    told = answers(tmp_path, FORGE.format(files=forged, left={}), large, options=("--timeout", 5))
    assert told[0]["files"] == ["good.txt (4 bytes)"]
    assert len(told[0]["not kept"]) == len(NAMES) + 2
    assert "'../../etc/passwd': not a plain file name" in told[0]["not kept"]
    assert told[1]["files"] == [f"{n} (900000 bytes)" for n in range(4)]
    assert len(told[1]["not kept"]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "3", "good.txt"]


@pytest.mark.timeout(90)
def test_limits_are_told_in_the_models_words_and_the_next_call_is_well(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    told = answers(
        tmp_path,
        "print('begun', flush=True)\nwhile True: pass",
        "import os; os._exit(3)",
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        f"open({str(tmp_path / 'secret')!r}).read()",
        "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=1)",
        "import runner\nrunner.collect = lambda *_: 1",
        "1 + 1",
        options=("--memory", 512, "--timeout", 0.5),
    )
    assert told[0] == {
        "stdout": "begun\n",
        "error": "TimeLimit: the code was stopped after 0.5 s; do less at a time.",
    }
    assert told[1]["error"] == "Exit: the process ended before the code did (Runtime exited with error: exit status 3)."
    assert told[2]["error"].startswith("TimeLimit: ")
    assert "FileNotFoundError" in told[3]["error"]
    assert "Network is unreachable" in told[4]["error"]
    assert "error" in told[5]
    assert told[6] == {"value": "2"}


def test_over_the_memory_it_is_told_so(tmp_path: Path) -> None:
    (told,) = answers(tmp_path, "print('begun')\nb'x' * (1 << 29)", options=("--memory", 64, "--timeout", 20))
    assert told["stdout"] == "begun\n"
    assert told["error"] == "MemoryLimit: the code needed more than 64 MB of memory; hold less at a time."


def test_arguments_that_are_none_are_refused() -> None:
    calls = '{"code": 3}\n{}\nnot JSON\n{"code": "1", "files": []}\n{"code": "1"}\n'
    told = [json.loads(line) for line in run("--calls", calls=calls).splitlines()]
    assert ["error" in each for each in told] == [True, True, True, True, False]


def test_the_readme_is_true() -> None:
    (block,) = re.findall(
        r"^```python\n(.*?)^```$", (EMBEDDING / "agent_tool" / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    subprocess.run([sys.executable, "-c", block], cwd=EMBEDDING, timeout=30, check=True)
