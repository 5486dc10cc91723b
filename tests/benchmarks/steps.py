"""What is done with a contender's own settings, in a process of its own: enqueueing.

`python -m tests.benchmarks.steps fill 5000` prints what the function returns, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import django
from django.db import close_old_connections, transaction

from tests.benchmarks import (
    admin_steps,
    big_tables_steps,
    bloat_steps,
    claiming_steps,
    enqueueing_steps,
    functions,
    now_and_then,
    pruning_steps,
    scaling_steps,
    schedule_steps,
)


def is_ours() -> bool:
    """Say whether this contender is django-defer."""
    return os.environ["DEFER_BENCH_KIND"] == "django_defer"


def enqueuer(name: str) -> Callable[[Any], object]:
    """Return what enqueues one call of the function called `name`."""
    if is_ours():
        from tests.benchmarks import defer

        call: Callable[[Any], object] = getattr(defer, name)
        return call
    from django_q.tasks import async_task

    return lambda value: async_task(f"{functions.__name__}.{name}", value)


def fill(rows: int) -> float:
    """Enqueue no-ops, however it is fastest, and return the seconds it took."""
    began = time.perf_counter()
    if is_ours():
        from tests.benchmarks.defer import noop

        noop.map(range(rows))
    else:
        one_by_one(rows, in_transaction=True)
    return time.perf_counter() - began


def one_by_one(rows: int, *, in_transaction: bool) -> float:
    """Enqueue no-ops one after the other and return the seconds it took."""
    enqueue = enqueuer("noop")
    enqueue(0)  # opens the connection
    began = time.perf_counter()
    with transaction.atomic() if in_transaction else nullcontext():
        for number in range(rows - 1):
            enqueue(number)
    return time.perf_counter() - began


def stamps(rows: int) -> None:
    """Enqueue runs that write down when they begin: numbers from 0 on."""
    from tests.benchmarks.defer import stamp

    stamp.map(range(rows))


def who(rows: int) -> None:
    """Enqueue runs that write down which process executes them."""
    enqueue = enqueuer("who")
    for number in range(rows):
        enqueue(number)


def calls() -> None:
    """Enqueue at once what standard input asks for, "stamp 17", and answer each line with its id.

    The first answer is "ready".
    """
    print("ready", flush=True)
    for line in sys.stdin:
        name, number = line.split()
        print(enqueuer(name)(int(number)).pk, flush=True)  # type: ignore[attr-defined]
        close_old_connections()


def main(arguments: Sequence[str]) -> None:
    """Run the step that is named."""
    django.setup()
    name, *rest = arguments
    values = [int(word) if word.isdecimal() else word for word in rest]
    steps: dict[str, Callable[..., object]] = {
        "fill": fill,
        "autocommit": lambda rows: one_by_one(rows, in_transaction=False),
        "transaction": lambda rows: one_by_one(rows, in_transaction=True),
        "map": enqueueing_steps.bulk,
        "map_in_batches": enqueueing_steps.bulk_in_batches,
        "beside_create": enqueueing_steps.beside_create,
        "latencies": lambda runs, seed: now_and_then.latencies(enqueuer("stamp"), runs, seed),
        "latencies_in_pairs": lambda runs, seed: now_and_then.latencies(
            enqueuer("stamp"), runs, seed, in_pairs=True
        ),
        "stamps": stamps,
        "calls": calls,
        "who": who,
        "statements": bloat_steps.statements,
        "claimers": claiming_steps.claimers,
        "finished": big_tables_steps.finished,
        "waiting": big_tables_steps.waiting,
        "in_front": big_tables_steps.in_front,
        "hot_statements": big_tables_steps.hot_statements,
        "naps": scaling_steps.naps,
        "mixed": scaling_steps.mixed,
        "fill_old": pruning_steps.fill,
        "prune_beside_claims": pruning_steps.prune_beside_claims,
        "define": schedule_steps.define,
        "looks": schedule_steps.looks,
        "due": schedule_steps.due,
        "rest": schedule_steps.rest,
        "weekend": schedule_steps.weekend,
        "q2_due": schedule_steps.q2_due,
        "q2_lateness": schedule_steps.q2_lateness,
        "seed_admin": admin_steps.seed,
        "ask_admin": admin_steps.ask,
    }
    print(json.dumps(steps[name](*values)))


if __name__ == "__main__":
    main(sys.argv[1:])
