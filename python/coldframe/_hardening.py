"""The few protections that are left to the caller's choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from coldframe._options import check_whole, shown
from coldframe.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Hardening:
    """Switches of a function's isolation; everything else is always on.

    `proc` is what `/proc` shows: "pid" is the environment's processes only, "masked" also cpuinfo, meminfo and the
    like; None is the runtime's default, "pid" for Python. `noexec_tmp` forbids running programs from `/tmp`.
    `on_unclean` says what follows when a module of `preload` cannot be imported in a zygote, or leaves something
    there that forks would share or lose: threads, shared memory, open descriptors. "error" is a `ConfigurationError`
    at the first start, "cold" has each environment import that module itself, as it is anyway with `preload="auto"`.

    How large a function may be, in MiB, is Lambda's by default: its code and layers together when they are unpacked,
    each `.zip` file, and a container image when it is unpacked.
    """

    proc: Literal["pid", "masked"] | None = None
    noexec_tmp: bool = False
    on_unclean: Literal["error", "cold"] = "error"
    max_code_mb: int = 250
    max_zip_mb: int = 50
    max_image_mb: int = 10_240

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.proc not in ("pid", "masked", None):
            raise ConfigurationError(f'Hardening(proc={shown(self.proc)}): use "pid", "masked" or None')
        if not isinstance(self.noexec_tmp, bool):
            raise ConfigurationError(f"Hardening(noexec_tmp={shown(self.noexec_tmp)}): use True or False")
        if self.on_unclean not in ("error", "cold"):
            raise ConfigurationError(f'Hardening(on_unclean={shown(self.on_unclean)}): use "error" or "cold"')
        for name in ("max_code_mb", "max_zip_mb", "max_image_mb"):
            check_whole(f"Hardening {name}", getattr(self, name), 1)
