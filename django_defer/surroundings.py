"""What is done around an attempt, and at the beginning and the end of our processes: hooks.

A hook that fails is logged and changes nothing. The end comes only where a process ends by itself.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from django_defer.attempt_facts import Started

logger = logging.getLogger(__name__)

_around: list[Callable[[Started], AbstractContextManager[object]]] = []
_begins: list[Callable[[bool], object]] = []
_ends: list[Callable[[], object]] = []


def surround(
    around: Callable[[Started], AbstractContextManager[object]],
    *,
    begins: Callable[[bool], object],
    ends: Callable[[], object],
) -> None:
    """Enter `around(started)` for each attempt, and call the others: `begins(forked)`, `ends()`."""
    if around not in _around:
        _around.append(around)
        _begins.append(begins)
        _ends.append(ends)


@contextmanager
def surrounded(started: Started) -> Iterator[None]:
    """Be inside of what surrounds an attempt, from before its start is told of to its end."""
    with ExitStack() as stack:
        for around in _around:
            _guarded(partial(_enter, stack, around, started))
        yield


def process_begins(*, forked: bool) -> None:
    """Say that this process is one of ours: a supervisor, or a child that was forked just now."""
    for begins in _begins:
        _guarded(partial(begins, forked))


def process_ends() -> None:
    """Say that this process has nothing left to do."""
    for ends in _ends:
        _guarded(ends)


def _enter(
    stack: ExitStack,
    around: Callable[[Started], AbstractContextManager[object]],
    started: Started,
) -> None:
    stack.enter_context(around(started))


def _guarded(hook: Callable[[], object]) -> None:
    try:
        hook()
    except Exception:
        logger.exception("surroundings.failed", extra={"event": "surroundings.failed"})
