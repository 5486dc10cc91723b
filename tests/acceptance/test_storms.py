"""kill -9 again and again at random moments, under load: nothing is lost, nothing stands still."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from django_defer.models import Attempt, Cluster, Run
from tests.acceptance.harness import (
    SHORT_LEASE,
    STRANDED,
    check_for_stranded_claims,
    claimed_in_chunks,
    wait_until,
    wait_until_all_ended,
)
from tests.testapp import defer as functions
from tests.testapp.models import Effect
from tests.worker_processes import is_alive

if TYPE_CHECKING:
    from tests.acceptance.harness import Tree, Trees


MOMENTS = random.Random()  # other moments each time, whatever the seed of the order is

KILLS, RUNS = 50, 2000
CALM: Final = 6  # seconds before every tenth kill, in which the dead are found


def test_whole_groups_killed_again_and_again_under_load_lose_nothing(trees: Trees) -> None:
    """One of two clusters dies at a time, also while it starts; its replacement begins at once."""
    pair = [trees("--workers", "2", defer=SHORT_LEASE) for _ in range(2)]
    for number in range(KILLS):
        enqueue_load(RUNS // KILLS)
        time.sleep(CALM if number % 10 == 9 else MOMENTS.uniform(0.05, 1.5))
        victim = pair[number % 2]
        victim.send_to_group(signal.SIGKILL)
        victim.process.wait()
        pair[number % 2] = trees("--workers", "2", defer=SHORT_LEASE, ready=False)
    for tree in pair:
        tree.wait_for_log("cluster.started")
    wait_until_all_ended(60)
    check_the_ends(RUNS)
    assert claimed_in_chunks() > RUNS / 20
    assert not Run.objects.active().exists()
    alive = {tree.cluster_ids[-1] for tree in pair}
    wait_until(lambda: {str(row.pk) for row in Cluster.objects.all()} == alive, what="two clusters")
    lost = Attempt.objects.filter(outcome="lost")  # the storm did hit what ran, in many clusters,
    assert lost.values("cluster").distinct().count() >= KILLS / 5
    assert any(tree.said("cluster.reaped") for tree in trees.trees[: KILLS // 2])  # and all along


def test_workers_killed_again_and_again_freeze_and_strand_nothing(trees: Trees) -> None:
    tree = trees("--workers", "3")
    kills = 0
    for _ in range(4):  # idle: all at once, as a worker that waits for work held a lock once
        functions.noop().get_result("10s")
        victims = living_workers(tree)
        for victim in victims:
            kill_worker(tree, victim)
        kills += len(victims)
        functions.noop().get_result("10s")
    for _ in range(40):
        enqueue_load(15)
        until = time.monotonic() + MOMENTS.uniform(0.02, 0.5)
        while time.monotonic() < until:
            check_for_stranded_claims()
            time.sleep(0.02)
        kill_worker(tree, MOMENTS.choice(wait_until(lambda: living_workers(tree))))
        kills += 1
    wait_until_all_ended()
    check_the_ends(40 * 15)
    assert claimed_in_chunks() > 15
    check_that_nothing_stood_still()
    wait_until(lambda: len(living_workers(tree)) == 3, what="three workers")
    tree.wait_for_log("worker.died", times=kills)
    assert tree.said("worker.died") == kills  # none but those that were killed here
    assert tree.said("worker.died slot=") == tree.said("exit_code=-9 SIGKILL")
    assert tree.said("pusher.started") == 1
    assert len(tree.cluster_ids) == 1


# -- what the tests above share ----------------------------------------------------------------


def enqueue_load(count: int) -> None:
    """Enqueue runs, each of which leaves one effect called after its label: half of them quick,
    so that they come in chunks."""
    first = Run.objects.exclude(label="").count()
    for number in range(first, first + count):
        name = f"load {number}"
        if number < first + count // 2:
            functions.leave_mark.using(label=name)(name, 0)
        elif number % 4:
            functions.leave_mark_early.using(label=name)(name, MOMENTS.choice([0.01, 0.05, 0.15]))
        else:
            functions.leave_mark_atomically.using(label=name)(name, 0.01)


def living_workers(tree: Tree) -> list[int]:
    """Return the worker processes that are there now."""
    return [pid for pid in tree.workers.values() if is_alive(pid)]


def kill_worker(tree: Tree, pid: int) -> None:
    """Kill it, and return when it is dead: nobody is killed twice."""
    tree.kill(pid)
    wait_until(lambda: not is_alive(pid), what="its death")


def check_that_nothing_stood_still() -> None:
    """Fail if no run of the load ended for seconds, or one waited for long after its claim."""
    rows = Run.objects.exclude(label="").order_by("finished_at")
    times = list(rows.values_list("claimed_at", "started_at", "finished_at"))
    ends = [finished_at.timestamp() for _, _, finished_at in times if finished_at]
    assert max(later - earlier for earlier, later in pairwise(ends)) < 5
    waits = [(start - claim).total_seconds() for claim, start, _ in times if claim and start]
    assert max(waits) < STRANDED


def check_the_ends(count: int) -> None:
    """Fail unless each run ended once, and each of its effects but one has a loss to explain it.

    What died under three attempts has failed, as it should: no run of the load fails else.
    """
    load = Run.objects.exclude(label="")
    effects = Counter(Effect.objects.values_list("name", flat=True))
    attempts = Counter(Attempt.objects.values_list("run", "outcome"))
    assert load.count() == count
    wrong = []
    for run in load:
        lost = attempts.pop((run.pk, "lost"), 0)
        least = int(run.state == "succeeded")
        most = least if run.function_id == "testapp.leave_mark_atomically" else least + lost
        fair_end = run.state == "succeeded" or (run.state, lost) == ("failed", 3)
        if not fair_end or run.attempt != least + lost or run.losses != lost:
            wrong.append(f"{run} {run.state} attempt={run.attempt} lost={lost} {run.error}")
        if not least <= effects[run.label] <= most:
            wrong.append(f"{run} {run.state} effects={effects[run.label]} lost={lost}")
    assert wrong == []
    assert not attempts  # none that ended otherwise
    assert load.filter(state="failed").count() <= 10  # rare at random moments (seen: 3)
