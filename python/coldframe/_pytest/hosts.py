"""The host that the tests of a process share."""

from __future__ import annotations

import os

import pytest

from coldframe import Host

_HOST = pytest.StashKey[Host]()


def shared(config: pytest.Config) -> Host:
    """Return the host of a run, made when it is first needed and closed when the run ends.

    Each worker of pytest-xdist is a process of its own, with a host of its own: they share the memory that one host
    would promise to use, in equal parts.
    """
    host = config.stash.get(_HOST, None)
    if host is None or host.closed:
        host = config.stash[_HOST] = Host(max_memory_mb=_part())
        config.add_cleanup(host.close)
    return host


def _part() -> int | None:
    """Return the MiB of a worker; None, which is all that there is, if the run has no other."""
    workers = os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    if "PYTEST_XDIST_WORKER" not in os.environ or not workers.isdecimal() or int(workers) <= 1:
        return None
    with Host() as alone:
        return max(1, alone.max_memory_mb // int(workers))
