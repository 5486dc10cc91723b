"""The steps of the benchmark of claiming, in a process with django-defer's own settings."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any, Final

from django.db import DatabaseError, connections

from tests.benchmarks.contenders import WORKERS

USING: Final = "default"
QUEUE: Final = "default"
PATIENCE: Final = 120.0  # seconds for the last of them to be ready


@dataclass
class Found:
    """What one claimer saw."""

    claimed: int = 0
    milliseconds: list[float] = field(default_factory=list)  # of each claim
    empty: int = 0  # answers without a run although more wait than all others can have in hand
    errors: Counter[str] = field(default_factory=Counter)
    began: float = 0.0
    ended: float = 0.0


def claimers(number: int, labels: int, seconds: int) -> dict[str, Any]:
    """Let so many processes claim at once, for a few seconds or until nothing waits any more.

    Each is a cluster of its own, with idle workers enough for `labels` claims at a time.
    """
    connections.close_all()
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(number), context.Queue()
    processes = [
        context.Process(target=_claimer, args=(barrier, answers, number, labels, seconds))
        for _ in range(number)
    ]
    for process in processes:
        process.start()
    found = [answers.get(timeout=PATIENCE + seconds) for _ in processes]
    for process in processes:
        process.join()
    return _together(found)


def _claimer(barrier: Barrier, answers: Queue[Any], number: int, labels: int, seconds: int) -> None:
    """Claim again and again, as the pusher of one cluster does, and tell what came of it."""
    from django_defer.claims import claim
    from django_defer.models import Run
    from django_defer.statements import prefer_indexes
    from tests.benchmarks.defer import noop
    from tests.runs import new_cluster

    found, cluster = Found(), new_cluster().pk
    workers = [f"{n % WORKERS}.1" for n in range(labels)]
    prefer_indexes(USING)
    in_hand = (number + 1) * labels  # of all of them together, at most
    barrier.wait(PATIENCE)
    found.began = now = time.monotonic()
    while now < found.began + seconds:
        try:
            claims = claim(USING, QUEUE, cluster, workers, [noop.key])
        except DatabaseError as error:
            found.errors[type(error.__cause__ or error).__name__] += 1
            now = time.monotonic()
            continue
        ended = time.monotonic()
        found.claimed += len(claims)
        found.milliseconds.append((ended - now) * 1000)
        now = ended
        if not claims:
            if len(Run.objects.queued().values_list("pk")[:in_hand]) < in_hand:
                break
            found.empty += 1
            now = time.monotonic()
    found.ended = now
    answers.put(asdict(found))


def _together(found: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = max(one["ended"] for one in found) - min(one["began"] for one in found)
    errors: Counter[str] = Counter()
    for one in found:
        errors.update(one["errors"])
    return {
        "claimed": [one["claimed"] for one in found],
        "rate": sum(one["claimed"] for one in found) / seconds,
        "seconds": seconds,
        "milliseconds": [value for one in found for value in one["milliseconds"]],
        "empty": sum(one["empty"] for one in found),
        "errors": dict(errors),
    }
