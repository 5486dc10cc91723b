"""What is done around an attempt, and at the beginning and the end of our processes, by hooks.

A hook is a module with three functions: `around(started)` returns what each attempt is inside of,
`begin_process(forked)` and `end_process()` are called. One that fails is logged and changes
nothing. The end comes only where a process ends by itself.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django_defer.attempt_facts import Started

logger = logging.getLogger(__name__)

HOOKS: Final = ("django_defer.sentry",)


@cache
def hooks() -> list[Any]:
    """Return the modules, imported in processes of ours only."""
    return [import_module(name) for name in HOOKS]


@contextmanager
def surrounded(started: Started) -> Iterator[None]:
    """Be inside of what surrounds an attempt, from before its start is told of to its end."""
    with ExitStack() as stack:
        for hook in hooks():
            _guarded(partial(_enter, stack, hook, started))
        yield


def process_begins(*, forked: bool) -> None:
    """Say that this process is one of ours: a supervisor, or a child that was forked just now."""
    for hook in hooks():
        _guarded(partial(hook.begin_process, forked))


def process_ends() -> None:
    """Say that this process has nothing left to do."""
    for hook in hooks():
        _guarded(hook.end_process)


def _enter(stack: ExitStack, hook: Any, started: Started) -> None:
    stack.enter_context(hook.around(started))


def _guarded(hook: Callable[[], object]) -> None:
    try:
        hook()
    except Exception:
        logger.exception("surroundings.failed", extra={"event": "surroundings.failed"})
