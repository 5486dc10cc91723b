"""Named row sets, so that a query reads like the sentence it answers.

Every query of django-defer goes to the one database that `DEFER["DATABASE"]` names.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from django.db import models
from django.db.models import Count, F, Func, Q
from django.db.models.expressions import Expression
from django.db.models.lookups import GreaterThanOrEqual, In

from django_defer.conf import conf
from django_defer.states import ACTIVE, FINISHED, UNFINISHED, WAITING, Reason, State

if TYPE_CHECKING:
    from django_defer.models import BackgroundFunction, Cluster, CronDefinition, Run  # noqa: F401

M = TypeVar("M", bound=models.Model)


class InStates(In):
    """`state IN ('claimed', 'running')`, written out.

    SQLite takes a partial index for an IN of literals only, not of parameters.
    """

    def __init__(self, states: Collection[State]) -> None:
        super().__init__(F("state"), sorted(states))

    def process_rhs(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """Return the states as SQL; they are our own words, and have no quotes in them."""
        states = ", ".join(f"'{state}'" for state in self.rhs)
        return f"({states})", ()


class Zero(Expression):
    """The number 0, written out."""

    def __init__(self) -> None:
        super().__init__(output_field=models.IntegerField())

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """Return it as SQL."""
        return "0", ()


def by_held_index() -> GreaterThanOrEqual:
    """Return the condition, true of every run, that lets a query use the index of what is held."""
    return GreaterThanOrEqual(F("attempt"), Zero())


class HasPair(Func):
    """`metadata` has this pair: found by its index on PostgreSQL, row by row on SQLite."""

    output_field = models.BooleanField()

    def __init__(self, key: str, value: str) -> None:
        super().__init__(F("metadata"))
        self.pair = (key, value)

    def as_sql(self, compiler: Any, connection: Any, *args: Any, **context: Any) -> Any:
        """Look at the pairs one by one: a path could not name every key."""
        column, params = compiler.compile(self.source_expressions[0])
        sql = (
            f"EXISTS (SELECT 1 FROM json_each({column}) AS pair "  # noqa: S608 - our own column
            f"WHERE pair.key = %s AND pair.atom = %s)"
        )
        return sql, (*params, *self.pair)

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        """Compare in the way that the index knows."""
        column, params = compiler.compile(self.source_expressions[0])
        key, value = self.pair
        return f"{column} @> %s::jsonb", (*params, json.dumps({key: value}))


class RunQuerySet(models.QuerySet["Run"]):
    """Sets of runs."""

    def in_state(self, state: str) -> RunQuerySet:
        """In this state, found by the index that such runs have."""
        runs = self.filter(state=state)
        return runs.filter(by_held_index()) if state in ACTIVE else runs

    def waiting(self) -> RunQuerySet:
        """Not started: scheduled, queued or parked."""
        return self.filter(InStates(WAITING))

    def queued(self) -> RunQuerySet:
        """Due, and waiting for a worker."""
        return self.filter(state=State.QUEUED)

    def active(self) -> RunQuerySet:
        """Claimed by a worker or running in one."""
        return self.filter(InStates(ACTIVE), by_held_index())

    def unfinished(self) -> RunQuerySet:
        """Everything that has not ended."""
        return self.filter(InStates(UNFINISHED))

    def failed_last(self) -> RunQuerySet:
        """Failed for good, those that were enqueued last first, as their index has them."""
        return self.filter(state=State.FAILED).order_by("-id")

    def with_id_beginning(self, digits: str) -> RunQuerySet:
        """Whose id begins with these hexadecimal digits, found by the primary key."""
        first, last = digits.ljust(32, "0"), digits.ljust(32, "f")
        return self.filter(pk__gte=UUID(first), pk__lte=UUID(last))

    def finished(self) -> RunQuerySet:
        """Ended, one way or the other."""
        return self.filter(state__in=FINISHED)

    def due(self, now: datetime) -> RunQuerySet:
        """Scheduled for `now` or earlier."""
        return self.filter(state=State.SCHEDULED, run_after__lte=now)

    def expired(self, now: datetime) -> RunQuerySet:
        """Waiting, although they had to begin by `now` or earlier."""
        return self.waiting().filter(discard_after__lte=now)

    def retrying(self) -> RunQuerySet:
        """Scheduled because an earlier attempt failed or was lost."""
        return self.filter(Q(failures__gt=0) | Q(losses__gt=0), state=State.SCHEDULED)

    def held_by(self, cluster: UUID | None, worker: str | None = None) -> RunQuerySet:
        """Claimed or running in this cluster, or in one worker of it."""
        held = self.active().filter(cluster=cluster)
        return held if worker is None else held.filter(worker=worker)

    def parked_for_code(self, keys: Collection[str]) -> RunQuerySet:
        """Parked, of functions that these workers know.

        For whatever reason but an overlap: a run that was parked at the moment its function was
        resumed would otherwise stay parked. Leave out what is paused now.
        """
        parked = self.filter(state=State.PARKED, function__in=keys)
        return parked.exclude(reason=Reason.OVERLAP)

    def to_abort(self) -> RunQuerySet:
        """Running, and to be aborted."""
        return self.filter(state=State.RUNNING, abort_requested_at__isnull=False)

    def of_slots(self, definitions: Collection[int]) -> RunQuerySet:
        """Made by these definitions' slots (not by `run_now` or a rerun)."""
        return self.filter(definition__in=definitions, slot__isnull=False)

    def not_begun(self) -> RunQuerySet:
        """Waiting for their first attempt, or for one that was given back: no retries."""
        return self.filter(
            InStates(UNFINISHED),
            Q(state__in=(State.QUEUED, State.PARKED)) | Q(state=State.SCHEDULED, failures=0),
        )

    def children_of(self, run_id: UUID) -> RunQuerySet:
        """The runs that this run enqueued."""
        return self.filter(parent=run_id)

    def with_metadata(self, pairs: Mapping[str, str]) -> RunQuerySet:
        """With all of these pairs of metadata."""
        return self.filter(*(HasPair(key, value) for key, value in pairs.items()))

    def count_by_state(self) -> dict[str, int]:
        """Return how many there are in each state that occurs."""
        rows = self.order_by().values_list("state").annotate(n=Count("pk"))
        return dict(rows)


class FunctionQuerySet(models.QuerySet["BackgroundFunction"]):
    """Sets of background functions."""

    def paused(self) -> FunctionQuerySet:
        """Paused by an operator."""
        return self.filter(paused_at__isnull=False)

    def in_code(self) -> FunctionQuerySet:
        """Known to the code that was synced last."""
        return self.filter(orphaned_at__isnull=True)


class DefinitionQuerySet(models.QuerySet["CronDefinition"]):
    """Sets of cron definitions."""

    def firing(self) -> DefinitionQuerySet:
        """Neither paused nor orphaned nor switched off."""
        return self.filter(enabled=True, paused_at__isnull=True, orphaned_at__isnull=True)

    def due(self, now: datetime) -> DefinitionQuerySet:
        """Firing, with a slot at `now` or earlier; the earliest first."""
        return self.firing().filter(next_slot_at__lte=now).order_by("next_slot_at", "pk")


class ClusterQuerySet(models.QuerySet["Cluster"]):
    """Sets of clusters."""

    def live(self, now: datetime, lease: timedelta) -> ClusterQuerySet:
        """Heard of within the lease."""
        return self.filter(beat_at__gt=now - lease)

    def dead(self, now: datetime, lease: timedelta) -> ClusterQuerySet:
        """Silent for the whole lease."""
        return self.filter(beat_at__lte=now - lease)

    def oldest(self) -> UUID | None:
        """Return the id of the one that started first."""
        return self.order_by("started_at", "pk").values_list("pk", flat=True).first()


class DeferManager(models.Manager[M]):
    """Names the database in each query, so that no router is needed."""

    @property
    def db(self) -> str:
        """The alias that queries go to."""
        return self._db or str(conf.database)

    def get_queryset(self) -> Any:
        """Return a query set bound to that alias."""
        return super().get_queryset().using(self.db)


RunManager = DeferManager.from_queryset(RunQuerySet)
FunctionManager = DeferManager.from_queryset(FunctionQuerySet)
DefinitionManager = DeferManager.from_queryset(DefinitionQuerySet)
ClusterManager = DeferManager.from_queryset(ClusterQuerySet)
