"""Exactly one run a slot: nothing twice and nothing missing, whoever ticks, and whoever dies.

The schedulers are processes. Their clocks are made up: ten minutes pass in a few seconds, and each
process has its own idea of what time it is.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from django_defer.clock import DatabaseNow
from django_defer.models import CronDefinition, Run
from django_defer.overlaps import end_waits
from django_defer.scheduler import tick
from django_defer.states import Reason, State
from tests import runs
from tests.concurrency.processes import FORK, Child, survives, together
from tests.runs import DATABASE, fresh, new_definition, new_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

pytestmark = [
    runs.committing,
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

START = datetime(2026, 5, 4, 8, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MOMENT = timedelta(microseconds=1)
LENGTH = 600.0  # seconds that pass for the schedulers


def every(seconds: float, function: str = "", **columns: Any) -> CronDefinition:
    """Insert a definition whose first slot is START."""
    return new_definition(
        function or f"testapp.every_{seconds}_{columns.get('catch_up', 'latest')}",
        expression=f"{seconds}s",
        kind="every",
        interval=timedelta(seconds=seconds),
        anchor=START,
        next_slot_at=START,
        **columns,
    )


def slots_up_to(definition: CronDefinition, last: datetime) -> list[datetime]:
    """Return the slots from START to `last`, as the schedule alone says."""
    slots, slot = [], definition.schedule.next_after(START - MOMENT)
    while slot is not None and slot <= last:
        slots.append(slot)
        slot = definition.schedule.next_after(slot)
    return slots


def check_slots(at_least_until: datetime) -> int:
    """Hold each definition's runs to its schedule; return how many runs there are.

    Each slot has one run of its own, or is counted in the `missed_slots` of the next one.
    """
    total = 0
    for definition in CronDefinition.objects.all():
        made = list(definition_runs(definition))
        assert definition.error == ""
        assert definition.last_slot_at is not None
        assert definition.next_slot_at == definition.schedule.next_after(definition.last_slot_at)
        assert definition.next_slot_at is not None
        assert definition.next_slot_at > at_least_until
        expected = slots_up_to(definition, definition.last_slot_at)
        slots = [run.slot for run in made]
        assert len(slots) == len(set(slots))
        if definition.catch_up == definition.CatchUp.ALL:
            assert slots == expected
            assert not any(run.missed_slots for run in made)
        else:
            place = {slot: number for number, slot in enumerate(expected)}
            places = [place[run.slot] for run in made if run.slot is not None]
            counted = [
                number - before - 1 for before, number in zip([-1, *places], places, strict=False)
            ]
            assert [run.missed_slots for run in made] == counted
            assert sum(1 + run.missed_slots for run in made) == len(expected)
            assert definition.version == len(made)
        assert definition.last_run == made[-1]
        total += len(made)
    return total


def definition_runs(definition: CronDefinition) -> Any:
    return Run.objects.filter(definition=definition).order_by("slot")


# -- several schedulers, each with a clock of its own ----------------------------------------------


def on_time(chance: Random, seconds: float) -> float:
    return seconds + chance.uniform(-0.5, 0.5)


def ahead(chance: Random, seconds: float) -> float:
    return seconds + chance.uniform(0, 3)


def behind(chance: Random, seconds: float) -> float:
    return seconds - chance.uniform(0, 3)


def often_far_behind(chance: Random, seconds: float) -> float:
    return seconds - (chance.uniform(5, 90) if chance.random() < 0.4 else 0)


def an_hour_ahead(chance: Random, seconds: float) -> float:
    return seconds + 3600


def jumping(chance: Random, seconds: float) -> float:
    return seconds + chance.choice([0, 0, 0, 1, -1, 60, -60, 3600, -3600, -86400])


def let_tick(*clocks: Callable[[Random, float], float], step: float = 5.0) -> list[int]:
    """Let a process for each clock tick through the ten minutes; return how many each fired.

    At half of the steps they wait for each other, so that all are at the same slots.
    """
    line = FORK.Barrier(len(clocks))

    def work(number: int) -> int:
        steps, chance = random.Random(1), random.Random(number)
        seconds, fired = 0.0, 0
        while seconds < LENGTH:
            seconds = min(LENGTH, seconds + steps.uniform(0.1, step))
            if steps.random() < 0.5:
                line.wait(30)
            now = START + timedelta(seconds=clocks[number](chance, seconds))
            fired += tick(DATABASE, now).fired
        return fired

    return together(*[lambda number=number: work(number) for number in range(len(clocks))])


def new_definitions(shortest: float) -> None:
    for catch_up in ("all", "latest"):
        every(shortest, catch_up=catch_up)
        every(7, catch_up=catch_up)
        for number, expression in enumerate(("* * * * *", "*/2 * * * *", "1-58/3 8,9 * * *")):
            new_definition(
                f"testapp.cron_{number}_{catch_up}",
                expression,
                catch_up=catch_up,
                next_slot_at=START if number < 2 else START + 60 * SECOND,
            )


def test_four_schedulers_whose_clocks_differ_make_one_run_a_slot() -> None:
    new_definitions(shortest=1)
    fired = let_tick(on_time, ahead, behind, often_far_behind)
    assert min(fired) > 0  # else nobody raced
    tick(DATABASE, START + LENGTH * SECOND)
    made = check_slots(START + LENGTH * SECOND)
    assert sum(fired) <= made <= sum(fired) + 20


def test_clocks_that_jump_or_differ_by_an_hour_repeat_nothing_and_miss_nothing() -> None:
    new_definitions(shortest=10)
    fired = let_tick(on_time, an_hour_ahead, jumping, step=10)
    made = check_slots(START + (LENGTH + 3600) * SECOND)
    assert made == sum(fired)


@pytest.mark.parametrize("jump", [-3600, -1, 1, 3600])
def test_two_schedulers_whose_clocks_differ_from_the_start(jump: int) -> None:
    new_definitions(shortest=10)
    let_tick(on_time, lambda chance, seconds: seconds + jump, step=60)
    tick(DATABASE, START + LENGTH * SECOND)
    check_slots(START + LENGTH * SECOND)


# -- a scheduler that is killed --------------------------------------------------------------------


def picture(definition: CronDefinition) -> dict[str, Any]:
    """Return all of it that a tick may change."""
    columns = ("next_slot_at", "version", "last_slot_at", "error", "unfired_slot_at")
    found: dict[str, Any] = CronDefinition.objects.values(*columns).get(pk=definition.pk)
    states = definition_runs(definition).values_list("slot", "state", "reason")
    aborts = definition_runs(definition).filter(abort_requested_at__isnull=False)
    return {**found, "runs": list(states), "aborts": list(aborts.values_list("slot", flat=True))}


def kill_at_every_moment(prepare: Callable[[], CronDefinition]) -> list[dict[str, Any]]:
    """Kill a scheduler at each moment of a tick, with another that comes after it.

    Whatever the moment, everything is as before the tick or as after it, and after the second
    tick as after the first that nobody disturbs. Returns both pictures, and how often each was
    seen.
    """

    def one_tick() -> object:
        return tick(DATABASE, START)

    definition = prepare()
    before = picture(definition)
    one_tick()
    after = picture(definition)
    assert before != after
    seen = Counter[bool]()
    for moment in range(1, 200):
        Run.objects.all().delete()
        CronDefinition.objects.all().delete()
        definition = prepare()
        if survives(one_tick, moment):
            break
        left = picture(definition)
        assert left in (before, after), moment
        seen[left == after] += 1
        # PostgreSQL may not have noticed yet that the dead one holds no lock any more.
        until = time.monotonic() + 10
        while tick(DATABASE, START).fired == 0 and picture(definition) == before:
            assert time.monotonic() < until, moment
        assert picture(definition) == after, moment
        assert tick(DATABASE, START).fired == 0
    assert picture(definition) == after
    assert seen[False] >= 8  # before and after four statements
    assert seen[True] >= 1  # after the commit
    return [before, after]


def test_a_scheduler_that_is_killed_at_any_moment_of_a_tick() -> None:
    def one_slot() -> CronDefinition:
        return every(3600, "testapp.hourly")

    _, after = kill_at_every_moment(one_slot)
    assert after["runs"] == [(START, "queued", "")]
    assert after["version"] == 1
    assert after["next_slot_at"] == START + 3600 * SECOND


def test_the_same_after_missed_slots_that_are_caught_up() -> None:
    def three_slots() -> CronDefinition:
        definition = every(60, "testapp.often", catch_up="all")
        first = START - 120 * SECOND
        CronDefinition.objects.filter(pk=definition.pk).update(anchor=first, next_slot_at=first)
        return definition

    _, after = kill_at_every_moment(three_slots)
    assert after["runs"] == [(START - n * 60 * SECOND, "queued", "") for n in (2, 1, 0)]


def test_the_same_while_the_new_run_replaces_those_of_earlier_slots() -> None:
    def replacing() -> CronDefinition:
        definition = every(3600, "testapp.hourly", overlap="replace", supersede=True)
        earlier: list[dict[str, Any]] = [
            {"state": State.SCHEDULED, "failures": 2},
            {"state": State.RUNNING},
            {"state": State.CLAIMED},
            {"state": State.PARKED, "reason": Reason.OVERLAP},
        ]
        for number, columns in enumerate(earlier):
            slot = START - (4 - number) * 3600 * SECOND
            new_run("testapp.hourly", definition=definition, slot=slot, **columns)
        return definition

    _, after = kill_at_every_moment(replacing)
    assert [state for _, state, _ in after["runs"]] == [
        "discarded",
        "running",
        "discarded",
        "discarded",
        "parked",
    ]
    assert after["aborts"] == [START - 3 * 3600 * SECOND]
    # Whoever was killed before it could look: a heartbeat lets the waiting one begin.
    running = Run.objects.get(state=State.RUNNING)
    Run.objects.filter(pk=running.pk).update(state=State.ABORTED, finished_at=DatabaseNow())
    assert end_waits(DATABASE) == 1
    assert fresh(Run.objects.get(slot=START)).state == State.QUEUED


def test_schedulers_that_are_killed_again_and_again_at_random() -> None:
    new_definitions(shortest=1)
    chance = random.Random(4)

    def tick_on(first: float) -> None:
        seconds = first
        while True:
            tick(DATABASE, START + seconds * SECOND)
            seconds += 1

    kills = 20
    for number in range(kills):
        children = [Child(lambda: tick_on(number * LENGTH / kills)) for _ in range(2)]  # noqa: B023
        time.sleep(chance.uniform(0.01, 0.15))
        while number == kills - 1 and not Run.objects.exists():  # a busy machine
            time.sleep(0.01)
        for child in children:
            child.kill()
        for child in children:
            child.result()
    assert Run.objects.exists()
    last = max(filter(None, CronDefinition.objects.values_list("last_slot_at", flat=True)))
    end = max(last, START + LENGTH * SECOND)
    until = time.monotonic() + 10
    while CronDefinition.objects.due(end).exists():
        tick(DATABASE, end)
        assert time.monotonic() < until
    check_slots(end)
