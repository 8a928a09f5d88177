"""Files and mounts: O01 to O07."""

from pathlib import Path

import pytest

from .attacks import EVALUATE


@pytest.mark.bank("O01")
def test_files_of_the_host_are_absent(attack, canary):
    paths = ["/etc/shadow", "/etc/machine-id", "/root/.bashrc", "/home", str(canary)]
    assert attack(EVALUATE, [f"os.stat({path!r})" for path in paths]).payload == ["ENOENT"] * len(paths)


@pytest.mark.bank("O01", twin=True)
def test_without_the_allow_list_files_of_the_host_are_read(attack, without):
    invocation = attack(EVALUATE, "open('/etc/passwd').read()", host=without("root"))
    assert invocation.payload == Path("/etc/passwd").read_text()
