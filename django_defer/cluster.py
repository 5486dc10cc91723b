"""The supervisor: django-q2's Sentinel with our own loop. One thread, one loop, no monitor.

It forks the pusher and the workers, notices their deaths, beats, promotes, ticks, reaps and
parks. Every connection is closed before each fork. What it writes is fenced, so another
supervisor doing the same at the same moment does no harm.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from types import FrameType
from typing import Any, Final

from django_defer.alerter import GRACE, LAST_GRACE, Alerter, send_alerts
from django_defer.board import STALE_AFTER, Board
from django_defer.broker import RunBroker
from django_defer.conf import conf
from django_defer.connections import close_all, keep_connections, limit_statements
from django_defer.database_duties import RETRY_ROUND, DatabaseDuties
from django_defer.django_q2 import Sentinel, configure, fork_context
from django_defer.durations import parse_duration
from django_defer.mailbox import Mailbox, Outbox
from django_defer.membership import Membership
from django_defer.process import STOP_SIGNALS, Lifeline
from django_defer.reap import SHUT_DOWN
from django_defer.registry import registry
from django_defer.seats import QUICK_DEATH, Seat, start
from django_defer.surroundings import process_begins
from django_defer.worker_process import run_pusher

logger = logging.getLogger(__name__)

LONGEST_ROUND: Final = 1.0  # seconds
PUSHER_GRACE: Final = 2.0  # seconds the pusher has to end by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """What `defer_worker` was told. `queues` None: every queue."""

    using: str
    workers: int
    queues: Sequence[str] | None = None
    schedules: bool = True
    drain: bool = False
    kept: Collection[str] = ()  # keys that the sync left to other live clusters
    on_round: Callable[[], bool] | None = None  # True: stop (something changed, reload)


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
        own_queues = {f.options.queue or conf.default_queue for f in registry}
        self.membership = Membership(
            using=self.using,
            queues=sorted(options.queues or own_queues | {conf.default_queue}),
            serves_all=not options.queues,
            keys=registry.keys(),
            workers=options.workers,
            schedules=options.schedules,
            lease=lease,
            kept=set(options.kept),
        )
        self.seats = [Seat(slot) for slot in range(options.workers)]
        self.duties = DatabaseDuties(self.membership, self.board, drain=options.drain)
        self.duties.logs.spools.extend(seat.spool for seat in self.seats)
        self.alerter = Alerter(self.using, self.lifeline, self.membership.is_oldest)
        handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        super().__init__(None, None, self.membership.id, self._new_broker(), start=False)
        for number, handler in handlers.items():  # the Sentinel has set its own
            signal.signal(number, handler)
        self.pusher_born = 0.0
        self.task_queue = Outbox(self.board, [seat.mailbox for seat in self.seats])

    # -- life ----------------------------------------------------------------------------

    def run(self) -> None:
        """Work until told to stop (or, draining, until there is nothing left to do)."""
        keep_connections(busy_timeout=0.25)
        limit_statements()
        process_begins(forked=False)
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
        except BaseException:
            self.kill_children()
            self.duties.leave(SHUT_DOWN)
            raise
        finally:
            self.close()
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
            self.board.pusher_bell.ring()
        self.abort()
        if not self.duties.is_away:
            self.alerter.step()
        if self.duties.was_declared_dead:
            self.start_anew()

    def wait(self, seconds: float) -> None:
        """Sleep until a child dies, a signal comes, a retry is near, or the time is up."""
        sentinels = [seat.process.sentinel for seat in self.seats if seat.process is not None]
        if self.pusher is not None:
            sentinels.append(self.pusher.sentinel)
        bell = self.board.supervisor_bell
        wait([bell.fd, *sentinels], timeout=min(seconds, LONGEST_ROUND))
        bell.answer()

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
            if self.duties.was_declared_dead:
                break  # others execute by now what still runs here
            self.wait(min(0.5, until - time.monotonic()))
            self.board.beat()
            self.watch(replace=False)
            self.duties.perform_while_stopping()
            self.abort()
        self.alerter.stop(LAST_GRACE if self.duties.is_drained else GRACE)
        self.kill_children()
        if self.duties.is_drained:
            send_alerts(self.using, is_last=True)
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
        for seat in self.seats:  # nothing that was meant for the former self shall be read
            seat.mailbox.close()
            seat.mailbox = Mailbox()
        self.task_queue = Outbox(self.board, [seat.mailbox for seat in self.seats])
        self.begin()

    # -- processes -------------------------------------------------------------------------

    def spawn_cluster(self) -> None:
        """Fork all workers and the pusher."""
        for seat in self.seats:
            seat.fork(self.using, self.board, self.lifeline)
        self.pusher = self.spawn_pusher()

    def spawn_pusher(self) -> Any:
        """Fork django-q2's pusher with our broker and mailboxes; None where that failed."""
        close_all()
        process = fork_context().Process(
            target=run_pusher,
            args=(self.task_queue, self.board, self.broker, self.lifeline),
            name="defer-pusher",
        )
        self.pusher_born = time.monotonic()
        if not start(process):
            return None
        logger.debug("pusher.started pid=%s", process.pid, extra={"event": "pusher.started"})
        return process

    def watch(self, *, replace: bool = True) -> None:
        """Notice who died, kill who overran its time limit, replace who is missing."""
        now = time.monotonic()
        grace = parse_duration(conf.kill_grace).total_seconds()
        for seat in self.seats:
            if seat.process is not None and not seat.process.is_alive():
                self.duties.take_back_later(seat.label, seat.bury(self.board))
            if seat.process is not None:
                seat.enforce_limit(self.board, grace)
            elif replace and now >= seat.replaceable_at:
                seat.fork(self.using, self.board, self.lifeline)
        if self.pusher is not None and not self.pusher.is_alive():
            logger.warning(
                "pusher.died exit_code=%s", self.pusher.exitcode, extra={"event": "pusher.died"}
            )
            self.pusher.join()
            self.pusher = None
            self.board.recall_all()
            self.duties.release_later()
        if replace and self.pusher is None and now - self.pusher_born >= QUICK_DEATH:
            self.pusher = self.spawn_pusher()

    def abort(self) -> None:
        """End what is to be aborted: tell its worker first, and kill that after the grace."""
        grace = parse_duration(conf.kill_grace).total_seconds()
        for seat in self.seats:
            if self.duties.to_abort and seat.process is not None and seat.process.is_alive():
                seat.abort(self.board, self.duties.to_abort, grace)

    def kill_children(self) -> None:
        """End every child at once."""
        self.alerter.stop(0)
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

    def close(self) -> None:
        """Close the sockets and pipes that tied the children to this process."""
        for seat in self.seats:
            seat.mailbox.close()
        self.lifeline.close()

    def _seconds_until_replacement(self) -> float:
        """Return when the next missing child may be replaced: one that dies young, not at once."""
        moments = [seat.replaceable_at for seat in self.seats if seat.process is None]
        if self.pusher is None:
            moments.append(self.pusher_born + QUICK_DEATH)
        return max(0.0, min(moments) - time.monotonic()) if moments else LONGEST_ROUND

    def _end_pusher(self) -> None:
        if self.pusher is None:
            return
        self.board.pusher_bell.ring()
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
        self.board.supervisor_bell.ring()
