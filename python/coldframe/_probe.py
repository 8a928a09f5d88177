"""Asks an interpreter what it is: imported by the one that embeds coldframe, run as a script by any other.

It works on CPython 3.9 and later, and says enough on older ones and on other implementations to be refused.
"""

import json
import os
import site
import sys
import sysconfig
from typing import Any


def probe() -> "dict[str, Any]":
    """Return what this interpreter says of itself; nothing is checked or left out here."""
    version = "{}.{}".format(*sys.version_info[:2])
    executable = getattr(sys, "_base_executable", None) or sys.executable
    binaries = sysconfig.get_config_var("BINDIR") or os.path.join(sys.base_prefix, "bin")
    standard = sysconfig.get_path("stdlib") or os.path.dirname(os.__file__)
    dynamic = sysconfig.get_config_var("DESTSHARED") or os.path.join(standard, "lib-dynload")
    sites = [*site.getsitepackages(), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    if site.ENABLE_USER_SITE:
        sites.append(site.getusersitepackages())
    return {
        "implementation": sys.implementation.name,
        "version": list(sys.version_info[:3]),
        # An embedding program may call itself the executable; then the interpreter's own is where it was installed.
        "executables": [executable, os.path.join(binaries, "python" + version), os.path.join(binaries, "python3")],
        "base_prefixes": [sys.base_prefix, sys.base_exec_prefix],
        "prefixes": [sys.prefix, sys.exec_prefix],
        "stdlib": [standard, os.path.join(standard, "lib-dynload"), dynamic],
        "site": sites,
    }


if __name__ == "__main__":
    json.dump(probe(), sys.stdout)
