"""What is imported once, in the zygote, instead of in the environment of every marked test."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from coldframe._interpreter import describe
from coldframe._preload import imported, installed_in
from coldframe._source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from coldframe._pytest.description import Description

_WARM = "coldframe._pytest.warm"
_MOST_FILES = 100


def names(session: pytest.Session, description: Description) -> list[str]:
    """Return pytest, its plugins, and the installed packages that the marked tests import, by the names of modules.

    Never a module of the project itself, whatever imports it: a zygote has nothing of the project's.
    """
    installed = installed_in(describe("python").site)
    inside = {name for name, path in installed.items() if _is_the_projects(path, description)}
    found = {_WARM, *(module for _, module in description.plugins)}
    found |= set(_of_tests(session, description)) - sys.stdlib_module_names - {"coldframe"}
    tops = {name: name.partition(".")[0] for name in found}
    return sorted(name for name, top in tops.items() if top in installed and (top not in inside or name == _WARM))


def _of_tests(session: pytest.Session, description: Description) -> Iterator[str]:
    """Yield what the files of marked tests import, and the conftest files above them, through modules of the project."""
    files = {item.path: None for item in session.items if item.get_closest_marker("coldframe")}
    folders = {str(parent): None for path in files for parent in path.parents if description.project.inside(parent)}
    queue = [(str(path.parent), path.stem) for path in files] + [(folder, "conftest") for folder in folders]
    roots = [folder for folder in sys.path if description.project.inside(os.path.abspath(folder))]
    seen = set(queue)
    for _ in range(_MOST_FILES):
        if not queue:
            return
        folder, module = queue.pop(0)
        with Source(folder) as source:
            tops = imported(source, f"{module}.test")
        yield from tops
        for root in roots:
            for top in tops:
                place = os.path.join(root, top)  # noqa: PTH118 - as sys.path spells it
                if (root, top) not in seen and (os.path.isdir(place) or os.path.isfile(f"{place}.py")):  # noqa: PTH112, PTH113
                    seen.add((root, top))
                    queue.append((root, top))


def _is_the_projects(path: str, description: Description) -> bool:
    """Return whether an installed package is the project's own: an editable install."""
    return description.project.inside(path) is not None and "site-packages" not in path
