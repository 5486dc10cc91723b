"""For tests of a project: run what is due here, in this process, also inside a TestCase.

from django_defer.testing import drain

compute_product_recommendation(user)
assert drain().succeeded == 1
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.db import transaction

from django_defer.claims import claim, waiting_queues
from django_defer.clock import DatabaseNow, database_now
from django_defer.conf import conf
from django_defer.connections import Freshness
from django_defer.executor import Executor
from django_defer.interrupts import Interrupts
from django_defer.log_writing import LogWriter
from django_defer.models import Cluster, Run
from django_defer.registry import registry
from django_defer.run_logs import Scribe
from django_defer.scheduler import tick
from django_defer.spool import Spool
from django_defer.states import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from uuid import UUID

    from django_defer.attempt_facts import Started
    from django_defer.registry import Function

WORKER = "test"


@dataclass(frozen=True, slots=True)
class Drained:
    """What a drain executed. `runs` are refreshed, in the order of their last attempts."""

    runs: list[Run]
    attempts: int

    @property
    def succeeded(self) -> int:
        """How many of the runs succeeded."""
        return sum(run.state == State.SUCCEEDED for run in self.runs)

    @property
    def failed(self) -> int:
        """How many of the runs failed for good."""
        return sum(run.state == State.FAILED for run in self.runs)


class InlineExecutor(Executor):
    """Executes in the caller's process and transaction: each body in a savepoint of its own."""

    def call(self, function: Function[Any, Any], started: Started) -> str:
        """Call inside a savepoint, so that a failing body undoes its own writes only."""
        with transaction.atomic(using=self.using):
            return super().call(function, started)

    def tidy(self) -> None:
        """Leave connections alone: the transaction is the test's."""

    def persist(self, action: Any) -> Any:
        """Write once: in a test an unreachable database is the test's failure."""
        return action()


class Unlimited(Interrupts):
    """No time limits: a test's own timer and signal handlers stay as they are."""

    def __init__(self) -> None:
        self._inside = self._is_async = False
        self._cause = self._cancel_task = None
        self._is_to_abort = lambda: False

    @contextmanager
    def limited(
        self, seconds: float, is_to_abort: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """Let it take as long as it takes."""
        yield


def drain(*, now: datetime | None = None, limit: int = 10_000) -> Drained:
    """Promote and fire what is due at `now`, then execute until nothing is due any more.

    `now` (an aware datetime; default: the database's clock) makes delayed runs, retries and
    slots due without waiting; it does not change what the functions themselves see as now.
    `max_duration` is not enforced here.
    Raises RuntimeError after `limit` attempts.
    """
    using = str(conf.database)
    scribe, logs = Scribe(Spool()), LogWriter(using)
    logs.spools.append(scribe.spool)
    executor = InlineExecutor(
        using=using,
        worker=WORKER,
        inbox=None,
        board=None,
        interrupts=Unlimited(),
        freshness=Freshness(),
        scribe=scribe,
    )
    ids: dict[UUID, None] = {}
    attempts = 0
    with _cluster(using) as cluster, scribe.listening():
        while True:
            tick(using, now or database_now(using))
            claims = [
                mine
                for queue in waiting_queues(using)
                for _, mine in claim(using, queue, cluster, [WORKER], registry.keys())
            ]
            if not claims:
                break
            for mine in claims:
                attempts += 1
                if attempts > limit:
                    raise RuntimeError(f"drain() made {limit} attempts and there is still more.")
                ids.pop(mine.run_id, None)
                ids[mine.run_id] = None
                executor.execute(mine)
                logs.finish()
    found = Run.objects.using(using).in_bulk(list(ids))
    return Drained([found[run_id] for run_id in ids], attempts)


@contextmanager
def _cluster(using: str) -> Iterator[UUID]:
    """Have a live cluster for a while: without one, nothing can be claimed."""
    clusters = Cluster.objects.using(using)
    cluster = clusters.create(
        id=uuid4(), host="test", pid=0, started_at=DatabaseNow(), beat_at=DatabaseNow()
    )
    try:
        yield cluster.pk
    finally:
        clusters.filter(pk=cluster.pk).delete()
