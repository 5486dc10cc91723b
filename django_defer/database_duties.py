"""What a supervisor does in the database, each round: beat, tick, reap, take back, park, prune.

An unreachable database stops nothing else: it is said once, and every duty is tried again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import connections

from django_defer.attempt_facts import Failure
from django_defer.board import Board
from django_defer.chores import Chores, find_chores
from django_defer.clock import DatabaseNow
from django_defer.conf import conf
from django_defer.connections import UNREACHABLE, drop, is_busy
from django_defer.durations import parse_duration
from django_defer.log_writing import LogWriter
from django_defer.membership import Membership
from django_defer.models import Run
from django_defer.overlaps import end_waits
from django_defer.pacing import Pace
from django_defer.pauses import resume_overdue
from django_defer.prune import Pruner
from django_defer.querysets import RunQuerySet
from django_defer.reap import take_back
from django_defer.scheduler import SHORTEST_SLEEP, Look, look, tick
from django_defer.statements import prefer_indexes
from django_defer.states import State
from django_defer.transitions import release

logger = logging.getLogger(__name__)

DRAIN_ROUND: Final = 0.1  # seconds
STRANDED_AFTER: Final = timedelta(seconds=2)  # a claim reaches its worker within milliseconds
STRANDED_LOOK: Final = 1.0  # seconds between two tries to give such claims back
QUICK: Final = 0.01  # seconds; a look that takes longer is not taken each round
RETRY_ROUND: Final = 0.25  # seconds until the next try while the database is away


class DatabaseDuties:
    """The supervisor's half that needs the database."""

    def __init__(self, membership: Membership, board: Board, *, drain: bool = False) -> None:
        self.membership = membership
        self.board = board
        self.using = membership.using
        self.drain = drain
        self.is_drained = False
        self.to_abort: frozenset[UUID] = frozenset()  # claims
        self.was_declared_dead = False
        self._next_at = self._looked_at = 0.0  # monotonic
        self._last_beat = 0.0
        self._reap_at = math.inf  # monotonic
        self._has_ticked = False
        self.is_away = False
        self._dead_workers: list[tuple[str, Failure]] = []
        self._release = False
        self._stranded_pace = Pace(quick=QUICK, shortest=STRANDED_LOOK)
        self.logs = LogWriter(self.using)
        self._pruner = Pruner(self.using, membership.is_to_prune)

    def join(self) -> bool:
        """Enter the cluster's row. False: the database cannot be reached, try again."""
        if not self._guarded(self.membership.join):
            return False
        self.was_declared_dead = False
        self._dead_workers.clear()  # others have taken back what a former self held
        self._release = False
        self._last_beat = time.monotonic()
        self._guarded(self._do_chores)  # the lease of others is watched from now
        return True

    def seconds_until_next(self) -> float:
        """Return how long the supervisor may sleep."""
        if self.is_away:
            return RETRY_ROUND
        seconds = max(0.0, self._next_at - time.monotonic())
        if self.drain:
            return min(seconds, DRAIN_ROUND)
        return min(seconds, self._pruner.seconds_until_next(), self.logs.seconds_until_next())

    def perform(self) -> bool:
        """Do what is due. Returns whether runs may have become claimable."""
        self._news = False
        self._guarded(self._round)
        if not self.is_away:
            self._guarded(self.logs.step)
        if not (self.drain or self.is_away):
            self._guarded(self._pruner.step_if_due)
        return self._news

    def perform_while_stopping(self) -> None:
        """Keep the lease while running functions finish, and still abort who is to be."""
        self._guarded(self._take_back)
        self._guarded(self._beat)
        self._guarded(self._find_aborts)
        self._guarded(self.logs.step)

    def take_back_later(self, worker: str, failure: Failure) -> None:
        """Take back what this dead worker held, at the next round that reaches the database."""
        self._dead_workers.append((worker, failure))
        self._next_at = 0.0

    def release_later(self) -> None:
        """Give back every claim that was not started: the pusher died with some in its hands."""
        self._release = True
        self._next_at = 0.0

    def release_all(self) -> None:
        """Give back every claim that was not started."""
        self._release = True
        self._guarded(self._take_back)

    def leave(self, failure: Failure) -> None:
        """Take back what is still running (not counted as a loss) and delete the row."""
        self._guarded(self._take_back)
        self._guarded(
            lambda: take_back(self.using, self.membership.id, None, failure, counted=False)
        )
        self._guarded(self.membership.leave)
        self._guarded(self.logs.finish)

    # -- one round ---------------------------------------------------------------------------

    def _round(self) -> None:
        self._take_back()
        self._beat(overdue=True)  # lest a tick that fails each time ends the lease
        slots = self.membership.schedules
        seen = self._look()
        ticked = seen.seconds_until_next(slots=slots) <= 0
        moved = self._tick(seen) if ticked else True
        self._has_ticked = slots
        beaten = self._beat()  # after what is due: it takes as long as a start
        if self.was_declared_dead:
            return
        if time.monotonic() >= self._reap_at:
            self._reap(look(self.using).now)
        self._release_stranded(seen)
        self._find_aborts()
        if ticked or (beaten and self._news):
            seen = self._look()
        pause = seen.seconds_until_next(slots=slots)
        if not moved:  # what is due is in somebody else's open transaction: don't spin
            pause = max(pause, SHORTEST_SLEEP)
        self._next_at = self._looked_at + pause
        if self.drain and not self._news:
            self.is_drained = not self.membership.has_work()

    def _look(self) -> Look:
        prefer_indexes(self.using)
        seen = look(self.using, self.membership.id)
        self._looked_at = time.monotonic()
        return seen

    def _tick(self, seen: Look) -> bool:
        """Do what is due; return whether anything came of it."""
        ticked = tick(
            self.using,
            seen.now,
            runs=seen.has_due_runs,
            slots=self.membership.schedules,
            deadlines=seen.has_expired_runs,
            on_news=self.board.pusher_bell.ring,
        )
        moved = bool(ticked.promoted or ticked.fired or ticked.discarded)
        self._news = self._news or moved
        return moved

    def _beat(self, *, overdue: bool = False) -> bool:
        """Beat if it is time to, or, `overdue`, only if a whole beat was left out.

        Returns whether it did.
        """
        since = time.monotonic()
        interval = parse_duration(conf.beat_interval).total_seconds()
        if since - self._last_beat < (2 * interval if overdue else interval):
            return False
        if not self.membership.beat(ticked=self._has_ticked):
            self.was_declared_dead = True
            return True
        self._last_beat = since
        self._do_chores()
        return True

    def _do_chores(self) -> None:
        """Do what there is to do at a beat; of what there is none, ask no more than that."""
        chores = find_chores(self.using)
        self.board.set_fleet(chores.fleet)
        if chores.has_queued:
            self.membership.find_queues()
        self.membership.sync_again(chores.now)
        self._reap(chores.now, chores)
        freed = resume_overdue(self.using, chores.now) if chores.has_overdue_pauses else 0
        freed += end_waits(self.using) if chores.has_parked else 0
        if chores.has_queued or chores.has_parked:
            freed += self.membership.sort_parked(chores.now)[1]
        self._news = self._news or bool(freed)

    def _reap(self, now: datetime, chores: Chores | None = None) -> None:
        """Reap, and note when a cluster that falls silent now is to be looked at again."""
        self._reap_at = math.inf  # after an error the next beat looks again
        reaped = self.membership.reap(now, chores)
        self._news = bool(reaped) or self._news
        oldest = chores.oldest_beat if chores and not reaped else None
        self._reap_at = time.monotonic() + self.membership.seconds_until_expiry(now, oldest)

    def _take_back(self) -> None:
        if self._release:
            self._release_unstarted()
        while self._dead_workers:
            worker, failure = self._dead_workers[0]
            released, lost = take_back(self.using, self.membership.id, worker, failure)
            self._dead_workers.pop(0)
            self._news = self._news or bool(released or lost)

    def _release_unstarted(self) -> None:
        """Give back what is claimed and no worker is at.

        What one is at may read "claimed" too: a database crash takes starts back.
        """
        at_hand = self.board.claims_at_hand()
        if at_hand is not None:  # else at the next round
            self._news = bool(release(self._held().exclude(claim_id__in=at_hand))) or self._news
            self._release = False

    def _release_stranded(self, seen: Look) -> None:
        """Give back claims that no worker is at: the pusher died before it handed them over, or
        never learnt that its claim went through."""
        if seen.oldest_claim is None or seen.oldest_claim > seen.now - STRANDED_AFTER:
            return
        if not self._stranded_pace.is_due:
            return
        at_hand = self.board.claims_at_hand()  # looked at first: what is started later is younger
        if at_hand is None:
            return
        stranded = self._held().filter(
            state=State.CLAIMED, claimed_at__lte=DatabaseNow(-STRANDED_AFTER)
        )
        stranded = stranded.exclude(claim_id__in=at_hand)
        if self._stranded_pace.timed(stranded.exists) and (released := release(stranded)):
            self._news = True
            logger.warning(
                "claim.stranded released=%s", released, extra={"event": "claim.stranded"}
            )

    def _find_aborts(self) -> None:
        """Learn which of the runs that our workers are at are to be aborted."""
        if self.board.claims_at_hand() == set():
            self.to_abort = frozenset()
            return
        wanted = Run.objects.using(self.using).to_abort().values_list("cluster", "claim_id")
        own = self.membership.id
        self.to_abort = frozenset(claim for cluster, claim in wanted if claim and cluster == own)

    def _held(self) -> RunQuerySet:
        return Run.objects.using(self.using).held_by(self.membership.id)

    _news = False

    def _guarded(self, duty: Callable[[], object]) -> bool:
        """Do one duty; when the database cannot be reached, say so once and go on without."""
        try:
            duty()
        except UNREACHABLE as error:
            drop(self.using)
            if is_busy(error, self.using):
                self._next_at = time.monotonic() + RETRY_ROUND
                return False
            self.membership.missed()
            if not self.is_away:
                self.is_away = True
                logger.warning(
                    "database.unreachable waiting for it: %s",
                    str(error).strip(),
                    extra={"event": "database.unreachable"},
                )
            return False
        if self.is_away and connections[self.using].connection is not None:  # it was asked
            self.is_away = False
            logger.info("database.back", extra={"event": "database.back"})
        return True
