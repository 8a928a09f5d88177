"""The CPythons of this machine."""

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

OLDEST_EMBEDDING = 11
"""The minor version from which on coldframe itself can be imported; as `runtime=` it takes older ones."""


@cache
def interpreters():
    """Return the CPythons from 3.9 on, by version: the one that runs the tests, those on the path and beside it."""
    siblings = Path(sys.base_prefix).parent
    found = {f"3.{sys.version_info[1]}": str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info[1]}")}
    for minor in range(9, 16):
        name = f"python3.{minor}"
        for candidate in [*sorted(siblings.glob(f"*/bin/{name}")), *filter(None, [shutil.which(name)])]:
            check = "import sys; print(sys.version_info[1] if sys.implementation.name == 'cpython' else 0)"
            told = subprocess.run([candidate, "-I", "-S", "-c", check], capture_output=True, text=True, check=False)
            if told.stdout.strip() == str(minor):
                found.setdefault(f"3.{minor}", str(candidate))
                break
    return found


def embedding():
    """Return those of them that can import coldframe."""
    return {version: path for version, path in interpreters().items() if int(version[2:]) >= OLDEST_EMBEDDING}
