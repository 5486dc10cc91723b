"""What is done around an attempt, and at the beginning and the end of our processes, by hooks.

A hook is a module with three functions: `around(started)` returns what an attempt is inside of, or
None, `begin_process(forked)` and `end_process()` are called. One that fails is logged and changes
nothing. The end comes only where a process ends by itself.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from django_defer.attempt_facts import Started

logger = logging.getLogger(__name__)

T = TypeVar("T")

HOOKS: Final = ("django_defer.sentry",)


@cache
def hooks() -> list[Any]:
    """Return the modules, imported in processes of ours only."""
    return [import_module(name) for name in HOOKS]


def surrounded(started: Started) -> AbstractContextManager[object]:
    """Return what surrounds an attempt, from before its start is told of to its end."""
    found = [_guarded(partial(hook.around, started)) for hook in hooks()]
    contexts = [context for context in found if context is not None]
    return _inside(contexts) if contexts else nullcontext()  # as a rule


def process_begins(*, forked: bool) -> None:
    """Say that this process is one of ours: a supervisor, or a child that was forked just now."""
    for hook in hooks():
        _guarded(partial(hook.begin_process, forked))


def process_ends() -> None:
    """Say that this process has nothing left to do."""
    for hook in hooks():
        _guarded(hook.end_process)


@contextmanager
def _inside(contexts: list[AbstractContextManager[object]]) -> Iterator[None]:
    with ExitStack() as stack:
        for context in contexts:
            _guarded(partial(stack.enter_context, context))
        yield


def _guarded(hook: Callable[[], T]) -> T | None:
    try:
        return hook()
    except Exception:
        logger.exception("surroundings.failed", extra={"event": "surroundings.failed"})
        return None
