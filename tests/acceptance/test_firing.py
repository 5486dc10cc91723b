"""Schedules of a second, with real clusters: each slot is one run, also while hosts come and go."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from django_defer.models import CronDefinition, Run
from tests.acceptance.harness import wait_until, wait_until_all_ended
from tests.testapp.models import Effect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.harness import Trees

SECOND = timedelta(seconds=1)


def runs_of(name: str) -> list[Run]:
    """Return its runs of slots, the oldest slot first."""
    return list(Run.objects.filter(function=f"testapp.{name}", slot__isnull=False).order_by("slot"))


def wait_for_runs(name: str, count: int) -> None:
    """Return once there are so many runs more."""
    count += len(runs_of(name))
    wait_until(lambda: len(runs_of(name)) >= count, what=f"{count} runs of {name}")


def end_of(name: str) -> CronDefinition:
    """Let nothing more become due, and return when all has ended."""
    definition = CronDefinition.objects.get(function=f"testapp.{name}")
    definition.pause()
    wait_until_all_ended()
    return CronDefinition.objects.get(pk=definition.pk)


def check_each_slot(name: str) -> list[Run]:
    """Hold the runs to the schedule: all slots of a second from the first on, each executed once.

    Returns the runs.
    """
    definition = end_of(name)
    assert definition.anchor is not None
    assert definition.last_slot_at is not None
    made = runs_of(name)
    slots = [run.slot for run in made if run.slot is not None]
    assert (slots[0] - definition.anchor) % SECOND == timedelta()
    assert slots[-1] == definition.last_slot_at
    assert slots == [slots[0] + n * SECOND for n in range(len(slots))]
    assert not any(run.missed_slots for run in made)
    assert {run.state for run in made} == {"succeeded"}
    effects = Effect.objects.filter(name=name).values_list("detail", flat=True)
    assert sorted(datetime.fromisoformat(each) for each in effects) == slots
    return made


def delays(made: list[Run]) -> Iterator[timedelta]:
    """How long after their slots they started."""
    for run in made:
        assert run.started_at is not None
        assert run.slot is not None
        yield run.started_at - run.slot


def test_hosts_that_come_and_go_make_one_run_of_each_second(trees: Trees) -> None:
    """Two clusters and a scheduler; one is deployed anew, one is killed."""
    trees.environment["DEFER_TEST_EVERY"] = "every_second"
    first, _ = trees("--workers", "1"), trees("--workers", "1")
    scheduler = trees(command="defer_scheduler", ready=False)
    scheduler.wait_for_log("scheduler.started")
    anchor = CronDefinition.objects.get(function="testapp.every_second").anchor
    wait_for_runs("every_second", 3)
    assert first.terminate() == 0
    wait_for_runs("every_second", 1)
    third = trees("--workers", "1")
    wait_for_runs("every_second", 2)
    scheduler.kill(scheduler.pid)
    wait_for_runs("every_second", 2)
    again = trees(command="defer_scheduler", ready=False)
    again.wait_for_log("scheduler.started")
    wait_for_runs("every_second", 2)
    made = check_each_slot("every_second")
    assert len(made) >= 10
    assert max(delays(made)) < 2 * SECOND
    assert CronDefinition.objects.get(function="testapp.every_second").anchor == anchor
    said = sum(tree.said("slot.fired testapp.every_second") for tree in trees.trees)
    assert len(made) - 1 <= said <= len(made)  # the killed one may have had no time to say so
    assert not any(tree.said("slot.duplicate") for tree in trees.trees)
    assert third.terminate() == 0
    assert again.terminate() == 0


def test_a_downtime_of_all_hosts_is_caught_up_and_restarts_no_countdown(trees: Trees) -> None:
    trees.environment["DEFER_TEST_EVERY"] = "every_second"
    first = trees("--workers", "1")
    wait_for_runs("every_second", 2)
    assert first.terminate() == 0
    last = runs_of("every_second")[-1]
    second = trees("--workers", "1")
    wait_for_runs("every_second", 3)
    made = check_each_slot("every_second")
    assert last in made[1:-2]
    assert second.terminate() == 0


def test_who_takes_longer_than_until_the_next_slot_runs_alone_and_the_newest_waits(
    trees: Trees,
) -> None:
    trees.environment["DEFER_TEST_EVERY"] = "slow_in_turn"
    for _ in range(2):
        trees("--workers", "2")
    wait_for_runs("slow_in_turn", 10)
    definition = end_of("slow_in_turn")
    made = runs_of("slow_in_turn")
    slots = [run.slot for run in made]
    assert len(slots) == len(set(slots))
    assert slots[-1] == definition.last_slot_at
    assert slots[-1] - slots[0] == sum(1 + run.missed_slots for run in made[1:]) * SECOND
    executed = [run for run in made if run.state == "succeeded"]
    assert {(run.state, run.reason) for run in made if run not in executed} == {
        ("discarded", "overlap")
    }
    assert len(executed) >= 6
    gaps = []
    for before, after in pairwise(executed):
        assert before.finished_at is not None
        assert after.started_at is not None
        assert after.slot is not None
        assert after.started_at >= before.finished_at
        assert after.started_at - after.slot < 2 * SECOND  # 1 s, and what a tick takes
        gaps.append(after.started_at - max(before.finished_at, after.slot))
    assert sorted(gaps)[len(gaps) // 2] < 0.3 * SECOND
    assert max(gaps) < SECOND
    assert Effect.objects.filter(name="slow_in_turn").count() == len(executed)


def test_the_run_of_a_newer_slot_ends_the_one_that_is_running_and_begins_then(
    trees: Trees,
) -> None:
    trees.environment["DEFER_TEST_EVERY"] = "slow_replaced"
    for _ in range(2):
        trees("--workers", "2")
    wait_for_runs("slow_replaced", 3)
    wait_until(lambda: runs_of("slow_replaced")[-1].state == "running", what="the last one's start")
    definition = CronDefinition.objects.get(function="testapp.slow_replaced")
    definition.pause()
    *replaced, last = runs_of("slow_replaced")
    assert [run.slot for run in replaced] == [
        replaced[0].slot + 3 * n * SECOND for n in range(len(replaced))
    ]
    assert {run.state for run in replaced} == {"aborted"}
    for before, after in pairwise([*replaced, last]):
        assert before.finished_at is not None
        assert after.started_at is not None
        assert after.slot is not None
        assert after.started_at >= before.finished_at
        assert after.started_at - after.slot < 2.5 * SECOND
    assert Effect.objects.filter(name="slow_replaced").count() == len(replaced) + 1
    last.cancel(force=True)
    wait_until_all_ended()
