"""SPECIFICATION: a thousand environments made and destroyed leave nothing behind."""

import os
from pathlib import Path

import psutil

import coldframe

ENVIRONMENTS = 1000


def traces() -> dict[str, object]:
    """What could be left: processes, descriptors, cgroups, mounts, directories."""
    cgroups = [path for path in Path("/sys/fs/cgroup").rglob(f"coldframe-{os.getpid()}-*") if path.is_dir()]
    owners = Path(os.environ.get("COLDFRAME_STATE_DIR", "/var/lib/coldframe"), "owners")
    return {
        "processes": len(psutil.Process().children(recursive=True)),
        "descriptors": psutil.Process().num_fds(),
        "cgroups": sorted(map(str, cgroups)),
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "directories": sorted(str(path) for path in owners.glob(f"coldframe-{os.getpid()}-*")),
    }


def test_nothing_is_left(benchmark, echo):
    with coldframe.Host() as host, coldframe.Function("app.handler", code=echo, host=host) as fn:
        fn({})  # whatever the process opens once and keeps is there before the count
    before = traces()

    def all_of_them() -> None:
        with (
            coldframe.Host() as host,
            coldframe.Function("app.handler", code=echo, memory_mb=1769, reuse=False, host=host) as fn,
        ):
            assert sum(1 for _ in fn.map({"n": n} for n in range(ENVIRONMENTS))) == ENVIRONMENTS

    benchmark.pedantic(all_of_them, rounds=1)
    assert traces() == before
