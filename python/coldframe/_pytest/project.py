"""The project as an environment sees it, and the way back to the paths that people know.

The root directory of the run is shown by `mounts=`, read-only, and is not copied as `code=`: it may hold gigabytes (a
virtual environment, data, a repository's history), tests read whatever files of it they like, and nobody knows which.
A mount costs a fraction of a millisecond, however large the directory is.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


class Project:
    """The root directory of a run: `root` on the host, `place` inside, `folder` the working directory inside."""

    def __init__(self, config: pytest.Config) -> None:
        """Choose the place."""
        self.root = config.rootpath
        name = re.sub(r"[^a-zA-Z0-9._-]+", "-", self.root.name).strip(".-") or "project"
        self.place = f"/mnt/{name}"
        self.folder = self.inside(config.invocation_params.dir) or self.place

    def inside(self, path: str | os.PathLike[str]) -> str | None:
        """Return where a path of the host is inside; None if it is not in the project."""
        try:
            below = Path(path).relative_to(self.root)
        except ValueError:
            return None
        return os.path.normpath(f"{self.place}/{below}")

    def outside(self, path: str) -> str:
        """Return a path of a traceback as pytest shows it here: relative if it was, of the host if it is the project's.

        Others, such as those of installed packages, are the same on both sides.
        """
        known = os.path.normpath(os.path.join(self.folder, path))
        if known != self.place and not known.startswith(f"{self.place}/"):
            return path
        here = f"{self.root}{known.removeprefix(self.place)}"
        return here if os.path.isabs(path) else os.path.relpath(here)

    def in_text(self, text: str) -> str:
        """Return a text that pytest, or Python, has written of the project, with the paths of the host."""
        return text.replace(f"{self.place}/", f"{self.root}/")
