"""A cluster's life in the database: its row, its heartbeat, and what it does for others.

The row is a lease. A supervisor whose beat changes no row was declared dead: it must drop its
work and start again under a new id.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import django
from django.db.models import Min, Q

from django_defer.claims import waiting_queues
from django_defer.clock import DatabaseNow
from django_defer.models import BackgroundFunction, Cluster, Queue, Run
from django_defer.querysets import RunQuerySet
from django_defer.reap import reap
from django_defer.states import ACTIVE, Reason, State
from django_defer.sync import sync
from django_defer.transitions import BATCH, park, unpark
from django_defer.wakeup import announce

if TYPE_CHECKING:
    from django_defer.chores import Chores

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Membership:
    """One cluster among the clusters on this database."""

    using: str
    queues: Sequence[str]
    serves_all: bool
    keys: Sequence[str]
    workers: int
    schedules: bool
    lease: timedelta
    kept: set[str] = field(default_factory=set)  # keys that our sync left to other live code
    id: UUID = field(default_factory=uuid4)
    _steady_since: datetime | None = None  # both on the database's clock: ours may stand still
    _last_look: datetime | None = None

    def join(self) -> None:
        """Insert the row; only then can anything be claimed. Safe to repeat."""
        row = Cluster(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=list(self.queues),
            functions=list(self.keys),
            versions={
                "python": platform.python_version(),
                "django": django.get_version(),
                "django-defer": version("django-defer"),
            },
            workers=self.workers,
            schedules=self.schedules,
            started_at=DatabaseNow(),
            beat_at=DatabaseNow(),
        )
        Cluster.objects.using(self.using).bulk_create([row], ignore_conflicts=True)
        self.missed()

    def beat(self, *, ticked: bool) -> bool:
        """Renew the lease. False: this cluster was declared dead."""
        values: dict[str, Any] = {"beat_at": DatabaseNow()}
        if ticked:
            values["ticked_at"] = DatabaseNow()
        return bool(Cluster.objects.using(self.using).filter(pk=self.id).update(**values))

    def find_queues(self) -> None:
        """Serve queues that no code names and in which something waits, unless told which ones."""
        new = set(waiting_queues(self.using)) - set(self.queues) if self.serves_all else set()
        if new:
            self.queues = sorted({*self.queues, *new})
            Cluster.objects.using(self.using).filter(pk=self.id).update(queues=self.queues)

    def missed(self) -> None:
        """Note that the database could not be reached: others could not beat either."""
        self._steady_since = self._last_look = None

    def leave(self) -> None:
        """Delete the row: nothing of this cluster is left."""
        Cluster.objects.using(self.using).filter(pk=self.id).delete()

    def renew(self) -> None:
        """Take a new id after having been declared dead."""
        self.id = uuid4()

    def reap(self, now: datetime, chores: Chores | None = None) -> int:
        """Take back what dead clusters held, once our own beats were steady for a whole lease.

        With `chores`, only if these say that there is anything to take.

        After an outage of the database, or a pause of the whole machine, every cluster looks
        silent to every other one: a gap in our own looks begins the wait anew.
        """
        last, self._last_look = self._last_look, now
        if self._steady_since is None or last is None or now - last > self.lease / 2:
            self._steady_since = now
        if now - self._steady_since < self.lease:
            return 0
        if chores is not None and not self._is_to_reap(chores):
            return 0
        dead = reap(self.using, now, self.lease)
        for cluster in dead:
            logger.warning(
                "cluster.reaped %s silent since %s",
                cluster,
                cluster.beat_at,
                extra={"event": "cluster.reaped", "cluster": str(cluster.pk)},
            )
        if dead:
            announce(self.using)
        return len(dead)

    def _is_to_reap(self, chores: Chores) -> bool:
        oldest = chores.oldest_beat
        is_dead = oldest is not None and oldest <= chores.now - self.lease
        return is_dead or chores.has_held_by_nobody

    def seconds_until_expiry(self, now: datetime, oldest: datetime | None = None) -> float:
        """Return after how long the first cluster is taken for dead if it does not beat again.

        `oldest` is when the most silent one did, if that is known.
        """
        if oldest is None:
            oldest = Cluster.objects.using(self.using).aggregate(at=Min("beat_at"))["at"]
        return ((oldest or now) + self.lease - now).total_seconds()

    def is_to_prune(self, now: datetime) -> bool:
        """Say whether this is the one of the live schedulers that prunes: one is enough."""
        live = Cluster.objects.using(self.using).live(now, self.lease).filter(schedules=True)
        return self.schedules and live.oldest() in (None, self.id)

    def is_oldest(self, now: datetime) -> bool:
        """Say whether this is the oldest of the live clusters, or there is none in the database."""
        live = Cluster.objects.using(self.using).live(now, self.lease)
        return live.oldest() in (None, self.id)

    def sync_again(self, now: datetime) -> None:
        """Sync anew when the last cluster with other code, that our sync left be, has ended."""
        if not self.kept:
            return
        live = Cluster.objects.using(self.using).live(now, self.lease)
        others = live.exclude(pk=self.id).values_list("functions", flat=True)
        if self.kept.isdisjoint(key for functions in others for key in functions):
            report = sync(self.using)
            self.kept = report.kept
            for line in report.lines():
                logger.info("sync.completed %s", line, extra={"event": "sync.completed"})

    def has_work(self) -> bool:
        """Say whether anything is claimable, due or held by this cluster.

        One after the other: each goes by an index of its own, all at once might go by none. In the
        order in which a run moves on, so that one that does so meanwhile is not missed.
        """
        queues = Queue.objects.using(self.using).filter(paused_at__isnull=False)
        functions = BackgroundFunction.objects.using(self.using).paused()
        claimable = (
            Q(state=State.QUEUED, function__in=self.keys)
            & (Q() if self.serves_all else Q(queue__in=self.queues))
            & ~Q(queue__in=queues.values("name"))
            & ~Q(function__in=functions.values("key"))
        )
        held = Q(state__in=ACTIVE, cluster=self.id, attempt__gte=0)  # by the index of these
        due = Q(state=State.SCHEDULED, run_after__lte=DatabaseNow())
        runs = Run.objects.using(self.using)
        return any(runs.filter(wanted).exists() for wanted in (due, claimable, held))

    def sort_parked(self, now: datetime) -> tuple[int, int]:
        """Park queued runs that no live code knows, and unpark those that we know.

        Looks at the first rows of each queue only: it is these that others would wait behind.
        """
        parked = sum(self._park(queue, now) for queue in self.queues)
        runs = Run.objects.using(self.using)
        paused = BackgroundFunction.objects.using(self.using).paused().values("key")
        ready = runs.parked_for_code(self.keys).filter(queue__in=self.queues)
        unparked = unpark(self.using, ready.exclude(function__in=paused))
        if unparked:
            announce(self.using)
        for count, what in ((parked, "run.parked"), (unparked, "run.unparked")):
            if count:
                logger.info("%s count=%s", what, count, extra={"event": what, "count": count})
        return parked, unparked

    def _park(self, queue: str, now: datetime) -> int:
        front: RunQuerySet = (
            Run.objects.using(self.using).queued().filter(queue=queue).order_by("-priority", "id")
        )
        if not front.exists():
            return 0
        known: set[str] = set(self.keys)
        for cluster in Cluster.objects.using(self.using).live(now, self.lease):
            if queue in cluster.queues:
                known.update(cluster.functions)
        functions = set(front.values_list("function", flat=True)[:BATCH])
        paused = set(
            BackgroundFunction.objects.using(self.using)
            .paused()
            .filter(key__in=functions)
            .values_list("key", flat=True)
        )
        parked = 0
        for keys, reason in ((functions - known, Reason.NO_CODE), (paused, Reason.FUNCTION_PAUSED)):
            if keys:
                parked += park(self.using, front.filter(function__in=keys), reason)
        return parked
