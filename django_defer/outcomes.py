"""What else is written with an outcome: hooks, called in the transaction that records it.

A hook that fails is logged, and what it wrote is taken back; the outcome itself stands.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import transaction

from django_defer.connections import UNREACHABLE
from django_defer.exceptions import NotMigrated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from django_defer.states import Outcome, State

logger = logging.getLogger(__name__)


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


_hooks: list[Callable[[str, Sequence[Ended]], None]] = []
_wishes: list[Callable[[str, float], bool]] = []


def add_hook(
    hook: Callable[[str, Sequence[Ended]], None], *, successes: Callable[[str, float], bool]
) -> None:
    """Call `hook(using, ended)` with every outcome but success.

    With a success only where `successes(key, seconds)` is true: most successes need nothing
    besides their own statement, not even a transaction. Adding it again changes nothing.
    """
    if hook not in _hooks:
        _hooks.append(hook)
        _wishes.append(successes)


def is_success_wanted(function: str, seconds: float) -> bool:
    """Say whether any hook wants to know that this function succeeded after so many seconds."""
    return any(wish(function, seconds) for wish in _wishes)


def record(using: str, ended: Sequence[Ended]) -> None:
    """Call the hooks, within the transaction that is open now."""
    if not ended:
        return
    for hook in _hooks:
        try:
            with transaction.atomic(using=using):
                hook(using, ended)
        except Exception as error:
            if isinstance(error, UNREACHABLE) and not NotMigrated.explains(error):
                raise  # the outcome itself is written again, and this with it
            logger.exception(
                "outcome.hook_failed %s run=%s",
                ended[0].function,
                ended[0].run_id,
                extra={"event": "outcome.hook_failed"},
            )
