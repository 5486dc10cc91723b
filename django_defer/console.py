"""What commands share: log lines and errors for the person who started one, and how it stops."""

from __future__ import annotations

import logging
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from django.core.management.base import CommandError
from django.db import DatabaseError, InterfaceError, OperationalError

from django_defer.exceptions import DeferError, NotMigrated
from django_defer.process import STOP_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

LEVELS: Final = {0: logging.ERROR, 1: logging.INFO, 2: logging.DEBUG, 3: logging.DEBUG}


def log_to_console(verbosity: int, stream: Any = None) -> None:
    """Show our log lines at the level that `--verbosity` asks for.

    Handlers that the project configured for `django_defer` or the root logger are used as they
    are; only where there are none is one added.
    """
    logger = logging.getLogger("django_defer")
    logger.setLevel(LEVELS.get(verbosity, logging.INFO))
    if not logger.hasHandlers():
        handler = logging.StreamHandler(getattr(stream, "_out", None) or sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
        logger.addHandler(handler)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what a person can mend into a CommandError: a sentence and no traceback."""
    try:
        yield
    except DeferError as error:
        raise CommandError(str(error)) from error
    except (DatabaseError, InterfaceError) as error:
        if NotMigrated.explains(error):
            raise CommandError(str(NotMigrated())) from error
        if isinstance(error, (OperationalError, InterfaceError)):
            raise CommandError(f"The database does not answer: {str(error).strip()}") from error
        raise


@contextmanager
def until_signalled() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether SIGTERM or SIGINT came; a second one acts as usual."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield lambda: bool(received)
    finally:
        restore()
