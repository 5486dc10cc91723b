"""The steps of the benchmark of big tables, in a process with django-defer's own settings."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from django.db import connections

from tests.benchmarks.contenders import WORKERS

if TYPE_CHECKING:
    from django_defer.claims import Claim

USING: Final = "default"
SMALL: Final = "small"  # the alias of the other database
WARM_UPS: Final = 10
SIZES: Final = (2, 32)  # runs a claim
AT: Final = "now() - interval '{ago}' + n * interval '1 ms'"

_ENDED: Final = {
    "attempt": "1",
    "worker": "'0.1'",
    "cluster": "CAST('0197a5f0-0000-7000-8000-000000000000' AS uuid)",
    "claim_id": "gen_random_uuid()",
    "result": "to_jsonb(n)",
}


def finished(rows: int) -> None:
    """Insert so many runs that ended a month ago."""
    at = AT.format(ago="30 days")
    ended = dict.fromkeys(("enqueued_at", "claimed_at", "started_at", "finished_at"), at)
    _insert("succeeded", rows, "30 days", **ended, **_ENDED)


def waiting(rows: int) -> None:
    """Insert so many queued runs."""
    _insert("queued", rows, "1 day")


def in_front(rows: int) -> None:
    """Insert scheduled and parked runs that are older and more urgent than what waits."""
    later = "now() + n * interval '1 second'"
    _insert("scheduled", rows // 2, "2 days", priority="9", run_after=later)
    _insert("parked", rows // 2, "3 days", priority="9", reason="'function_paused'")


def _insert(state: str, rows: int, ago: str, **columns: str) -> None:
    from django_defer.states import State
    from tests.benchmarks.defer import noop
    from tests.runs import fill, uuid7_sql

    at = AT.format(ago=ago)
    args = """'{"args": [1], "kwargs": {}}'"""
    same = {"function": f"'{noop.key}'", "args": args, "priority": "0", "run_after": at}
    fill(State(state), rows, **{"id": uuid7_sql(at), **same, **columns})


def hot_statements(small: str, count: int) -> list[dict[str, list[float]]]:
    """Return the milliseconds of `count` claims of each size, and of as many starts with finishes.

    One after the other in the database called `small` and in our own, so that whatever else the
    machine does meets both. Nothing waits for the disk: that takes as long on any table, and would
    hide the rest.
    """
    connections.databases[SMALL] = {**connections.databases[USING], "NAME": small}
    both = [_Claimer(SMALL), _Claimer(USING)]
    actions = [partial(_Claimer.claim, size=size) for size in SIZES] + [partial(_Claimer.execute)]
    for action in actions:
        for turn in range(WARM_UPS + count):
            for one in both if turn % 2 else both[::-1]:
                action(one)
    return [{name: times[WARM_UPS:] for name, times in one.found.items()} for one in both]


class _Claimer:
    """Claims, starts and finishes in one database, as pusher and worker do."""

    def __init__(self, using: str) -> None:
        from django_defer.clock import DatabaseNow
        from django_defer.models import Cluster
        from django_defer.statements import prefer_indexes

        self.using = using
        self.found: defaultdict[str, list[float]] = defaultdict(list)
        self.claims: list[Claim] = []
        with connections[using].cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")
        prefer_indexes(using)
        self.cluster = Cluster.objects.using(using).create(
            id=uuid4(), host="here", pid=1, started_at=DatabaseNow(), beat_at=DatabaseNow()
        )

    def claim(self, size: int) -> None:
        """Claim so many runs at once."""
        from django_defer.claims import claim
        from tests.benchmarks.defer import noop

        workers = [f"{n % WORKERS}.1" for n in range(size)]
        with self._timed(f"claim of {size}"):
            pairs = claim(self.using, "default", self.cluster.pk, workers, [noop.key])
        if len(pairs) != size:
            raise RuntimeError(f"a claim of {size} got {len(pairs)}")
        self.claims += [mine for _, mine in pairs]

    def execute(self) -> None:
        """Start a run and finish it."""
        from django_defer import attempts
        from django_defer.attempt_facts import Success

        claim = self.claims.pop()
        with self._timed("start and finish"):
            started = attempts.start(self.using, claim, "0.1")
            is_mine = started is not None and attempts.succeed(
                self.using, Success(started, "1", 0.0)
            )
        if not is_mine:
            raise RuntimeError("the claim was taken away")

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.found[what].append((time.perf_counter() - began) * 1000)
