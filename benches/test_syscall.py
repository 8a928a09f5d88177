"""SPECIFICATION: a system call costs at most 1.4 times as much inside as outside."""

import shutil
import statistics
import subprocess

import pytest
from measuring import ONE_VCPU_MB

import coldframe

CALLS = 20_000
ROUNDS = 21
KINDS = ("getppid", "stat", "open and close")
RUN = """
import subprocess

def handler(arguments, context):
    return subprocess.run(["./calls", *arguments], capture_output=True, check=True, text=True).stdout
"""
FILE = "/usr/bin/env"
"""One file of one file system inside and outside, in /usr as almost all that handlers open."""


def nanoseconds(printed: str) -> list[float]:
    return [float(word) for word in printed.split()]


@pytest.mark.timeout(120)
def test_system_calls_inside_against_outside(benchmark, promise, tmp_path, host, program):
    (tmp_path / "app.py").write_text(RUN)
    outside = shutil.copy(program("calls", "-static"), tmp_path)
    arguments = [FILE, str(CALLS)]
    costs: dict[str, list[list[float]]] = {"inside": [], "outside": []}

    with coldframe.Function("app.handler", tmp_path, memory_mb=ONE_VCPU_MB, timeout_s=20, host=host) as fn:

        def turn() -> None:
            costs["inside"].append(nanoseconds(fn(arguments)))
            command = subprocess.run([outside, *arguments], capture_output=True, check=True, text=True)
            costs["outside"].append(nanoseconds(command.stdout))

        benchmark.pedantic(turn, rounds=ROUNDS, warmup_rounds=1)
    for kind, inside, beyond in zip(KINDS, *(zip(*rounds, strict=True) for rounds in costs.values()), strict=True):
        ns = {"inside_ns": statistics.median(inside), "outside_ns": statistics.median(beyond)}
        promise(f"{kind}, inside / outside", ns["inside_ns"] / ns["outside_ns"], at_most=1.4, **ns)
