"""A scripted conversation that uses the tool, or calls from elsewhere: `python -m agent_tool --help`."""

import argparse
import json
import sys
from pathlib import Path

from .files import save
from .tool import PythonTool, describe
from .workspace import Workspace

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m agent_tool", description="Run the Python that a model writes.")
    parser.add_argument("--describe", action="store_true", help="print the description of the tool for a model")
    parser.add_argument("--calls", action="store_true", help="read a call a line from standard input, as JSON")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds for a call (default: %(default)s)")
    parser.add_argument("--memory", type=int, default=1024, help="MB for a call (default: %(default)s)")
    parser.add_argument("--file", type=Path, action="append", default=[], help="a file that goes in; more than once")
    parser.add_argument("--save", type=Path, help="folder for the files that come out")
    options = parser.parse_args()
    if options.describe:
        print(json.dumps(describe(options.memory, options.timeout), indent=2))
        return
    with PythonTool(memory_mb=options.memory, timeout_s=options.timeout) as tool:
        if options.calls:
            workspace = Workspace(tool, {path.name: path.read_bytes() for path in options.file})
            for line in sys.stdin:
                print(json.dumps(workspace.call(parse(line)), ensure_ascii=False), flush=True)
        else:
            workspace = Workspace(tool, {"sales.csv": (HERE / "sales.csv").read_bytes()})
            play(workspace)
    if options.save:
        save(workspace.files, options.save)


def play(workspace: Workspace) -> None:
    """Play the conversation: where a model would be asked there is a script."""
    for turn in json.loads((HERE / "conversation.json").read_text(encoding="utf-8")):
        for who in ("user", "model"):
            if turn.get(who):
                print(f"{who}: {turn[who]}")
        if "code" in turn:
            print_indented("code:", turn["code"])
            answer = workspace.call({"code": turn["code"]})
            for name, what in answer.items():
                print_indented(f"{name}:", what if isinstance(what, str) else ", ".join(what))


def parse(line: str) -> object:
    """Return a line of JSON; what is none becomes None, which no call can be."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def print_indented(title: str, text: str) -> None:
    """Print a text under a title, without the terminal's control sequences that it may have."""
    lines = ("".join(filter(str.isprintable, line)) for line in text.splitlines())
    print(f"  {title:<10}" + f"\n  {'':<10}".join(lines))


if __name__ == "__main__":
    main()
