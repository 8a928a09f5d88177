"""Tests of what is released: the wheels and the source distribution in the directory that COLDFRAME_WHEELS names.

`make test-wheels` makes them and says so; in any other run there is nothing here to test.
"""

import os

collect_ignore_glob = [] if "COLDFRAME_WHEELS" in os.environ else ["test_*.py"]
