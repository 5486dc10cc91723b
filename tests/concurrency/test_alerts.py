"""Several gather and send at once, and some are killed: nothing is lost, or told twice."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from django.db import connections, transaction

from django_defer import endings
from django_defer.alerts import dispatch, gathering
from django_defer.alerts.events import Event
from django_defer.attempt_facts import Failure
from django_defer.models import Alert, AlertDelivery, AlertEvent
from django_defer.states import Outcome, State
from tests import runs
from tests.alerts import FILE, TOLD, Told, at, happens, the_alert
from tests.concurrency.processes import Child, survives
from tests.concurrency.race import race
from tests.runs import DATABASE, defer_settings, new_run, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = runs.committing

ROUNDS = range(5)
OOPS = Failure(outcome=Outcome.FAILED, error_class="ValueError", error_message="no")


@pytest.fixture(autouse=True)
def _two_channels() -> Iterator[None]:
    Told.forget()
    with defer_settings(ALERTS=({"channel": TOLD, "name": "a"}, {"channel": TOLD, "name": "b"})):
        yield


@pytest.mark.parametrize("round_", ROUNDS)
def test_each_event_is_counted_once_by_all_who_gather(round_: int) -> None:
    for subject in ("shop.a", "shop.b", "shop.c"):
        happens(0, subject=subject, times=400)
    taken = race(*[partial(gathering.gather, DATABASE, at(1))] * 3)
    gathering.gather(DATABASE, at(2))  # what one skipped while another held it
    counts = Alert.objects.order_by("subject").values_list("subject", "count")
    assert list(counts) == [("shop.a", 400), ("shop.b", 400), ("shop.c", 400)]
    assert sum(taken) <= 1200
    assert not AlertEvent.objects.exists()


@pytest.mark.parametrize("round_", ROUNDS)
def test_all_who_raise_a_condition_open_one_alert(round_: int) -> None:
    race(*[partial(gathering.raise_condition, DATABASE, Event.NO_WORKERS, "", "none", at(1))] * 3)
    assert (the_alert().count, the_alert().next_message_at) == (1, at(11))


@pytest.mark.parametrize("round_", ROUNDS)
def test_all_who_begin_an_alert_again_open_one(round_: int) -> None:
    happens(0)
    gathering.gather(DATABASE, at(1))
    gathering.close(DATABASE, the_alert(), at(2), recovered=True)
    happens(3, times=2)
    race(
        partial(gathering.gather, DATABASE, at(4)),
        partial(gathering.gather, DATABASE, at(4)),
        partial(gathering.close, DATABASE, the_alert(), at(5), recovered=True),
    )
    gathering.gather(DATABASE, at(6))
    assert the_alert().count == 3


@pytest.mark.parametrize("round_", ROUNDS)
def test_all_who_make_messages_make_one(round_: int) -> None:
    happens(0)
    gathering.gather(DATABASE, at(1))
    made = race(*[partial(gathering.schedule_messages, DATABASE, at(10))] * 3)
    assert sorted(made) == [0, 0, 2]
    assert AlertDelivery.objects.count() == 2


@pytest.mark.parametrize("round_", ROUNDS)
def test_all_who_send_send_each_message_once(round_: int) -> None:
    for n in range(5):
        happens(0, subject=f"shop.{n}")
    gathering.gather(DATABASE, at(1))
    gathering.schedule_messages(DATABASE, at(10))
    sent = race(*[partial(dispatch.send_due, DATABASE, at(10), 20)] * 3)
    assert sum(sent) == 10
    assert sorted(Told.titles("a")) == [f"shop.{n} failed" for n in range(5)]
    assert len(Told.titles("b")) == 5
    assert not AlertDelivery.objects.filter(sent_at=None).exists()


@pytest.mark.parametrize("round_", ROUNDS)
def test_a_recovery_and_another_failure_at_once(round_: int) -> None:
    happens(0)
    gathering.gather(DATABASE, at(1))
    gathering.schedule_messages(DATABASE, at(10))
    alert = the_alert()
    happens(20)
    race(
        partial(gathering.gather, DATABASE, at(21)),
        partial(gathering.close, DATABASE, alert, at(21), recovered=True),
    )
    gathering.gather(DATABASE, at(22))
    assert (the_alert().count, the_alert().is_open) == (2, True)
    gathering.schedule_messages(DATABASE, at(7200))
    assert the_alert().told_count == 2


@pytest.mark.postgres
def test_failures_that_commit_at_the_same_time_do_not_wait_for_each_other_or_who_gathers() -> None:
    started = [start(new_run(state=State.CLAIMED)) for _ in range(3)]
    endings.fail(DATABASE, started.pop(), OOPS, None)
    with transaction.atomic(using=DATABASE):
        endings.fail(DATABASE, started.pop(), OOPS, None)
        gathering.gather(DATABASE, at(1))

        def fail_at_once() -> object:
            with connections[DATABASE].cursor() as cursor:
                cursor.execute("SET lock_timeout = '50ms'")
            return endings.fail(DATABASE, started.pop(), OOPS, None)

        assert race(fail_at_once) == [State.FAILED]
    gathering.gather(DATABASE, at(2))
    assert the_alert().count == 3


def test_who_dies_at_any_moment_of_gathering_loses_and_doubles_nothing() -> None:
    moment = count = 0
    died = True
    while died:
        moment += 1
        happens(0, times=3)
        count += 3
        died = not survives(partial(gathering.gather, DATABASE, at(1)), moment)
        gathering.gather(DATABASE, at(1))
        assert the_alert().count == count
    assert moment > 5


def test_who_dies_at_any_moment_of_making_messages_makes_each_once() -> None:
    moment, died = 0, True
    while died:
        moment += 1
        happens(0, subject=f"shop.{moment}")
        gathering.gather(DATABASE, at(1))
        died = not survives(partial(gathering.schedule_messages, DATABASE, at(10)), moment)
        gathering.schedule_messages(DATABASE, at(10))
        assert AlertDelivery.objects.count() == 2 * moment
    assert moment > 5


def test_who_is_killed_between_sending_and_writing_it_down_repeats_it_once(tmp_path: Path) -> None:
    file = tmp_path / "sent"
    channel = {"channel": FILE, "name": "file", "path": str(file), "how": "die"}
    with defer_settings(ALERTS=(channel,)):
        happens(0)
        gathering.gather(DATABASE, at(1))
        gathering.schedule_messages(DATABASE, at(10))
        child = Child(partial(dispatch.send_due, DATABASE, at(10), 20))
        child.result()
        assert child.was_killed
        assert len(file.read_text().splitlines()) == 1
        assert dispatch.send_due(DATABASE, at(69), 20) == 0  # it is leased
        assert not dispatch.is_work_due(DATABASE, at(69))
        assert dispatch.send_due(DATABASE, at(71), 20) == 1
        assert dispatch.send_due(DATABASE, at(7000), 20) == 0
    lines = file.read_text().splitlines()
    assert len(lines) == 2
    assert lines[0] == lines[1]  # by its id the other side can tell


def test_who_dies_at_any_moment_of_sending_loses_nothing(tmp_path: Path) -> None:
    file = tmp_path / "sent"
    channel = {"channel": FILE, "name": "file", "path": str(file)}
    moment, died = 0, True
    with defer_settings(ALERTS=(channel,)):
        while died:
            moment += 1
            happens(0, subject=f"shop.f{moment}")
            gathering.gather(DATABASE, at(1))
            gathering.schedule_messages(DATABASE, at(10))
            died = not survives(
                partial(dispatch.send_due, DATABASE, at(10 + 300 * moment), 20), moment
            )
            dispatch.send_due(DATABASE, at(10 + 300 * moment + 100), 20)
            assert 1 <= file.read_text().count(f"shop.f{moment} ") <= 2
    assert moment > 5
