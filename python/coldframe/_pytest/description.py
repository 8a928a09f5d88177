"""What the pytest in an environment is told: which test, with the options, plugins and markers of the run outside."""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from coldframe._pytest.project import Project
from coldframe.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

# Plugins that spread tests, time them, try them again, measure the process or write about the run: that is done
# outside, once for all tests. Each by the first part of its module's name.
_OUTSIDE = frozenset(
    {
        "allure_pytest",
        "coldframe",
        "flaky",
        "pytest_cov",
        "pytest_forked",
        "pytest_html",
        "pytest_instafail",
        "pytest_jsonreport",
        "pytest_metadata",
        "pytest_picked",
        "pytest_reportlog",
        "pytest_rerunfailures",
        "pytest_sugar",
        "pytest_testmon",
        "pytest_timeout",
        "xdist",
    }
)
# Of pytest's own: the terminal's reporters.
_WITHOUT = ("terminal", "terminalprogress", "coldframe.pytest_plugin")
# Settings of plugins that stay outside are unknown inside, log_cli is for a terminal, and the project cannot be written.
_SETTINGS = ("required_plugins=", "strict_config=false", "log_cli=false", "cache_dir=/tmp/pytest_cache")

# Options that choose among tests, name places of the host, or stop a run: they have had their effect outside, or go
# another way (as arguments).
_NOT_PASSED = frozenset(
    {
        "basetemp",
        "cacheclear",
        "cacheshow",
        "collectonly",
        "confcutdir",
        "debug",
        "deselect",
        "disable_plugin_autoload",
        "failedfirst",
        "file_or_dir",
        "help",
        "ignore",
        "ignore_glob",
        "inifilename",
        "keyword",
        "lf",
        "log_file",
        "markexpr",
        "maxfail",
        "newfirst",
        "override_ini",
        "pastebin",
        "plugins",
        "pyargs",
        "pythonwarnings",
        "rootdir",
        "stepwise",
        "stepwise_reset",
        "stepwise_skip",
        "strict_config",
        "trace",
        "traceconfig",
        "usepdb",
        "usepdb_cls",
        "version",
        "xmlpath",
    }
)
_SIGNS_OF_CI = ("CI", "BUILD_NUMBER")
_OF_WORKERS = ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID")


class Description:
    """What is the same for every test of a run."""

    def __init__(self, config: pytest.Config) -> None:
        """Look at the run."""
        self.project = Project(config)
        self.plugins = list(_plugins(config))
        reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._told = {
            "folder": self.project.folder,
            "args": self._arguments(config),
            "options": {name: value for name, value in vars(config.option).items() if _passes(name, value)},
            "plugins": self.plugins,
            "markers": list(config.getini("markers")),
            "colours": bool(reporter and reporter._tw.hasmarkup),  # noqa: SLF001 - as pytest's own plugins do
            "env": {name: os.environ[name] for name in (*_SIGNS_OF_CI, *_OF_WORKERS) if name in os.environ},
            "worker": os.environ.get("PYTEST_XDIST_WORKER", "master") if config.pluginmanager.has_plugin("xdist") else "",
        }
        if config.pluginmanager.has_plugin("hypothesispytest"):
            self._told["env"]["HYPOTHESIS_STORAGE_DIRECTORY"] = "/tmp/hypothesis"  # noqa: S108 - inside

    def of(self, item: pytest.Item, *, whole_file: bool) -> dict[str, Any]:
        """Return what an environment is told that is to run `item`, or any test of its file.

        Raises:
            ConfigurationError: The test is in no place that is there inside.
        """
        path = self.project.inside(item.path)
        if path is None:
            raise ConfigurationError(f"{item.path} is not in the root directory of the run, {self.project.root}")
        _, separator, names = item.nodeid.partition("::")
        target = path if whole_file else f"{path}{separator}{names}"
        return {**self._told, "args": [*self._told["args"], target], "path": self._search_path()}

    def _arguments(self, config: pytest.Config) -> list[str]:
        """Return the arguments that stand for the configuration: where it is, and what overrides it."""
        arguments = ["--rootdir", self.project.place]
        if config.inipath is not None:
            inside = self.project.inside(config.inipath)
            if inside is None:
                raise ConfigurationError(
                    f"the configuration file {config.inipath} is not in the root directory of the run, "
                    f"{self.project.root}, of which alone an environment sees the files"
                )
            arguments += ["-c", inside]
        if cut := config.getoption("confcutdir", default=None):
            arguments += ["--confcutdir", self.project.inside(os.path.abspath(cut)) or self.project.place]
        given = [name for name in config.option.plugins if name.startswith("no:")]
        for name in (*given, *(f"no:{name}" for name in _WITHOUT)):
            arguments += ["-p", name]
        for override in (*(config.getoption("override_ini", default=None) or ()), *_SETTINGS):
            arguments += ["-o", override]
        for rule in (*(config.getoption("pythonwarnings", default=None) or ()), "ignore::pytest.PytestConfigWarning"):
            arguments += ["-W", rule]
        return arguments

    def _search_path(self) -> list[str]:
        """Return what of this process's `sys.path` is the project's, as it is called inside."""
        prefixes = [prefix for prefix in (sys.prefix, sys.exec_prefix) if prefix != str(self.project.root)]
        found = []
        for folder in sys.path:
            installed = any(folder.startswith(f"{prefix}/") for prefix in prefixes) or "site-packages" in folder
            if not installed and (inside := self.project.inside(os.path.abspath(folder))):
                found.append(inside)
        return list(dict.fromkeys(found))


def _plugins(config: pytest.Config) -> Iterator[tuple[str, str]]:
    """Yield the name and the module of each plugin that was installed or asked for, and that is of use inside."""
    manager = config.pluginmanager
    installed = [plugin for plugin, _ in manager.list_plugin_distinfo()]
    asked_for = [manager.get_plugin(name) for name in config.option.plugins if not name.startswith("no:")]
    seen = set()
    for plugin in (*installed, *asked_for):
        module = plugin.__name__ if isinstance(plugin, ModuleType) else ""
        if not module or module in seen or module.partition(".")[0] in (*_OUTSIDE, "_pytest"):
            continue
        seen.add(module)
        yield manager.get_name(plugin) or module, module


def _passes(name: str, value: object) -> bool:
    """Return whether an option can be passed on, and means the same inside."""
    return name not in _NOT_PASSED and _is_plain(value)


def _is_plain(value: object) -> bool:
    """Return whether JSON has a value as it is."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    return value is None or isinstance(value, str | bool | int | float)
