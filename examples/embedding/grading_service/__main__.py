"""Start the service: `python -m grading_service --help`."""

import argparse
import os
from pathlib import Path

import uvicorn

from .app import make_app

GRACE_S = 30
CONNECTIONS = 200


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m grading_service", description="Grade submissions over HTTP.")
    parser.add_argument("--problems", type=Path, default=Path(__file__).with_name("problems"), help="folder of *.json")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--side-by-side", type=int, default=2 * (os.cpu_count() or 1), help="runs at a time (default: %(default)s)"
    )
    parser.add_argument("--places", type=int, default=32, help="submissions at a time, running or waiting; then 429")
    options = parser.parse_args()
    app = make_app(options.problems, side_by_side=options.side_by_side, places=options.places)
    uvicorn.run(
        app,
        port=options.port,
        limit_concurrency=CONNECTIONS,  # so many bodies are in memory at the most
        timeout_graceful_shutdown=GRACE_S,  # what is being graded may end; then it is cancelled
    )


if __name__ == "__main__":
    main()
