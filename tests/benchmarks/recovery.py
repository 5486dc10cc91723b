"""How long it takes until things go on after something was killed, with the default settings.

Real processes, `kill -9` but for the last event. A run that is killed in its middle is one that
writes down when each of its attempts begins; what is enqueued after an event is enqueued by a
process that was ready for it. All times begin with the event.
"""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Final

from tests.benchmarks.arena import Arena, count
from tests.benchmarks.contenders import DEFER, WORKERS
from tests.benchmarks.functions import read_stamps
from tests.benchmarks.recovery_cluster import Caller, Cluster, are_gone, wait_for
from tests.benchmarks.report import Report, Target, median

CRASHED: Final = replace(DEFER, name="recovery")
LOAD: Final = 20_000  # runs
WARM: Final = 500  # of them, started before PostgreSQL crashes
OWN_BEAT: Final = 5.0  # seconds between two beats
LEASE: Final = 30.0

# What happens, until when, and within how many seconds.
PROMISES: Final = {
    ("worker killed in mid-run", "the loss is recorded"): 1.0,
    ("worker killed in mid-run", "its next attempt starts"): 3.0,
    ("idle workers killed", "a new run starts"): 3.0,
    ("pusher killed", "a new run starts"): 3.0,
    ("supervisor killed", "its children are gone"): 2.0,
    ("supervisor killed", "another cluster starts its run"): LEASE + OWN_BEAT + 2.0,
    ("the whole group killed", "another cluster starts its run"): LEASE + OWN_BEAT + 2.0,
    ("PostgreSQL crashes under load", "a run starts, it being back"): 3.0,
    ("SIGTERM while idle", "all have ended"): 3.0,
}

Found = dict[tuple[str, str], list[float]]


def measure(arena: Arena) -> Report:
    """Let each event happen once a round."""
    found: Found = defaultdict(list)
    for number in range(arena.rounds):
        for event in (one_cluster, two_clusters, crash):
            arena.clear(CRASHED)
            event(arena, found, 100 * number)
    report = Report(
        name="recovery",
        title=f"From an event until things go on, {WORKERS} workers, defaults: seconds",
        columns=["", "until", "n", "median", "worst", "promised"],
        notes=[
            f"lease {LEASE:g} s, a beat each {OWN_BEAT:g} s; a lost run is tried again after a "
            "random 0 to 2 s.",
        ],
        data={"seconds": {", ".join(what): seconds for what, seconds in found.items()}},
    )
    if arena.private is None:
        report.notes.append("PostgreSQL is not ours: it was not made to crash.")
    for what, promised in PROMISES.items():
        if seconds := found[what]:
            cells = (len(seconds), f"{median(seconds):.2f}", f"{max(seconds):.2f}")
            report.add(*what, *cells, f"{promised:g}")
            label = f"s at worst, {what[0]}, until {what[1]}"
            report.targets.append(Target(label, max(seconds), at_most=promised))
    return report


def one_cluster(arena: Arena, found: Found, number: int) -> None:
    """Kill its workers and its pusher, then stop it."""
    with (
        Caller(arena, CRASHED) as caller,
        arena.connection(CRASHED) as connection,
        Cluster(arena, CRASHED) as cluster,
    ):
        cluster.settle()
        run = caller.enqueue("linger", number)
        wait_for_stamp(arena, number + 1)
        began = cluster.kill(cluster.worker_of(connection, run))
        lost = f"SELECT count(*) FROM django_defer_attempt WHERE run_id = '{run}'"
        wait_for(lambda: count(connection, lost), "the loss")
        record(found, "worker killed in mid-run", "the loss is recorded", began)
        again = wait_for_stamp(arena, number + 2)
        record(found, "worker killed in mid-run", "its next attempt starts", began, again)

        for offset, what in ((11, "idle workers killed"), (12, "pusher killed")):
            cluster.settle()
            killed = cluster.workers if offset == 11 else [cluster.pusher]
            began = cluster.kill(*killed)
            caller.enqueue("stamp", number + offset)
            record(found, what, "a new run starts", began, wait_for_stamp(arena, number + offset))

        cluster.settle()
        children = [*cluster.workers, cluster.pusher]
        began = time.time()
        cluster.process.send_signal(signal.SIGTERM)
        wait_for(lambda: cluster.process.poll() is not None and are_gone(children), "the end")
        record(found, "SIGTERM while idle", "all have ended", began)


def two_clusters(arena: Arena, found: Found, number: int) -> None:
    """Kill one that has a run, while another one is there to take it over."""
    with Caller(arena, CRASHED) as caller, ExitStack() as stack:
        first = stack.enter_context(Cluster(arena, CRASHED))
        for offset, what in ((20, "supervisor killed"), (30, "the whole group killed")):
            first.settle()
            caller.enqueue("linger", number + offset)
            wait_for_stamp(arena, number + offset + 1)
            second = stack.enter_context(Cluster(arena, CRASHED))
            second.settle()
            children = [*first.workers, first.pusher]
            began = first.kill() if offset == 20 else first.kill_group()
            if offset == 20:
                wait_for(partial(are_gone, children), "the children's end")
                record(found, what, "its children are gone", began)
            again = wait_for_stamp(arena, number + offset + 2)
            record(found, what, "another cluster starts its run", began, again)
            first = second


def crash(arena: Arena, found: Found, number: int) -> None:
    """Let PostgreSQL crash while runs are executed; begin to count when it answers again."""
    if arena.private is None:
        return
    arena.step(CRASHED, "stamps", LOAD)
    with Cluster(arena, CRASHED):
        wait_for(lambda: len(read_stamps(arena.stamps)) >= WARM, "the load")
        arena.crash()
        began = time.time()

        def first() -> float | None:
            later = [each for each in read_stamps(arena.stamps).values() if each > began]
            return min(later, default=None)

        started = wait_for(first, "a run after the crash")
    record(found, "PostgreSQL crashes under load", "a run starts, it being back", began, started)


def wait_for_stamp(arena: Arena, number: int) -> float:
    """Return when the function wrote down this number."""
    return wait_for(lambda: read_stamps(arena.stamps).get(number), f"stamp {number}")


def record(found: Found, what: str, until: str, began: float, ended: float | None = None) -> None:
    """Add the seconds since `began`, up to now if no end is given."""
    found[what, until].append((ended or time.time()) - began)
