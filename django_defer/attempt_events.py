"""What is said of an attempt that ended in this process: signals and log lines."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django_defer.signals import emit

if TYPE_CHECKING:
    from django_defer.attempt_facts import Failure, Started
    from django_defer.claims import Claim

logger = logging.getLogger(__name__)


def tell(name: str, started: Started, seconds: float | None, **facts: Any) -> None:
    """Send the signal for what happened, after its commit."""
    emit(
        name,
        run_id=started.claim.run_id,
        function=started.function,
        attempt=started.claim.attempt,
        slot=started.slot,
        seconds=seconds,
        **facts,
    )


def report_after_commit(
    started: Started, error: BaseException, masked: Failure | None = None
) -> None:
    """Say what went wrong after the run's own commit: a hook of it, or the answer to it.

    `masked` is its text where the error itself may quote a sensitive argument.
    """
    logger.error(
        "run.hook_failed %s run=%s: committed, then %s: %s",
        started.function,
        started.claim.run_id,
        type(error).__name__,
        masked.traceback if masked else error,
        exc_info=None if masked else error,
        extra={"event": "run.hook_failed", "run_id": str(started.claim.run_id)},
    )


def report_refused(claim: Claim) -> None:
    """Say that an attempt did not begin."""
    logger.info(
        "run.refused run=%s: its claim was taken back before it started",
        claim.run_id,
        extra={"event": "run.refused", "run_id": str(claim.run_id)},
    )


def report_late(started: Started) -> None:
    """Say that the outcome came too late to count."""
    logger.warning(
        "run.late %s run=%s attempt=%s: its claim was taken away while it ran, "
        "so its outcome changes nothing",
        started.function,
        started.claim.run_id,
        started.claim.attempt,
        extra={"event": "run.late", "run_id": str(started.claim.run_id)},
    )
