"""As root: a host user that no other live environment has."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, coldframe
fn = coldframe.Function("app.handler", sys.argv[1])
print(fn(0), flush=True)
sys.stdin.read()
"""


@pytest.mark.needs("root")
def test_owners_with_other_state_directories_have_other_users(tmp_path):
    code = tmp_path / "app.py"
    code.write_text("def handler(event, context):\n    return open('/proc/self/uid_map').read().split()[1]\n")
    users, owners = [], []
    try:
        for name in ("one", "two"):
            owner = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(code)],
                env={"COLDFRAME_STATE_DIR": str(tmp_path / name), "PATH": "/usr/bin:/bin"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            owners.append(owner)
            users.append(owner.stdout.readline().strip())
    finally:
        for owner in owners:
            owner.communicate(timeout=20)
    assert all(user.isdigit() for user in users)
    assert len(set(users)) == 2
