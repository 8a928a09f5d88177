"""A desk for comments, which plug-ins label and reject: `python -m plugin_host [--plugins FOLDER] [COMMENTS.jsonl]`."""

import argparse
import json
import logging
from pathlib import Path

from .plugins import Plugins

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m plugin_host", description="Have plug-ins look at comments.")
    parser.add_argument("comments", nargs="?", type=Path, default=HERE / "comments.jsonl")
    parser.add_argument("--plugins", type=Path, default=HERE / "plugins", help="folder of plug-ins")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    with Plugins(options.plugins) as plugins, options.comments.open(encoding="utf-8") as comments:
        print("plug-ins:", *(plugin.name for plugin in plugins.plugins if plugin.disabled is None))
        for line in comments:
            comment = json.loads(line)
            answers = plugins.fire("comment", comment)
            reasons = [f"{name}: {answer.reject}" for name, answer in answers.items() if answer.reject]
            labels = sorted({label for answer in answers.values() for label in answer.labels})
            verdict, why = ("rejected", "; ".join(reasons)) if reasons else ("published", ", ".join(labels))
            print(f"{comment['author']:<8}{verdict:<11}{why}")


if __name__ == "__main__":
    main()
