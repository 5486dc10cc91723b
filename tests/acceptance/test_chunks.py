"""A worker that gets several claims at once: nobody waits for it, and nothing of it is lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from django_defer.models import Run
from tests.acceptance.harness import (
    claimed_in_chunks,
    outcomes,
    wait_for_state,
    wait_until,
    wait_until_all_ended,
)
from tests.testapp import defer as functions

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.harness import Tree, Trees

LONG: Final = 3.0  # seconds that the long run of a chunk takes


def warmed_up(trees: Trees, notes: Path, workers: int) -> Tree:
    """Return a cluster that has learned that `note` is quick, and is idle."""
    tree = trees("--workers", str(workers))
    functions.note.starmap((str(notes), "warm", 0) for _ in range(100))
    wait_until_all_ended()
    assert claimed_in_chunks()
    Run.objects.all().delete()
    notes.write_text("")
    return tree


def enqueue_with_a_long_one(notes: Path) -> Run:
    """Enqueue forty runs that are quick but for the eleventh; return that."""
    functions.note.starmap((str(notes), str(n), LONG if n == 10 else 0) for n in range(40))
    return Run.objects.order_by("pk")[10]


def test_what_is_behind_a_long_run_goes_to_another_worker(trees: Trees, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    tree = warmed_up(trees, notes, 2)
    long = enqueue_with_a_long_one(notes)
    wait_for_state(long, "running")
    others = Run.objects.exclude(pk=long.pk)
    wait_until(lambda: others.filter(state="succeeded").count() == 39, what="the others' end")
    assert long.started_at is not None
    assert time.time() - long.started_at.timestamp() < LONG
    wait_until_all_ended()
    assert tree.said("chunk.taken_back worker=")
    long.refresh_from_db()
    assert not others.filter(started_at__gt=long.finished_at).exists()
    assert set(Run.objects.values_list("attempt", "losses", "failures")) == {(1, 0, 0)}
    assert sorted(notes.read_text().split(), key=int) == [str(number) for number in range(40)]


def test_what_is_behind_a_long_run_goes_to_another_cluster(trees: Trees, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    warmed_up(trees, notes, 1)
    long = enqueue_with_a_long_one(notes)
    wait_for_state(long, "running")
    trees("--workers", "1")
    others = Run.objects.exclude(pk=long.pk)
    wait_until(lambda: others.filter(state="succeeded").count() == 39, what="the others' end")
    wait_until_all_ended()
    long.refresh_from_db()
    behind = others.filter(pk__gt=long.pk)
    assert not behind.filter(cluster=long.cluster).exists()
    assert behind.count() == 29
    assert set(Run.objects.values_list("attempt", "losses", "failures")) == {(1, 0, 0)}


def test_what_is_behind_a_long_run_goes_back_also_when_nobody_watches_it(
    trees: Trees, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    tree = warmed_up(trees, notes, 2)
    long = enqueue_with_a_long_one(notes)
    wait_for_state(long, "running")
    tree.kill(tree.pusher)
    others = Run.objects.exclude(pk=long.pk)
    wait_until(lambda: others.filter(state="succeeded").count() == 39, what="the others' end")
    wait_until_all_ended()
    long.refresh_from_db()
    assert not others.filter(started_at__gt=long.finished_at).exists()
    assert set(Run.objects.values_list("attempt", "losses", "failures")) == {(1, 0, 0)}


def test_a_worker_that_dies_in_the_middle_loses_the_run_it_was_at_and_no_other(
    trees: Trees, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    tree = trees("--workers", "1")
    names = [str(number) for number in range(60)]
    names[30] = "die"
    functions.note_and_die_once.starmap((str(notes), name) for name in names)
    wait_until_all_ended()
    assert sorted(notes.read_text().split()) == sorted(names)
    tree.wait_for_log("worker.died")
    assert tree.said("worker.died") == 1
    (lost,) = Run.objects.exclude(losses=0)
    assert outcomes(lost) == ["lost", "succeeded"]
    assert claimed_in_chunks() > 10
    assert set(Run.objects.exclude(pk=lost.pk).values_list("attempt", "losses")) == {(1, 0)}


def test_a_stop_in_the_middle_gives_back_what_was_not_begun(trees: Trees, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    tree = warmed_up(trees, notes, 2)
    functions.note.starmap((str(notes), str(number), 0.002) for number in range(2000))
    wait_until(lambda: Run.objects.finished().count() > 100, what="some ends")
    assert tree.terminate() == 0
    done = [str(number) for number in range(len(notes.read_text().split()))]
    assert 100 < len(done) < 2000
    assert Run.objects.count_by_state() == {"succeeded": len(done), "queued": 2000 - len(done)}
    assert set(Run.objects.filter(state="queued").values_list("attempt", "claim_id")) == {(0, None)}
    assert set(Run.objects.filter(state="succeeded").values_list("attempt", "losses")) == {(1, 0)}


def test_a_run_that_is_more_urgent_is_not_kept_waiting_by_the_backlog(
    trees: Trees, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    warmed_up(trees, notes, 2)
    functions.note.starmap((str(notes), "low", 0.002) for _ in range(1500))
    wait_until(lambda: Run.objects.finished().count() > 100, what="some ends")
    high = functions.note.using(priority=10)(str(notes), "high")
    high.wait("20s")
    assert high.started_at is not None
    began_before = Run.objects.filter(
        priority=0, started_at__gt=high.enqueued_at, started_at__lt=high.started_at
    )
    assert began_before.count() <= 2 * 64  # what both workers had in hand
    assert Run.objects.filter(state="queued").exists()
