"""What the commands do at a terminal: a real one, with real hosts in other programs."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path

import pytest

from coldframe import _core
from coldframe._cli import main

COMMAND = [sys.executable, "-m", "coldframe"]
LEAVE = "\x1b[?1049l"
APP = """
import time
def handler(event, context):
    return event
def sleeps(event, context):
    time.sleep(60)
def fails(event, context):
    raise ValueError("boom")
def rude(event, context):
    print("\\x1b[2Jred\\x9b\\rover")
    return "a\\x9bb"
"""
OWNER = """
import sys, coldframe
host = coldframe.Host()
quick = coldframe.Function("app.handler", {app!r}, name="quick", host=host)
slow = coldframe.Function("app.sleeps", {app!r}, name="slow", timeout_s=60, host=host)
quick(1), quick(2)
future = slow.submit(0)
while "busy" not in [each.state for each in host.environments()]:
    pass
{more}
print("ready", flush=True)
sys.stdin.read()
future.cancel()
host.close()
"""


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    """Have a state directory in which nobody else is."""
    monkeypatch.setenv("COLDFRAME_STATE_DIR", str(tmp_path / "state"))
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def app(tmp_path):
    """Return the path of a file with some handlers."""
    path = tmp_path / "app.py"
    path.write_text(APP)
    return str(path)


@contextlib.contextmanager
def owner(app, more=""):
    """Run a program with a host, an idle environment and a busy one; it ends in order, if it is not killed before."""
    program = OWNER.format(app=app, more=textwrap.dedent(more))
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
            process.stdin.close()
            process.wait(20)
        finally:
            process.kill()


def command(*arguments):
    """Run a command through pipes."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=40)
    return done.returncode, done.stdout, done.stderr


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *arguments, columns=100, lines=30):
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (lines, columns))
        self.before = termios.tcgetattr(self.slave)
        self.text = ""
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=dict(os.environ),  # readline, which some plug-in imports, tells C of another size
            start_new_session=True,
            preexec_fn=self._adopt,  # noqa: PLW1509 - no threads that matter here
        )

    def _adopt(self):
        """Make the terminal the one of this session, and hear Ctrl-C whoever started the tests."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def read(self, pattern, within=20):
        """Read until a pattern comes up in what was written since the last time."""
        deadline = time.monotonic() + within
        while not (found := re.search(pattern, self.text, re.DOTALL)):
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} in ...{self.text[-1500:]!r}"
            if select.select([self.master], [], [], left)[0]:
                self.text += os.read(self.master, 1 << 16).decode("utf-8", "replace")
        self.text = self.text[found.end() :]
        return found

    def press(self, keys):
        os.write(self.master, keys.encode())

    def end(self, within=20):
        """Return the exit code, and the rest of what was written."""
        deadline = time.monotonic() + within
        while self.process.poll() is None:
            assert time.monotonic() < deadline
            self._drain(0.05)
        self._drain(0)
        return self.process.returncode, self.text

    def _drain(self, within):
        while select.select([self.master], [], [], within)[0]:
            self.text += os.read(self.master, 1 << 16).decode("utf-8", "replace")


# Help


def test_every_command_has_examples_and_exit_codes(capsys):
    assert main([]) == 2
    overview = capsys.readouterr().err
    for name in ("invoke", "bench", "top", "doctor", "gc", "completion"):
        assert f"\n  {name} " in overview
        with pytest.raises(SystemExit) as left:
            main([name, "--help"])
        out, err = capsys.readouterr()
        assert (left.value.code, err) == (0, "")
        assert out.startswith(f"usage: coldframe {name}")
        assert f"\n  coldframe {name}" in out
        assert "exit codes: 0 " in out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("coldframe 0.")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["invok"], "did you mean invoke?"),
        (["invoke", "app.handler", "--code", "x", "--memry", "64"], "did you mean --memory?"),
        (["gc", "--dryrun"], "did you mean --dry-run?"),
        (["completion", "bsh"], "did you mean bash?"),
        (["invoke", "app.py", "--code", "app.py"], "app.handler --code app.py"),
        (["invoke", "app.handler", "--code", "x", "--event", __file__], f"write @{__file__}"),
    ],
)
def test_a_slip_is_told_with_what_was_meant(capsys, arguments, meant):
    try:
        code = main(arguments)
    except SystemExit as left:
        code = left.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert meant in err
    assert len(err.splitlines()) <= 2


# Colours, logs, progress


@pytest.mark.parametrize(("variables", "colours"), [({}, True), ({"NO_COLOR": "1"}, False)], ids=str)
def test_a_terminal_has_colours_unless_it_wants_none(monkeypatch, variables, colours):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with Terminal("invoke", "app.handler", "--code", "/nowhere") as terminal:
        code, text = terminal.end()
    assert code == 2
    assert ("\x1b[31m" in text) == colours


def test_a_log_does_nothing_to_a_terminal(app):
    with Terminal("invoke", "app.rude", "--code", app) as terminal:
        code, text = terminal.end()
    assert code == 0
    assert "\\u001b[2Jred\\u009b\r\nover" in text
    assert '"a\\u009bb"' in text
    assert "\x1b[2J" not in text
    code, out, err = command("invoke", "app.rude", "--code", app)
    assert json.loads(out) == "a\x9bb"
    assert "\x1b[2Jred\x9b" in err, "files and pipes have it as it was"
    assert "\x1b[3" not in err


@pytest.mark.parametrize(
    ("handler", "advice"),
    [("app.rudd", "check the last part of the handler's name"), ("ap.rude", "as app.handler does for app.py")],
)
def test_a_slip_in_the_handlers_name_ends_with_what_to_do(app, handler, advice):
    with Terminal("invoke", handler, "--code", app, columns=400) as terminal:
        code, text = terminal.end()
    assert code == 1
    assert advice in text.splitlines()[-1]


def test_what_takes_longer_than_a_second_says_so_and_ctrl_c_ends_it(app):
    with Terminal("invoke", "app.sleeps", "--code", app, "--timeout", "60") as terminal:
        terminal.read(r"running app\.sleeps, 1\.\d s")
        terminal.press("\x03")
        code, text = terminal.end()
    assert code == 130
    assert "Traceback" not in text
    assert text.endswith("\r\x1b[K"), "nothing is left of the words"
    assert _core.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whoever_ends_a_command_politely_has_it_clean_up(app, number):
    with Terminal("invoke", "app.sleeps", "--code", app, "--timeout", "60") as terminal:
        terminal.read(r"running app\.sleeps")
        terminal.process.send_signal(number)
        assert terminal.end()[0] == 128 + number
    assert _core.leftovers() == []


def test_an_event_is_asked_for_at_a_terminal(app):
    with Terminal("invoke", "app.handler", "--code", app, "--event", "-") as terminal:
        terminal.read("Ctrl-D on a line of its own")
        terminal.press("[1,\n2]\n\x04")
        terminal.read(r"\[1, 2\]\r\n$")
        assert terminal.end()[0] == 0


def test_a_reader_that_goes_away_is_no_error_of_ours():
    command_line = f"{sys.executable} -m coldframe invoke --help; echo $? >&2"
    done = subprocess.run(
        ["bash", "-c", f"({command_line}) | head -c 1"], capture_output=True, text=True, check=False, timeout=20
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipeError" not in done.stderr
    assert done.stderr in {"0\n", "1\n"}, "as it is whether there was room in the pipe"


# top


def test_top_shows_the_environments_of_another_program(app):
    assert command("top", "--once")[:2] == (
        0,
        "coldframe: 0 programs, 0 environments, 0 MB\n\nNo program of yours has environments now.\n",
    )
    with owner(app) as process:
        code, out, _ = command("top", "--once", "--json")
        assert code == 0
        (host,) = json.loads(out)["hosts"]
        assert (host["pid"], host["error"], host["in_flight"], host["invocations"]) == (process.pid, None, 1, 3)
        quick, slow = sorted(host["environments"], key=lambda each: each["function"])
        assert (quick["function"], quick["state"], quick["invocations"]) == ("quick", "frozen", 2)
        assert (slow["function"], slow["state"], slow["invocations"]) == ("slow", "busy", 1)
        for each in (quick, slow):
            assert 0 < each["memory_mb"] < each["memory_limit_mb"] == 128
            assert each["cpu_s"] > 0
            assert each["cpu_percent"] >= 0
            assert host["started"] <= each["created"] <= each["last_used"] <= host["time"] <= time.time()
        code, out, _ = command("top", "--once")
        assert code == 0
        assert re.search(rf"^ *{process.pid} slow +\w{{10}}… busy +\d+/128 +\d+ +1 +\d+s +-$", out, re.MULTILINE)
    assert _core.owners() == []


def test_top_in_a_terminal_gives_it_back_however_it_is_left(app):
    with owner(app) as process:
        for leave, expected in (("q", 0), ("\x03", 130), (signal.SIGTERM, 143)):
            with Terminal("top", "--interval", "0.2", lines=12) as terminal:
                terminal.read(r"\x1b\[\?1049h")
                terminal.read(f"{process.pid} slow .*busy")
                assert termios.tcgetattr(terminal.slave) != terminal.before
                terminal.press("s")
                terminal.read("now by cpu")
                termios.tcsetwinsize(terminal.slave, (12, 50))
                terminal.read(r"PID FUNCTION STATE    MEMORY MB  CPU%   IDLE  ")
                if isinstance(leave, str):
                    terminal.press(leave)
                else:
                    terminal.process.send_signal(leave)
                code, text = terminal.end()
                assert (code, "Traceback" in text) == (expected, False)
                assert text.endswith(LEAVE)
                assert termios.tcgetattr(terminal.slave) == terminal.before


def test_top_for_other_programs_is_a_line_a_look(app):
    with owner(app):
        looks = subprocess.Popen(
            [*COMMAND, "top", "--json", "--interval", "0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        with looks:
            first, second = (json.loads(looks.stdout.readline()) for _ in range(2))
            looks.stdout.close()
            assert looks.wait(20) == 1, "as it is with broken pipes"
            assert looks.stderr.read() == ""
    percent = [each["cpu_percent"] for look in (first, second) for each in look["hosts"][0]["environments"]]
    assert percent[:2] == [None, None]
    assert all(value >= 0 for value in percent[2:])


def test_a_fork_of_an_owner_answers_for_nobody(app, tmp_path):
    more = f"""
        import os, time
        child = os.fork()
        if child == 0:
            time.sleep(600)
            os._exit(0)
        open({str(tmp_path / "child")!r}, "w").write(str(child))
    """
    with owner(app, more) as process:
        (found,) = _core.owners()
        process.kill()
        process.wait()
        child = int((tmp_path / "child").read_text())
        try:
            assert _core.owners() == []
            place = os.open(found["directory"], os.O_PATH)
            with socket.socket(socket.AF_UNIX) as asking, pytest.raises(ConnectionRefusedError):
                asking.connect(f"/proc/self/fd/{place}/status")  # the path itself may be too long
            os.close(place)
        finally:
            os.kill(child, signal.SIGKILL)
    assert command("gc")[0] == 0


# gc


def test_gc_collects_what_the_dead_left_and_nothing_else(app, tmp_path):
    assert command("gc") == (0, "Nothing is left to collect.\n", "")
    assert not (tmp_path / "state").exists(), "to look makes nothing"
    with owner(app), owner(app) as dead:
        name = next(each["owner"] for each in _core.owners() if f"-{dead.pid}-" in each["owner"])
        dead.kill()
        dead.wait()
        code, out, err = command("gc", "--dry-run")
        assert (code, err) == (0, "")
        assert out.startswith(f"{name}: would be removed\n     directory  {tmp_path}/state/owners/{name}\n")
        assert f"{name} has ended without" in command("doctor")[1]
        (left,) = _core.leftovers()
        assert left["cgroups"]
        told = json.loads(command("gc", "--dry-run", "--json")[1])
        assert told["dry_run"] is True
        assert [each["owner"] for each in told["collected"]] == [name]
        code, out, err = command("gc", "--json")
        assert (code, err) == (0, "")
        (collected,) = json.loads(out)["collected"]
        assert (collected["owner"], collected["failures"]) == (name, [])
        assert not any(Path(path).exists() for path in [*left["cgroups"], left["directory"]])
        (living,) = _core.owners()
        (host,) = json.loads(command("top", "--once", "--json")[1])["hosts"]
        assert (host["owner"], host["in_flight"]) == (living["owner"], 1)


def test_gc_says_what_it_could_not_remove(tmp_path):
    name = "coldframe-1-0123abcd"
    home = tmp_path / "state" / "owners" / name
    home.mkdir(parents=True, mode=0o700)
    for directory in (tmp_path / "state", home.parent):
        directory.chmod(0o700)
    held = tmp_path / "tree" / name
    held.mkdir(parents=True)
    (held / "file").touch()
    (home / "lock").touch()
    (home / "cgroups").write_text(str(held))
    code, out, err = command("gc")
    assert (code, out) == (1, "")
    assert err.startswith(f"coldframe: {name}: not all of it could be removed: {held}: ")
    (told,) = json.loads(command("gc", "--json")[1])["collected"]
    assert told["failures"]
    (tmp_path / "state").chmod(0o777)
    code, _, err = command("gc")
    assert code == 1, "somebody else could have us kill what is not theirs"
    assert "others may write to it" in err


# completion

BASH = """
eval "$({command} completion bash)"
complete -p coldframe
try() {{ COMP_WORDS=(coldframe "$@"); COMP_CWORD=$#; COMPREPLY=(); _coldframe; echo "${{COMPREPLY[@]}}"; }}
try to
try ""
try invoke a.b --mem
try invoke a.b --isolation ""
try bench a.b --isolation = av
try invoke a.b --memory ""
try invoke a.b --code ap
try invoke a.b --event @ap
try completion ""
"""


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash_completes(tmp_path):
    (tmp_path / "app.py").touch()
    (tmp_path / "ap x").touch()
    script = BASH.format(command=" ".join(COMMAND))
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, check=False, timeout=20, cwd=tmp_path
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[:2] == ["complete -F _coldframe coldframe", "top"]
    assert set(lines[2].split()) == {
        *("invoke", "bench", "top", "doctor", "gc", "completion"),
        *("-h", "--help", "--version"),
    }
    assert lines[3:7] == ["--memory", "strict available", "available", ""]
    assert {lines[7], lines[8]} <= {"ap x app.py", "app.py ap x", "@ap x @app.py", "@app.py @ap x"}
    assert lines[9].split() == ["bash", "zsh", "fish", "-h", "--help"] or set(lines[9].split()) >= {
        "bash",
        "zsh",
        "fish",
    }


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_takes_its_script(tmp_path):
    script = (
        f'autoload -Uz compinit; compinit -u -D; eval "$({" ".join(COMMAND)} completion zsh)"; print $_comps[coldframe]'
    )
    done = subprocess.run(
        ["zsh", "-f", "-c", script], capture_output=True, text=True, check=False, timeout=20, cwd=tmp_path
    )
    assert (done.stdout, done.stderr) == ("_coldframe\n", "")


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_completes(tmp_path):
    script = f"""
    {" ".join(COMMAND)} completion fish | source
    complete -C 'coldframe to'
    complete -C 'coldframe invoke a.b --mem'
    complete -C 'coldframe invoke a.b --isolation s'
    """
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], capture_output=True, text=True, check=False, timeout=20, env=environment
    )
    assert done.stderr == ""
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["top", "--memory", "strict"]


@pytest.mark.parametrize("arguments", [["doctor"], ["--version"], ["top", "--once"]], ids=" ".join)
def test_an_output_that_cannot_be_written_is_said_in_a_line(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "coldframe: the output cannot be written: [Errno 28] No space left on device\n"
