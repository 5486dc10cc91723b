"""Handles on background functions by key: for modules that import each other in a circle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_defer.registry import registry

if TYPE_CHECKING:
    from django_defer.models import Run


class LazyFunction:
    """A background function named by its key, looked up at its first use (circular imports)."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"<function {self._key}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Run:
        """Enqueue; return the run."""
        run: Run = registry.get(self._key)(*args, **kwargs)
        return run

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(registry.get(self._key), name)


def function(key: str) -> LazyFunction:
    """Return a handle on the background function with this key; it need not be imported yet."""
    return LazyFunction(key)
