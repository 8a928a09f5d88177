"""What `import snapshot_restore_py` finds where the package is not installed: the same functions.

Hooks run before an initialised function is copied, and in each copy. Without `snapstart=True` nobody runs them, as in
Lambda.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_before_snapshot: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
_after_restore: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []


def register_before_snapshot(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:  # noqa: ANN401
    """Have `func(*args, **kwargs)` called before the snapshot, the last one registered first; usable as a decorator."""
    _before_snapshot.append((func, args, kwargs))
    return func


def register_after_restore(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:  # noqa: ANN401
    """Have `func(*args, **kwargs)` called after each restore, the first one registered first; usable as a decorator."""
    _after_restore.append((func, args, kwargs))
    return func


def get_before_snapshot() -> list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]:
    """Return the hooks for the time before the snapshot, in the order in which they were registered."""
    return _before_snapshot


def get_after_restore() -> list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]:
    """Return the hooks for the time after a restore, in the order in which they were registered."""
    return _after_restore
