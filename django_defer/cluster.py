"""The supervisor: django-q2's Sentinel with our own loop. One thread, one loop, no monitor.

It forks the pusher and the workers, notices their deaths, beats, promotes, ticks, reaps and
parks. Every connection is closed before each fork. What it writes is fenced, so another
supervisor doing the same at the same moment does no harm.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from types import FrameType
from typing import Any, Final
from uuid import UUID

from django_defer import worker_process
from django_defer.attempts import Failure
from django_defer.board import STALE_AFTER, Board
from django_defer.broker import RunBroker
from django_defer.conf import conf
from django_defer.connections import close_all, keep_connections
from django_defer.database_duties import RETRY_ROUND, DatabaseDuties
from django_defer.django_q2 import Sentinel, configure, fork_context
from django_defer.durations import parse_duration
from django_defer.mailbox import Mailbox, Outbox
from django_defer.membership import Membership
from django_defer.process import Lifeline
from django_defer.reap import SHUT_DOWN, failure_of_exit
from django_defer.registry import registry
from django_defer.states import Outcome

logger = logging.getLogger(__name__)

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
LONGEST_ROUND: Final = 1.0  # seconds
QUICK_DEATH: Final = 1.0  # a child that lived shorter than this is replaced only then
PUSHER_GRACE: Final = 2.0  # seconds the pusher has to end by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """What `defer_worker` was told. `queues` None: every queue."""

    using: str
    workers: int
    queues: Sequence[str] | None = None
    schedules: bool = True
    drain: bool = False
    on_round: Callable[[], bool] | None = None  # True: stop (something changed, reload)


@dataclass(slots=True)
class Seat:
    """A slot of the pool and the process that sits in it."""

    slot: int
    mailbox: Mailbox
    generation: int = 0
    process: Any = None
    born: float = 0.0
    overran: UUID | None = None  # the claim for whose time limit it was killed

    @property
    def label(self) -> str:
        """What the run's `worker` column says."""
        return f"{self.slot}.{self.generation}"


class Supervisor(Sentinel):  # type: ignore[misc]
    """The main process of one `defer_worker`."""

    def __init__(self, options: ClusterOptions) -> None:
        configure(workers=options.workers)
        self.options = options
        self.using = options.using
        lease = parse_duration(conf.lease)
        self.board = Board(
            options.workers, stale_after=min(STALE_AFTER, lease.total_seconds() * 2 / 3)
        )
        self.lifeline = Lifeline()
        self.stop_requests = 0
        self._signal_read, self._signal_write = os.pipe()
        for end in (self._signal_read, self._signal_write):
            os.set_blocking(end, False)
        own_queues = {f.options.queue or conf.default_queue for f in registry}
        self.membership = Membership(
            using=self.using,
            queues=sorted(options.queues or own_queues | {conf.default_queue}),
            serves_all=not options.queues,
            keys=registry.keys(),
            workers=options.workers,
            schedules=options.schedules,
            lease=lease,
        )
        self.duties = DatabaseDuties(self.membership, self.board, drain=options.drain)
        handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        super().__init__(None, None, self.membership.id, self._new_broker(), start=False)
        for number, handler in handlers.items():  # the Sentinel has set its own
            signal.signal(number, handler)
        self.pusher_born = 0.0
        self.seats = [Seat(slot, Mailbox()) for slot in range(options.workers)]
        self.task_queue = Outbox(self.board, [seat.mailbox for seat in self.seats])

    # -- life ----------------------------------------------------------------------------

    def run(self) -> None:
        """Work until told to stop (or, draining, until there is nothing left to do)."""
        keep_connections(busy_timeout=0.25)
        self.duties.limit_statements()
        handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        for number in handlers:
            signal.signal(number, self._on_signal)
        try:
            self.begin()
            while not self.stop_requests and not self.duties.is_drained:
                self.round()
                if self.options.on_round is not None and self.options.on_round():
                    break
            self.shut_down()
        finally:
            self.kill_children()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def begin(self) -> None:
        """Enter the database, however long it takes to come, and fork all children."""
        while not self.duties.join():
            self.wait(RETRY_ROUND)
            if self.stop_requests:
                return
        self.spawn_cluster()
        logger.info(
            "cluster.started %s workers=%s queues=%s functions=%s",
            self.membership.id,
            self.options.workers,
            ",".join(self.membership.queues) + (" (all)" if not self.options.queues else ""),
            len(self.membership.keys),
            extra={"event": "cluster.started"},
        )

    def round(self) -> None:
        """Wait for the next thing to do, and do it."""
        self.wait(min(self.duties.seconds_until_next(), self._seconds_until_replacement()))
        self.board.beat()
        self.watch()
        if self.duties.perform():
            self.board.wake_pusher()
        if self.duties.was_declared_dead:
            self.start_anew()

    def wait(self, seconds: float) -> None:
        """Sleep until a child dies, a signal comes, or the time is up."""
        sentinels = [seat.process.sentinel for seat in self.seats if seat.process is not None]
        if self.pusher is not None:
            sentinels.append(self.pusher.sentinel)
        wait([self._signal_read, *sentinels], timeout=min(seconds, LONGEST_ROUND))
        try:
            os.read(self._signal_read, 512)
        except BlockingIOError:
            pass

    def shut_down(self) -> None:
        """Start nothing more, give back what was not started, let the rest finish, then go."""
        grace = parse_duration(conf.shutdown_grace).total_seconds()
        logger.info("cluster.stopping grace=%ss", f"{grace:g}", extra={"event": "cluster.stopping"})
        self.board.stop()
        self._end_pusher()
        self.duties.release_all()
        for seat in self.seats:
            if seat.process is not None:
                seat.mailbox.send({"stop": True})
        until = time.monotonic() + grace
        while any(seat.process is not None for seat in self.seats):
            if time.monotonic() >= until or self.stop_requests > 1:
                break
            self.wait(min(0.5, until - time.monotonic()))
            self.board.beat()
            self.watch(replace=False)
            self.duties.perform_while_stopping()
        self.kill_children()
        self.duties.leave(SHUT_DOWN)
        logger.info("cluster.stopped", extra={"event": "cluster.stopped"})

    def start_anew(self) -> None:
        """Drop all work under the old id, which others have taken over, and begin again."""
        logger.error(
            "cluster.declared_dead this cluster was silent for its whole lease; what it ran was "
            "given to others. Starting anew.",
            extra={"event": "cluster.declared_dead"},
        )
        self.kill_children()
        self.membership.renew()
        self.broker = self._new_broker()
        self.begin()

    # -- processes -------------------------------------------------------------------------

    def spawn_cluster(self) -> None:
        """Fork all workers and the pusher."""
        for seat in self.seats:
            self.spawn_worker(seat)
        self.pusher = self.spawn_pusher()

    def spawn_worker(self, seat: Seat) -> None:
        """Fork a worker into this seat. Its mailbox stays: a datagram socket has no lock."""
        close_all()
        seat.generation += 1
        seat.overran = None
        self.board.set_generation(seat.slot, seat.generation)
        seat.process = fork_context().Process(
            target=worker_process.run_worker,
            args=(self.using, self.board, seat.slot, seat.generation, seat.mailbox, self.lifeline),
            name=f"defer-worker-{seat.slot}",
        )
        seat.process.start()
        seat.born = time.monotonic()
        logger.debug(
            "worker.started slot=%s generation=%s pid=%s",
            seat.slot,
            seat.generation,
            seat.process.pid,
            extra={"event": "worker.started", "slot": seat.slot},
        )

    def spawn_pusher(self) -> Any:
        """Fork django-q2's pusher with our broker and mailboxes."""
        close_all()
        process = fork_context().Process(
            target=worker_process.run_pusher,
            args=(self.task_queue, self.board, self.broker, self.lifeline),
            name="defer-pusher",
        )
        process.start()
        self.pusher_born = time.monotonic()
        logger.debug("pusher.started pid=%s", process.pid, extra={"event": "pusher.started"})
        return process

    def watch(self, *, replace: bool = True) -> None:
        """Notice who died, kill who overran its time limit, replace who is missing."""
        now = time.monotonic()
        for seat in self.seats:
            if seat.process is not None and not seat.process.is_alive():
                self._bury(seat)
            if seat.process is not None:
                self._enforce_limit(seat, now)
            elif replace and now - seat.born >= QUICK_DEATH:
                self.spawn_worker(seat)
        if self.pusher is not None and not self.pusher.is_alive():
            logger.warning(
                "pusher.died exit_code=%s", self.pusher.exitcode, extra={"event": "pusher.died"}
            )
            self.pusher.join()
            self.pusher = None
            self.duties.release_later()
        if replace and self.pusher is None and now - self.pusher_born >= QUICK_DEATH:
            self.pusher = self.spawn_pusher()

    def kill_children(self) -> None:
        """End every child at once."""
        children = [seat.process for seat in self.seats] + [self.pusher]
        for process in children:
            if process is not None and process.is_alive():
                process.kill()
        for process in children:
            if process is not None:
                process.join()
        for seat in self.seats:
            seat.process = None
        self.pusher = None

    def _seconds_until_replacement(self) -> float:
        """Return when the next missing child may be replaced: one that dies young, not at once."""
        births = [seat.born for seat in self.seats if seat.process is None]
        if self.pusher is None:
            births.append(self.pusher_born)
        return max(0.0, min(births) + QUICK_DEATH - time.monotonic()) if births else LONGEST_ROUND

    def _bury(self, seat: Seat) -> None:
        """Take note of a worker's end; what it held is taken back at the next database work."""
        exit_code = seat.process.exitcode
        seat.process.join()
        seat.process = None
        failure = failure_of_exit(exit_code)
        cell = self.board.read(seat.slot)
        if seat.overran is not None and cell is not None and cell.claim_id == seat.overran:
            failure = Failure(
                outcome=Outcome.TIMED_OUT,
                error_class="TimeLimitExceeded",
                error_message="killed: it went on after its max_duration and the grace",
                exit_code=failure.exit_code,
                signal=failure.signal,
            )
        if exit_code != 0:
            logger.warning(
                "worker.died slot=%s exit_code=%s %s",
                seat.slot,
                exit_code,
                failure.signal,
                extra={"event": "worker.died", "slot": seat.slot, "exit_code": exit_code},
            )
        self.duties.take_back_later(seat.label, failure)

    def _enforce_limit(self, seat: Seat, now: float) -> None:
        """Kill a worker that is still at the same claim when limit and grace are over."""
        cell = self.board.read(seat.slot)
        grace = parse_duration(conf.kill_grace).total_seconds()
        if cell is None or cell.generation != seat.generation or not cell.deadline:
            return
        if now > cell.deadline + grace and seat.overran is None:
            seat.overran = cell.claim_id
            seat.process.kill()

    def _end_pusher(self) -> None:
        if self.pusher is None:
            return
        self.board.wake_pusher()
        self.pusher.join(PUSHER_GRACE)
        if self.pusher.is_alive():
            self.pusher.kill()
            self.pusher.join()
        self.pusher = None

    def _new_broker(self) -> RunBroker:
        member = self.membership
        return RunBroker(
            self.using,
            member.id,
            member.queues,
            member.keys,
            self.board,
            serves_all=member.serves_all,
        )

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self.stop_requests += 1
        try:
            os.write(self._signal_write, b".")
        except BlockingIOError:
            pass
