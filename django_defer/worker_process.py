"""What runs in a forked child: django-q2's worker, or its pusher, with our parts plugged in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from django_defer.board import Board
from django_defer.broker import RunBroker
from django_defer.claims import Claim
from django_defer.connections import WORKER_BUSY_TIMEOUT, Freshness, keep_connections
from django_defer.django_q2 import (
    hand_over_unsigned,
    new_timer,
    pusher,
    silence_signals,
    worker,
)
from django_defer.exceptions import DeferError
from django_defer.executor import Executor
from django_defer.interrupts import Interrupts
from django_defer.mailbox import Inbox, Mailbox, Outbox
from django_defer.process import Lifeline, ignore_stop_signals
from django_defer.run_logs import Scribe
from django_defer.spool import Spool
from django_defer.surroundings import process_begins, process_ends

logger = logging.getLogger(__name__)


class NoResults:
    """What django-q2's worker believes to be the result queue: the run has its result already."""

    def put(self, task: object) -> None:
        """Drop it."""


class StopFlag:
    """What django-q2's pusher believes to be a multiprocessing Event, without its lock."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def is_set(self) -> bool:
        """Say whether the cluster stops."""
        return self._board.is_stopping


def run_worker(
    using: str,
    board: Board,
    slot: int,
    generation: int,
    mailbox: Mailbox,
    spool: Spool,
    lifeline: Lifeline,
) -> None:
    """Be a worker: execute claims from the mailbox until told to stop."""
    lifeline.hold()
    ignore_stop_signals()
    silence_signals()
    keep_connections(busy_timeout=WORKER_BUSY_TIMEOUT)
    # A function: django-q2's worker would look up a name anew for each task.
    inbox = Inbox(board, slot, generation, mailbox, func=work)
    scribe = Scribe(spool)
    scribe.listen()
    process_begins(forked=True)
    install(
        Executor(
            using=using,
            worker=f"{slot}.{generation}",
            inbox=inbox,
            board=board,
            interrupts=Interrupts(),
            freshness=Freshness(),
            scribe=scribe,
        )
    )
    try:
        worker(inbox, NoResults(), new_timer(), -1)
    finally:
        process_ends()


_executor: Executor | None = None


def install(executor: Executor) -> None:
    """Make `executor` the one that `work` uses in this process."""
    global _executor
    _executor = executor


def work(claims: Sequence[Sequence[Any]]) -> None:
    """Execute a chunk: a list of claims. django-q2's worker calls this, with ids only."""
    if _executor is None:
        raise DeferError(f"{__name__}.work runs in a worker of defer_worker only.")
    try:
        _executor.execute(*map(Claim.from_list, claims))
    except Exception as error:
        run_id = _executor.at and _executor.at.run_id
        logger.exception(
            "run.unrecorded run=%s: this worker ends, so that the run is taken back",
            run_id,
            extra={"event": "run.unrecorded", "run_id": str(run_id)},
        )
        raise SystemExit(1) from error


def run_pusher(outbox: Outbox, board: Board, broker: RunBroker, lifeline: Lifeline) -> None:
    """Be the pusher: claim runs for idle workers and put them into their mailboxes."""
    lifeline.hold()
    ignore_stop_signals()
    keep_connections(busy_timeout=0.25)
    process_begins(forked=True)
    hand_over_unsigned()
    pusher(outbox, StopFlag(board), broker)
