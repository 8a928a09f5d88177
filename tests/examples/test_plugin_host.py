"""The example ``embedding/plugin_host``: the program with its own plug-ins, and with hostile ones beside them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EMBEDDING = Path(__file__).resolve().parents[2] / "examples" / "embedding"
PLUGINS = EMBEDDING / "plugin_host" / "plugins"
SECRET = "the owner's secret"
MANIFEST = 'handler = "plugin.handler"\nhooks = ["comment"]\nmemory_mb = 100_000\ntimeout_s = inf\n'
AT_A_COMMENT = "def handler(event, context):\n    if event['hook'] == 'load': return {}\n    "
HOSTILE = {
    "deep": "answer = []\n    for _ in range(100_000): answer = [answer]\n    return {'state': answer}",
    "exits": "import os; os._exit(0)",
    "fat": "return {'state': 'x' * 20_000}",
    "forks": "import os\n    while True:\n        try: os.fork()\n        except OSError: pass",
    "hoards": "hoard = []\n    while True: hoard.append(bytearray(1 << 20))",
    "odd": "return {'labels': ['x'] * 6}",
    "paints": "raise ValueError('\\x1b[31mred')",
    "spoof": "return {'labels': ['\\x1b[31mred']}",
}
REFUSED = {
    "garbled": ("hooks = [", "plugin.toml: "),
    "greedy": ('hooks = ["comment"]\nmemory_mb = "all"', "memory_mb must be a number"),
    "hooked": ('hooks = ["shutdown"]', "hooks must be a list of some of these: comment"),
    "nested": ("hooks = " + "[" * 3000, "plugin.toml: "),
    "never": ('hooks = ["comment"]\ntimeout_s = nan', "timeout_s"),
    "wordy": ('hooks = ["comment"]\nnetwork = true', "unknown keys: network"),
}
SPY = (
    AT_A_COMMENT
    + f"""
    import os
    seen = []
    for place in ("/var/task", "/opt", "/tmp", "/mnt", {str(EMBEDDING)!r}):
        for folder, _, files in os.walk(place):
            seen += [file for file in files if file not in ("plugin.toml", "plugin.py") and not file.endswith(".pyc")]
    return {{"labels": sorted(seen)[:5] or ["saw nothing"]}}
"""
)
COMMENTS = [
    {"author": "ada", "text": "Well explained.", "rating": 5},
    {"author": "bob", "text": "http://a.example http://b.example http://c.example", "rating": 5},
    {"author": "ada", "text": "See https://example.org/2", "rating": 1},
    {"author": "ada", "text": "Thank you.", "rating": 5},
]


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "plugin_host", *map(str, arguments)]
    done = subprocess.run(command, cwd=EMBEDDING, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return done


def plugin(folder: Path, code: str, manifest: str = MANIFEST) -> None:
    folder.mkdir()
    (folder / "plugin.toml").write_text(manifest, encoding="utf-8")
    (folder / "plugin.py").write_text(code, encoding="utf-8")


def test_as_it_comes() -> None:
    done = run()
    assert [line.split(maxsplit=2) for line in done.stdout.splitlines()] == [
        ["plug-ins:", "fragile", "links regulars sleepy"],
        ["ada", "published", "praise"],
        ["bob", "rejected", "links: 3 links"],
        ["ada", "published", "links"],  # fragile stumbled, and was there again
        ["cleo", "published"],
        ["ada", "published", "regular"],
    ]
    (said,) = done.stderr.splitlines()
    assert said.startswith("plug-in sleepy is switched off: 3 failures in a row, the last one: Sandbox.Timedout")
    assert "0.50 seconds" in said  # and not ten minutes


@pytest.mark.timeout(90)
def test_hostile_plugins_are_switched_off_and_the_others_do_not_notice(tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    for good in ("links", "regulars"):
        shutil.copytree(PLUGINS / good, folder / good)
    for name, code in HOSTILE.items():
        plugin(folder / name, AT_A_COMMENT + code)
    for name, (manifest, _) in REFUSED.items():
        plugin(folder / name, "", manifest)
    plugin(folder / "looks", SPY)
    plugin(folder / "loops", "while True: pass")
    plugin(folder / "throws", "1 / 0")
    (tmp_path / "secret").write_text(SECRET, encoding="utf-8")
    (folder / "linked").mkdir()
    (folder / "linked" / "plugin.toml").symlink_to(tmp_path / "secret")
    (folder / "link").symlink_to(PLUGINS / "links")
    (folder / "Not a name").mkdir()
    comments = tmp_path / "comments.jsonl"
    comments.write_text("".join(json.dumps(comment) + "\n" for comment in COMMENTS), encoding="utf-8")

    done = run("--plugins", folder, comments)
    assert [line.split(maxsplit=2) for line in done.stdout.splitlines()[1:]] == [
        ["ada", "published", "saw nothing"],
        ["bob", "rejected", "links: 3 links"],
        ["ada", "published", "links, saw nothing"],
        ["ada", "published", "regular, saw nothing"],
    ]
    off = dict(re.findall(r"^plug-in (\S+) is switched off: (.*)$", done.stderr, re.MULTILINE))
    assert off.keys() == HOSTILE.keys() | {"loops", "throws"}
    assert off["loops"] == "it cannot be loaded: no answer within 2 s"
    assert off["throws"] == "it cannot be loaded: ZeroDivisionError: division by zero"
    assert off["exits"].endswith("Runtime exited without providing a reason")
    assert off["odd"].endswith("labels must be a list of at most 5 short texts")
    not_loaded = dict(re.findall(r"^plug-in (.+) is not loaded: (.*)$", done.stderr, re.MULTILINE))
    assert not_loaded.keys() == REFUSED.keys() | {"linked", "link", "Not a name"}
    assert [name for name, (_, why) in REFUSED.items() if why not in not_loaded[name]] == []
    assert not_loaded["linked"] == "plugin.toml cannot be read: Too many levels of symbolic links"
    assert not_loaded["link"] == "a plug-in is a folder, and no link to one"
    assert SECRET not in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
