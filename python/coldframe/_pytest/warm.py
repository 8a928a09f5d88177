"""Imported before an environment is forked, in the zygote of marked tests: pytest, and what it does once a process.

It must leave no thread, no open file and no shared memory behind, and know nothing of any project.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from contextlib import suppress

import _pytest
import pytest  # noqa: F401 - for those who import it next

# Inside, a stand-in takes this name, and the pytest there puts the real one back.
coldframe = sys.modules["coldframe"]

for _found in pkgutil.walk_packages(_pytest.__path__, "_pytest."):
    with suppress(Exception):  # made for other systems, or for older interpreters
        importlib.import_module(_found.name)
for _name in ("difflib", "pprint", "pygments.formatters.terminal", "pygments.lexers.diff", "pygments.lexers.python"):
    with suppress(ImportError):
        importlib.import_module(_name)

# The first traceback of a process looks at the source files of all modules, and remembers which is whose.
inspect.getmodule(inspect.currentframe())
