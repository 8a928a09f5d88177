"""Where what is released was built."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILT = Path(os.environ.get("COLDFRAME_WHEELS", "")).resolve()
WHEELS = sorted(BUILT.glob("*.whl"))


def machine(wheel):
    """Return the machine that a wheel is for, as `platform.machine` names it."""
    return "aarch64" if wheel.stem.endswith("aarch64") else "x86_64"
