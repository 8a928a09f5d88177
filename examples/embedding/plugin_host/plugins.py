"""Plug-ins: loaded at the start, called side by side for every event, switched off when they keep failing."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from pathlib import Path
from typing import Any, Self

import coldframe

from .answers import Answer, BadAnswer, plain, read_answer
from .manifest import BadManifest, Manifest, read_manifest

MOST_FAILURES = 3
EVENT_S = 2.0
"""The longest that one event is held up by all plug-ins together, whatever they are doing."""
LOAD_S = 2.0
log = logging.getLogger("plugin_host")


class Plugin:
    """One plug-in: its function, its state, and how often in a row it has failed."""

    def __init__(self, folder: Path, manifest: Manifest, host: coldframe.Host) -> None:
        self.name, self.hooks = manifest.name, manifest.hooks
        self.state: Any = None
        self.failures = 0
        self.disabled: str | None = None
        self.function = coldframe.Function(
            manifest.handler,
            code=folder,
            name=manifest.name,
            memory_mb=manifest.memory_mb,
            timeout_s=manifest.timeout_s,
            max_processes=16,
            log_kb=16,
            tmp_mb=16,
            packages="none",
            hardening=coldframe.Hardening(max_code_mb=16),
            host=host,
        )

    def succeeded(self, answer: Answer) -> None:
        self.failures, self.state = 0, answer.state

    def failed(self, why: str) -> None:
        """Count a failure; the last one allowed ends the plug-in and frees what it held."""
        self.failures += 1
        if self.failures >= MOST_FAILURES:
            self.disable(f"{self.failures} failures in a row, the last one: {why}")

    def disable(self, why: str) -> None:
        self.disabled = why
        self.function.close()
        log.warning("plug-in %s is switched off: %s", self.name, why)


class Plugins:
    """All plug-ins of a folder. Close it, or use it in a `with` statement."""

    def __init__(self, folder: Path) -> None:
        self._host = coldframe.Host()
        self.plugins = [plugin for each in sorted(folder.iterdir()) if (plugin := self._load(each))]
        # A first event for nobody, so that imports are not paid for, and not complained about, with the first real one.
        for plugin, why in self._call(self.plugins, "load", None, LOAD_S):
            if isinstance(why, str):
                plugin.disable(f"it cannot be loaded: {why}")

    def fire(self, hook: str, data: object) -> dict[str, Answer]:
        """Ask every plug-in that listens to `hook`, side by side; return the answers by the names of the plug-ins."""
        listening = [plugin for plugin in self.plugins if hook in plugin.hooks and plugin.disabled is None]
        answers = {}
        for plugin, answer in self._call(listening, hook, data, EVENT_S):
            if isinstance(answer, str):
                plugin.failed(answer)
            else:
                plugin.succeeded(answer)
                answers[plugin.name] = answer
        return answers

    def close(self) -> None:
        self._host.close()

    def _load(self, folder: Path) -> Plugin | None:
        try:
            if folder.is_symlink() or not folder.is_dir():
                raise BadManifest("a plug-in is a folder, and no link to one")
            return Plugin(folder, read_manifest(folder), self._host)
        except (BadManifest, coldframe.ConfigurationError) as error:
            log.warning("plug-in %s is not loaded: %s", plain(folder.name), plain(str(error)))
            return None

    def _call(
        self, plugins: Sequence[Plugin], hook: str, data: object, within_s: float
    ) -> Iterator[tuple[Plugin, Answer | str]]:
        """Yield each plug-in with its answer, or with what went wrong."""
        futures = {p: p.function.submit({"hook": hook, "data": data, "state": p.state}) for p in plugins}
        late = wait(futures.values(), within_s).not_done
        for future in late:
            future.cancel()  # which kills the environment that it runs in
        for plugin, future in futures.items():
            if future in late:
                yield plugin, f"no answer within {within_s:g} s"
                continue
            try:
                yield plugin, read_answer(future.result().unwrap())
            except coldframe.InvocationError as error:
                yield plugin, plain(f"{error.error_type}: {error.error_message}")
            except (coldframe.ColdframeError, BadAnswer) as error:
                yield plugin, plain(str(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
