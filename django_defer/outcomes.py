"""What else is written with an outcome, by hooks, in the transaction that records it.

A hook is a module with two functions. `record(using, ended)` is called with every outcome but
success; with a success only where `is_success_wanted(function, seconds)` is true, since most
successes need nothing besides their own statement, not even a transaction. A hook that fails is
logged, and what it wrote is taken back; the outcome itself stands.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction

from django_defer.connections import UNREACHABLE
from django_defer.exceptions import NotMigrated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from django_defer.states import Outcome, State

logger = logging.getLogger(__name__)

HOOKS: Final = ("django_defer.alerts.recording", "django_defer.alerts.pings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An attempt that ended, or a run that was skipped or discarded before it had any."""

    run_id: UUID
    function: str
    state: State  # the run's new one: "scheduled" when it is tried again
    outcome: Outcome | None = None  # the attempt's, if there was one
    error: str = ""  # "ValueError: no such user"
    seconds: float | None = None
    has_slot: bool = False


@cache
def hooks() -> list[Any]:
    """Return the modules, imported when the first outcome is recorded in this process."""
    return [import_module(name) for name in HOOKS]


def is_success_wanted(function: str, seconds: float) -> bool:
    """Say whether any hook wants to know that this function succeeded after so many seconds."""
    return any(hook.is_success_wanted(function, seconds) for hook in hooks())


def record(using: str, ended: Sequence[Ended]) -> None:
    """Call the hooks, within the transaction that is open now."""
    if not ended:
        return
    for hook in hooks():
        try:
            with transaction.atomic(using=using):
                hook.record(using, ended)
        except Exception as error:
            if isinstance(error, UNREACHABLE) and not NotMigrated.explains(error):
                raise  # the outcome itself is written again, and this with it
            logger.exception(
                "outcome.hook_failed %s run=%s",
                ended[0].function,
                ended[0].run_id,
                extra={"event": "outcome.hook_failed"},
            )
