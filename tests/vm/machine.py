"""Boot an emulated machine on this machine's files, with Debian's kernel, and run a program in it as root.

    python tests/vm/machine.py [--within SECONDS] [--set NAME=VALUE ...] PROGRAM [ARGUMENT ...]

Its output is passed on, its exit code is ours; 124 is that of a machine that had to be stopped. What the kernel says
goes to target/vm/console.log. Nothing but the processor is emulated in full: the machine reads this one's root file
system (9p, read-only), so that the project, its virtual environment and every tool are where they are here. Its cgroups
are those of a distribution of today: the version 2 tree, and nothing else.

What is needed is installed when it is missing (by root, on Debian): QEMU, busybox, and kmod. The kernel is unpacked
below target/vm and never installed; virtme-ng, which knows how to boot this way, is in the virtual environment.
"""

import argparse
import itertools
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "target/vm"
PACKAGES = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "depmod": "kmod", "ip": "iproute2"}
MEMORY = "3G"
KERNEL = (
    "pci=nomsi",  # interrupts by message hang now and then at boot where the processor is emulated
    "tsc=unstable",  # its clock cannot be measured when this machine is busy, and then seconds are longer or shorter
    "mitigations=off",  # they cost the emulator half of its time, and protect nobody
    "loglevel=5",
)
STOPPED = 124
PATH = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def apt(*arguments, **options):
    """Run apt-get, quietly unless it fails."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "-qq", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}: {done.stdout}{done.stderr}")


def tools():
    """Install what boots a machine."""
    if platform.machine() != "x86_64":
        raise SystemExit("the emulated machine is an x86-64 one, on its like")
    missing = [package for program, package in PACKAGES.items() if not shutil.which(program, path=PATH)]
    if not missing:
        return
    install = ["install", "--no-install-recommends", "-y", *missing]
    if os.getuid() != 0 or not shutil.which("apt-get"):
        raise SystemExit(
            f"the machine cannot be booted without {' '.join(missing)}; as root: apt-get {' '.join(install)}"
        )
    apt("update")
    apt(*install)


def kernel():
    """Return Debian's kernel for a PC, unpacked with its modules beside it."""
    found = sorted(PLACE.glob("kernel/boot/vmlinuz-*"))
    if found:
        return found[-1]
    name = newest() or (apt("update"), newest())[1]
    if not name:
        raise SystemExit("no package linux-image-amd64 is known here; tests/vm wants Debian's")
    shutil.rmtree(PLACE, ignore_errors=True)
    unpacked = PLACE / "unpacked"
    unpacked.mkdir(parents=True)
    apt("-o", "APT::Sandbox::User=root", "download", name, cwd=PLACE)
    (package,) = PLACE.glob("*.deb")
    subprocess.run(["dpkg", "-x", package, unpacked], check=True)
    package.unlink()
    unpacked.rename(PLACE / "kernel")
    return kernel()


def newest():
    """Return the name of the package of the kernel that linux-image-amd64 stands for; None if there is none."""
    known = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True, check=False)
    return next((line.split()[-1] for line in known.stdout.splitlines() if "Depends: linux-image-" in line), None)


def command(image, out):
    """Return the command that boots the machine, which finds its program in the folder `out` and writes there."""
    return [
        *("virtme-run", "--kimg", image, "--mods", "auto", "--disable-kvm", "--force-9p"),
        *("--cpus", "1", "--memory", MEMORY, "--show-boot-console"),
        *itertools.chain.from_iterable(("-a", argument) for argument in KERNEL),
        *("--rwdir", f"/run/out={out}", "--script-sh", f"bash /run/out/inside.sh {shlex.quote(str(ROOT))}"),
        *("--qemu-opts", "-virtfs", "local,path=/,mount_tag=files,security_model=none,readonly=on,multidevs=remap"),
    ]


def boot(program, variables, within_s):
    """Run a program in a machine of its own and pass on what it says; return its exit code."""
    image = kernel()
    with tempfile.TemporaryDirectory(dir=PLACE) as folder, open(PLACE / "console.log", "wb") as console:
        out = Path(folder)
        shutil.copy(ROOT / "tests/vm/inside.sh", out)
        out.joinpath("program").write_text(f"exec {shlex.join(['env', *variables, *program])}\n")
        with open(out / "said", "w+b") as said:
            # In a session of its own, to be stopped with all that it started.
            machine = subprocess.Popen(
                command(image, out),
                env=os.environ | {"PATH": PATH},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
            deadline = time.monotonic() + within_s
            try:
                running = True
                while running:
                    running = machine.poll() is None and time.monotonic() < deadline
                    shutil.copyfileobj(said, sys.stdout.buffer)
                    sys.stdout.buffer.flush()
                    time.sleep(0.2)  # the rhythm of looking
            finally:
                if machine.poll() is None:
                    os.killpg(machine.pid, signal.SIGKILL)
                    machine.wait()
        with suppress(OSError, ValueError):
            return int(out.joinpath("code").read_text())
    print(f"the machine did not end by itself within {within_s:.0f} s; {PLACE}/console.log has its kernel's last words")
    return STOPPED


def main():
    """Boot, run, and end as the program inside did."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--within", type=float, default=900, metavar="SECONDS", help="stop it then (default: 900)")
    options.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a variable inside")
    options.add_argument("program", nargs=argparse.REMAINDER)
    chosen = options.parse_args()
    # Whoever ends this ends the machine.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    tools()
    raise SystemExit(boot(chosen.program, chosen.set, chosen.within))


if __name__ == "__main__":
    main()
