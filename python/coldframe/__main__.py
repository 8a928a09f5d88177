"""The command `coldframe`, also as `python -m coldframe`."""

import sys


def main() -> int:
    """Run the command, and return its exit code."""
    try:
        from coldframe._cli import main as run  # noqa: PLC0415 - Ctrl-C may come before there is anybody to hear it
    except KeyboardInterrupt:
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
