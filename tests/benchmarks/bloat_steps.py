"""The step of the benchmark of bloat: how long the queue's own statements take just now."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

from django.db import connection, transaction

TIMES: Final = 7
USING: Final = "default"
LEASE: Final = timedelta(seconds=30)


def statements() -> dict[str, float]:
    """Return the milliseconds of each statement that a pusher, a worker or a supervisor repeats.

    Nothing is changed: all is rolled back. No worker may be there.
    """
    from django_defer import attempts
    from django_defer.attempt_facts import Success
    from django_defer.chores import find_chores
    from django_defer.claims import Claim, claim, waiting_queues
    from django_defer.fronts import Front
    from django_defer.membership import Membership
    from django_defer.models import Run
    from django_defer.reap import reap
    from django_defer.scheduler import look
    from django_defer.statements import prefer_indexes

    first = Run.objects.order_by("id").values_list("function", "pk").first()
    assert first is not None
    function, some = first
    latest = Run.objects.filter(cluster__isnull=False).order_by("-id")
    former = latest.values_list("cluster", flat=True).first()
    assert former is not None
    with transaction.atomic():
        member = Membership(
            using=USING,
            queues=["default"],
            serves_all=True,
            keys=[function],
            workers=1,
            schedules=False,
            lease=LEASE,
            id=former,
        )
        member.join()
        prefer_indexes(USING)
        found = {"claim": _median(partial(claim, USING, "default", member.id, ["0.1"], [function]))}
        front = Front(USING, "default", member.id, [function])
        front.claim(["0.1"])  # from the very front
        found["next claim"] = _median(partial(front.claim, ["0.1"]))
        _use_all_ways()
        mine = Claim(some, UUID(int=1), 1)
        Run.objects.filter(pk=some).update(state="claimed", claim_id=mine.claim_id, cluster=former)
        found["start"] = _median(partial(attempts.start, USING, mine, "0.1"))
        started = attempts.start(USING, mine, "0.1")
        assert started is not None
        ends: list[float] = []
        for _ in range(TIMES):
            Run.objects.filter(pk=some).update(state="running")
            ends.append(_milliseconds(lambda: attempts.succeed(USING, Success(started, "1", 0.0))))
        found["finish"] = statistics.median(ends)
        prefer_indexes(USING)  # as a supervisor's session does
        held = Run.objects.held_by(former)
        found["held"] = _median(held.filter(state="claimed").exists)
        now = look(USING).now
        found["reap"] = _median(partial(reap, USING, now, LEASE))
        found["park"] = _median(partial(member.sort_parked, now))
        found["queues"] = _median(partial(waiting_queues, USING))
        found["look"] = _median(partial(look, USING))
        found["chores"] = _median(partial(find_chores, USING))
        transaction.set_rollback(True)
    return found


def _use_all_ways() -> None:
    """Undo `prefer_indexes`: the sessions of workers don't have it."""
    with connection.cursor() as cursor:
        for way in ("enable_seqscan", "enable_bitmapscan", "enable_sort", "jit"):
            cursor.execute(f"SET {way} = on")
    connection.connection.django_defer_prefers_indexes = False


def _median(action: Callable[[], object]) -> float:
    """Return the milliseconds of one of TIMES, at the median."""
    return statistics.median([_milliseconds(action) for _ in range(TIMES)])


def _milliseconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000
