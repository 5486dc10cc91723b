"""What clusters cost that have nothing to do: processor, queries, connections.

One cluster that listens and one that polls; then many that listen, on one PostgreSQL, beside which
single runs are enqueued: each wakes all of them, and one gets it. Queries are transactions as
PostgreSQL counts them; the few of autovacuum are among them, and none of ours: these are made in
another database.
"""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.benchmarks.arena import Arena, count, wait_for_zero
from tests.benchmarks.contenders import DEFER, WORKERS, Contender
from tests.benchmarks.process_trees import available_megabytes, cpu_seconds
from tests.benchmarks.recovery_cluster import Caller, wait_for
from tests.benchmarks.report import Report, Target
from tests.worker_processes import parent_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

LISTENING: Final = replace(DEFER, name="listening", label="1 cluster, LISTEN")
POLLING: Final = replace(
    DEFER, name="polling", label='1 cluster, {"LISTEN": False}', defer={"LISTEN": False}
)
MANY: Final = replace(DEFER, name="crowd", workers=1)
CLUSTERS: Final = 50
QUICK_CLUSTERS: Final = 8
ROOM: Final = 150.0  # megabytes that a cluster of one worker may take
SECONDS: Final = 60.0
QUICK_SECONDS: Final = 20.0
REST: Final = 12.0  # seconds: two beats, and PostgreSQL's own count is up to date
RUNS: Final = 40  # so that each worker has executed one
WITHIN: Final = 120.0
GAP: Final = 1.0  # seconds between two enqueues
CLAIM: Final = b"WITH picked AS"  # how the statement begins

CONNECTIONS: Final = (  # autovacuum's processes are no clients
    "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
)
TRANSACTIONS: Final = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s"


@dataclass(frozen=True, slots=True)
class Idleness:
    """What was used, a second: shares of one core, and transactions. `connections` at the end."""

    clusters: float
    server: float | None  # None: its processes are not on this machine
    queries: float
    connections: int


def measure(arena: Arena) -> Report:
    """Leave clusters alone for a while; then wake many of them."""
    one = {each.name: alone(arena, each) for each in (LISTENING, POLLING)}
    clusters = fitting(QUICK_CLUSTERS if arena.quick else CLUSTERS)
    with crowd(arena, clusters) as pids:
        many = idle(arena, MANY, pids, seconds(arena))
        empty = herd(arena, round(seconds(arena) / GAP))
    (started, listening), (_, polling) = one["listening"], one["polling"]
    report = Report(
        name="idling",
        title="Clusters with nothing to do",
        columns=["", "CPU %", "PostgreSQL CPU %", "queries/s", "connections"],
        notes=[
            f"% of one core, over {seconds(arena):g} s. 1 cluster: {WORKERS} workers, all "
            "of which have executed something; others: 1 worker, which has not.",
            f"connections of 1 cluster before its first run: {started}.",
        ],
        targets=[
            Target("% of one core, 1 cluster", listening.clusters, at_most=1),
            Target("queries/s, 1 cluster that listens", listening.queries, at_most=3),
            Target("queries/s, 1 cluster that polls", polling.queries, at_most=6),
            Target(
                "connections, 1 cluster, besides supervisor, pusher and each worker",
                listening.connections - 2 - WORKERS,
                at_most=0,
            ),
        ],
        data={"clusters": clusters, "empty claims an enqueue": empty},
    )
    if many.server is not None:
        label = f"% of one core, PostgreSQL with {clusters} idle clusters"
        report.targets.append(Target(label, many.server, at_most=5))
    if empty is not None:
        label = f"claims that find nothing, an enqueue, {clusters} idle clusters"
        report.targets.append(Target(label, empty))
    if not arena.quick and clusters < CLUSTERS:
        report.notes.append(f"{CLUSTERS} clusters were meant: the memory is not enough.")
    for label, found in (
        (LISTENING.label, listening),
        (POLLING.label, polling),
        (f"{clusters} clusters, LISTEN", many),
    ):
        server = "" if found.server is None else f"{found.server:.2f}"
        report.add(
            label, f"{found.clusters:.2f}", server, f"{found.queries:.1f}", found.connections
        )
    return report


def seconds(arena: Arena) -> float:
    """Return how long to look."""
    return QUICK_SECONDS if arena.quick else SECONDS


def fitting(clusters: int) -> int:
    """Return how many clusters the machine has room for, as many as that at most."""
    return max(2, min(clusters, int(available_megabytes() / ROOM)))


def alone(arena: Arena, contender: Contender) -> tuple[int, Idleness]:
    """Return the connections of a cluster before its first run, and what it costs afterwards."""
    arena.clear(contender)
    arena.settle(contender)
    with arena.process(contender) as process, arena.connection(contender) as connection:
        wait_for(partial(_has_clusters, connection, 1), "the cluster")
        time.sleep(2.0)  # its pusher has looked
        started = _connections(arena, contender) - 1
        arena.step(contender, "fill", RUNS)
        wait_for_zero(connection, contender.unfinished, within=WITHIN)
        connection.close()
        return started, idle(arena, contender, [process.pid], seconds(arena))


def idle(arena: Arena, contender: Contender, pids: list[int], span: float) -> Idleness:
    """Return what the clusters and PostgreSQL use while nothing happens."""
    time.sleep(REST)
    server = _postmaster(arena)
    name = arena.database(contender)

    def look() -> tuple[float, float, float, int]:
        ((transactions,),) = arena.server.execute(TRANSACTIONS, [name]).fetchall()
        own = sum(map(cpu_seconds, pids))
        return time.monotonic(), own, cpu_seconds(server) if server else 0.0, transactions

    before = look()
    time.sleep(span)
    after = look()
    took, own, servers, transactions = (b - a for a, b in zip(before, after, strict=True))
    return Idleness(
        100 * own / took,
        100 * servers / took if server else None,
        transactions / took,
        _connections(arena, contender),
    )


@contextmanager
def crowd(arena: Arena, clusters: int) -> Iterator[list[int]]:
    """Have many clusters running inside; return the ids of their supervisors."""
    arena.clear(MANY)
    arena.settle(MANY)
    running: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        with arena.connection(MANY) as connection:
            for number in range(clusters):
                running.append(stack.enter_context(arena.process(MANY)))
                wait_for(partial(_has_clusters, connection, number + 1), "another cluster")
        try:
            yield [each.pid for each in running]
        finally:
            for each in running:  # all at once; the stack waits for them
                each.terminate()


def herd(arena: Arena, enqueues: int) -> float | None:
    """Return how many claims find nothing for each run that is enqueued; None: can't be seen.

    PostgreSQL logs the statements of a while without and of one with enqueues.
    """
    if arena.private is None:
        return None
    log = arena.private.root / "log"

    def claims(action: Callable[[], object]) -> int:
        start = log.stat().st_size
        for _ in range(enqueues):
            action()
            time.sleep(GAP)
        return log.read_bytes()[start:].count(CLAIM)

    arena.server.execute("ALTER SYSTEM SET log_statement = 'all'")
    arena.server.execute("SELECT pg_reload_conf()")
    with Caller(arena, MANY) as caller:
        time.sleep(1.0)
        without = claims(lambda: None)
        woken = claims(lambda: caller.enqueue("noop", 1))
    arena.server.execute("ALTER SYSTEM RESET log_statement")
    arena.server.execute("SELECT pg_reload_conf()")
    if not without:
        raise RuntimeError(f"no claim was logged: does it still begin with {CLAIM!r}?")
    return (woken - without) / enqueues - 1  # one of them got it


def _has_clusters(connection: psycopg.Connection, number: int) -> bool:
    return count(connection, "SELECT count(*) FROM django_defer_cluster") == number


def _connections(arena: Arena, contender: Contender) -> int:
    """Return how many there are to its database."""
    ((number,),) = arena.server.execute(CONNECTIONS, [arena.database(contender)]).fetchall()
    return int(number)


def _postmaster(arena: Arena) -> int | None:
    """Return the process whose children serve connections, if it is on this machine."""
    backend = arena.server.info.backend_pid
    parent = parent_of(backend)
    return parent if arena.private is not None and parent > 1 else None
