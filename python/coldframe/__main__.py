"""The command `coldframe`, also as `python -m coldframe`."""

import sys

from coldframe._cli import main

if __name__ == "__main__":
    sys.exit(main())
