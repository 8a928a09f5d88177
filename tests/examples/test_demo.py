"""``examples/demo.py``, the main job that ``make demo`` runs: its output and its exit status."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"

COLD, WARM, MEMORY, TIME = range(4)


@pytest.mark.timeout(120)
def test_the_demo_runs_its_four_steps_as_expected() -> None:
    done = subprocess.run([sys.executable, DEMO], capture_output=True, encoding="utf-8", timeout=110, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout

    assert done.stdout.count('{"message": "Hello, Ada!"}') == 2
    assert re.findall(r"^    (\w+): ", done.stdout, re.MULTILINE) == ["OutOfMemoryError", "InvocationTimeout"]
    reports = [line.strip() for line in done.stdout.splitlines() if line.strip().startswith("REPORT RequestId: ")]
    assert len(reports) == 4
    assert "Init Duration: " in reports[COLD]
    assert "Init Duration: " not in reports[WARM]
    assert "Status: error\tError Type: Runtime.OutOfMemory" in reports[MEMORY]
    assert "Status: timeout" in reports[TIME]
