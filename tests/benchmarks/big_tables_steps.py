"""The steps of the benchmark of big tables, in a process with django-defer's own settings."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Final

from django.db import connection

if TYPE_CHECKING:
    from django_defer.claims import Claim

USING: Final = "default"
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


def hot_statements(count: int) -> dict[str, list[float]]:
    """Return the milliseconds of `count` claims of each size, and of as many starts with finishes.

    Nothing waits for the disk: that takes as long on any table, and would hide the rest.
    """
    from django_defer.claims import claim, claim_by_index
    from tests.benchmarks.defer import noop
    from tests.runs import new_cluster

    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
    claim_by_index(USING)
    cluster = new_cluster().pk
    found: dict[str, list[float]] = {}
    claims: list[Claim] = []
    for size in SIZES:
        workers = [f"{n % 2}.1" for n in range(size)]
        times = found[f"claim of {size}"] = []
        for _ in range(WARM_UPS + count):
            began = time.perf_counter()
            pairs = claim(USING, "default", cluster, workers, [noop.key])
            times.append((time.perf_counter() - began) * 1000)
            if len(pairs) != size:
                raise RuntimeError(f"a claim of {size} got {len(pairs)}")
            claims += [mine for _, mine in pairs]
    found["start and finish"] = [_execute(one) for one in islice(claims, WARM_UPS + count)]
    return {name: times[WARM_UPS:] for name, times in found.items()}


def _execute(claim: Claim) -> float:
    """Return how many milliseconds it takes to start a run and to finish it."""
    from django_defer import attempts

    began = time.perf_counter()
    started = attempts.start(USING, claim, "0.1")
    if started is None or not attempts.succeed(USING, started, "1"):
        raise RuntimeError("the claim was taken away")
    return (time.perf_counter() - began) * 1000
