"""A seat of the pool: the worker process that sits in it, from its fork to its end."""

from __future__ import annotations

import logging
import os
import signal
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from django_defer.attempt_facts import Failure
from django_defer.connections import close_all
from django_defer.django_q2 import fork_context
from django_defer.mailbox import Mailbox
from django_defer.reap import failure_of_exit
from django_defer.spool import Spool
from django_defer.states import Outcome
from django_defer.worker_process import run_worker

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from django_defer.board import Board, Cell
    from django_defer.process import Lifeline

logger = logging.getLogger(__name__)

QUICK_DEATH: Final = 1.0  # a child that lived shorter than this (s) is replaced only then

# What becomes of the run that a worker was at when its supervisor killed it.
OVERRAN: Final = Failure(
    outcome=Outcome.TIMED_OUT,
    error_class="TimeLimitExceeded",
    error_message="killed: it went on after its max_duration and the grace",
)
WENT_ON: Final = Failure(
    outcome=Outcome.ABORTED,
    error_class="RunAborted",
    error_message="killed: it went on after it was to be aborted, and the grace",
)


@dataclass(slots=True)
class Seat:
    """A slot of the pool. Its mailbox and spool outlive its workers: they have no lock."""

    slot: int
    mailbox: Mailbox = field(default_factory=Mailbox)
    spool: Spool = field(default_factory=Spool)
    generation: int = 0
    process: Any = None
    born: float = 0.0
    killed: tuple[UUID, Failure] | None = None  # the claim at which it was killed, and for what
    aborted: UUID | None = None  # the claim that it was told to end, and since when (monotonic)
    aborted_at: float = 0.0

    @property
    def label(self) -> str:
        """What the run's `worker` column says."""
        return f"{self.slot}.{self.generation}"

    @property
    def replaceable_at(self) -> float:
        """When an empty seat may be taken again (monotonic): not at once by one that dies young."""
        return self.born + QUICK_DEATH

    def fork(self, using: str, board: Board, lifeline: Lifeline) -> None:
        """Fork a worker into this seat; where the machine can't, the seat stays empty for now."""
        close_all()
        self.generation += 1
        self.killed = self.aborted = None
        self.born = time.monotonic()
        board.set_generation(self.slot, self.generation)
        process = fork_context().Process(
            target=run_worker,
            args=(
                using,
                board,
                self.slot,
                self.generation,
                self.mailbox,
                self.spool,
                lifeline,
            ),
            name=f"defer-worker-{self.slot}",
        )
        if start(process):
            self.process = process
            logger.debug(
                "worker.started slot=%s generation=%s pid=%s",
                self.slot,
                self.generation,
                process.pid,
                extra={"event": "worker.started", "slot": self.slot},
            )

    def enforce_limit(self, board: Board, grace: float) -> None:
        """Kill a worker that is still at the same claim when its limit and the grace are over."""
        cell = board.read(self.slot)
        if cell is None or cell.generation != self.generation or not cell.deadline:
            return
        if time.monotonic() > cell.deadline + grace:
            self.kill(cell, OVERRAN)

    def abort(self, board: Board, claims: Collection[UUID], grace: float) -> None:
        """Have the worker end its function, if it is at one of these claims; kill it after a grace.

        The signal is sent once a claim: a second one could hit the function's own clean-up. A
        worker that is not inside the function (no deadline) may wait for the database: let it.
        """
        cell = board.read(self.slot)
        if cell is None or cell.generation != self.generation or not cell.deadline:
            return
        if cell.claim_id is None or cell.claim_id not in claims:
            return
        if self.aborted != cell.claim_id:
            self.aborted, self.aborted_at = cell.claim_id, time.monotonic()
            board.abort(self.slot, cell.claim_id)
            os.kill(cell.pid, signal.SIGUSR1)
        elif time.monotonic() > self.aborted_at + grace:
            self.kill(cell, WENT_ON)

    def kill(self, cell: Cell, failure: Failure) -> None:
        """Kill the worker; `failure` is what that makes of the run that it is at."""
        if self.killed is None and cell.claim_id is not None:
            self.killed = cell.claim_id, failure
            self.process.kill()

    def bury(self, board: Board) -> Failure:
        """Empty the seat after its worker's end; return how what it held has failed."""
        exit_code = self.process.exitcode
        self.process.join()
        self.process = None
        failure = failure_of_exit(exit_code)
        cell = board.read(self.slot)
        if self.killed is not None and cell is not None and cell.claim_id == self.killed[0]:
            failure = replace(self.killed[1], exit_code=exit_code, signal=failure.signal)
        if exit_code != 0:
            logger.warning(
                "worker.died slot=%s exit_code=%s %s",
                self.slot,
                exit_code,
                failure.signal,
                extra={"event": "worker.died", "slot": self.slot, "exit_code": exit_code},
            )
        return failure


def start(process: Any) -> bool:
    """Fork it. False: the machine has no room for another process now, and that is logged."""
    try:
        process.start()
    except OSError as error:
        logger.error(
            "process.not_started %s: %s",
            process.name,
            error,
            extra={"event": "process.not_started"},
        )
        return False
    return True
