"""Events become alerts, alerts become messages: few of them, and nothing is left out."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from django_defer import defer
from django_defer.alerts import dispatch, gathering
from django_defer.alerts.events import Event
from django_defer.models import Alert, AlertDelivery, AlertEvent, Run
from django_defer.prune import prune
from django_defer.states import State
from tests.alerts import LOG, T0, at, deliveries, gather_at, happens, the_alert
from tests.runs import (
    DATABASE,
    DATABASES,
    NOOP,
    captured,
    defer_settings,
    new_definition,
    new_run,
    statements,
)
from tests.scratch import own_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db(databases=DATABASES)

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.fixture(autouse=True)
def _one_channel() -> Iterator[None]:
    with defer_settings(ALERTS=LOG):
        yield


def raise_at(seconds: float, detail: str = "nobody is there") -> None:
    gathering.raise_condition(DATABASE, Event.NO_WORKERS, "", detail, at(seconds))


def close_at(seconds: float, *, recovered: bool = True) -> None:
    gathering.close(DATABASE, the_alert(), at(seconds), recovered=recovered)


def noop() -> None:
    """Do nothing."""


# -- gathering ---------------------------------------------------------------------------------


def test_events_of_one_kind_are_one_alert_and_are_taken_away() -> None:
    happens(0)
    happens(3)
    happens(1, "run_lost")
    assert gathering.gather(DATABASE, at(4)) == 3
    alerts = Alert.objects.using(DATABASE).order_by("event").values_list("event", "count")
    assert list(alerts) == [("run_failed", 2), ("run_lost", 1)]
    failed = Alert.objects.using(DATABASE).get(event="run_failed")
    assert (failed.opened_at, failed.last_at) == (at(0), at(3))
    assert not AlertEvent.objects.using(DATABASE).exists()
    assert gathering.gather(DATABASE, at(5)) == 0


def test_five_thousand_failures_in_a_minute_are_one_message() -> None:
    made = []
    for second in range(0, 60, 5):
        happens(second, times=416)
        made.append(gather_at(second + 1))
    happens(59, times=8)
    made += [gather_at(60), gather_at(61), gather_at(100)]
    assert sum(made) == 1
    assert deliveries() == [("opened", "log", 1)]
    assert the_alert().count == the_alert().told_count == 5000
    assert len(the_alert().examples) == 5


def test_one_failure_is_told_after_ten_seconds() -> None:
    happens(0)
    assert [gather_at(second) for second in (0, 9, 10)] == [0, 0, 1]


def test_what_nobody_gathered_for_long_is_told_at_once() -> None:
    happens(0)
    assert gather_at(HOUR) == 1


def test_reminders_come_at_growing_intervals_while_it_goes_on() -> None:
    times = []
    for minute in (*range(0, 160, 10), *range(160, 60 * 60, 40)):
        happens(minute * MINUTE)
        if gather_at(minute * MINUTE + 10):
            times.append(minute)
    assert [b - a for a, b in pairwise(times)] == [10, 30, 120, 480, 1440, 1440]


def test_nothing_new_is_no_message_and_news_come_soon_after_a_rest() -> None:
    happens(0)
    assert gather_at(10) == 1
    assert gather_at(HOUR) == 0
    happens(HOUR)
    assert [gather_at(HOUR + each) for each in (1, 9, 11)] == [0, 0, 1]


def test_what_was_acknowledged_and_is_over_is_told_again_when_it_comes_back() -> None:
    happens(0)
    gather_at(10)
    Alert.objects.using(DATABASE).update(acknowledged_at=at(11), acknowledged_by="ada")
    close_at(600)
    happens(1200)
    gather_at(1200)
    again = the_alert()
    assert (again.closed_at, again.acknowledged_at, again.acknowledged_by) == (None, None, "")
    for day in range(1, 3):
        gather_at(1200 + day * DAY)
    assert again.deliveries.filter(kind="reminder").exists()


def test_nobody_is_told_of_what_is_acknowledged() -> None:
    happens(0)
    assert gather_at(10) == 1
    Alert.objects.using(DATABASE).update(acknowledged_at=at(11), acknowledged_by="ada")
    happens(HOUR)
    assert gather_at(2 * HOUR) == 0
    assert not dispatch.is_work_due(DATABASE, at(0))  # the delivery is due after 10 s
    assert the_alert().count == 2


def test_every_channel_that_wants_it_is_told() -> None:
    channels = (
        {"channel": "log", "name": "all"},
        {"channel": "log", "name": "lost", "events": ["run_lost"]},
        {"channel": "log", "name": "shop", "functions": ["shop.*"]},
    )
    with defer_settings(ALERTS=channels):
        happens(0)
        assert gather_at(10) == 1
    assert deliveries() == [("opened", "all", 1)]


def test_a_function_names_its_own_channels() -> None:
    channels = ({"channel": "log"}, {"channel": "log", "name": "billing", "functions": []})
    with own_registry(), defer_settings(ALERTS=channels):
        defer(noop, name=NOOP, alert="billing")
        happens(0)
        assert gather_at(10) == 1
    assert deliveries() == [("opened", "billing", 1)]


def test_a_later_message_takes_the_place_of_one_that_was_not_sent() -> None:
    happens(0)
    gather_at(10)
    happens(HOUR)
    gather_at(HOUR + 10)
    assert deliveries() == [("reminder", "log", 2)]
    first = AlertDelivery.objects.using(DATABASE).get(number=1)
    assert (first.given_up_at, first.answer) == (at(HOUR + 10), gathering.SUPERSEDED)


def test_an_event_of_newer_code_is_left_to_it() -> None:
    happens(0, "run_evaporated")
    assert gathering.gather(DATABASE, at(1)) == 0
    assert not dispatch.is_work_due(DATABASE, at(1))
    assert AlertEvent.objects.using(DATABASE).count() == 1


# -- conditions and recovery -------------------------------------------------------------------


def test_a_condition_is_told_and_told_again_while_it_lasts() -> None:
    for second in (0, 5, 10):
        raise_at(second)
    assert [gather_at(each) for each in (9, 10, 11, 9 * MINUTE)] == [0, 1, 0, 0]
    raise_at(11 * MINUTE, "still nobody")
    assert gather_at(11 * MINUTE) == 1
    assert the_alert().detail == "still nobody"
    assert (the_alert().count, the_alert().last_at) == (1, at(11 * MINUTE))


def test_a_condition_that_was_over_before_anybody_was_told_is_not_told() -> None:
    raise_at(0)
    close_at(5)
    assert gather_at(HOUR) == 0
    assert not dispatch.is_work_due(DATABASE, at(HOUR))


def test_who_was_told_is_told_of_the_recovery() -> None:
    channels = (
        {"channel": "log", "name": "all"},
        {"channel": "log", "name": "failures", "events": ["run_failed"]},
        {"channel": "log", "name": "other", "functions": ["shop.*"]},
    )
    with defer_settings(ALERTS=channels):
        happens(0)
        assert gather_at(10) == 2
        close_at(20)
    assert deliveries() == [("opened", "failures", 1), ("recovered", "all", 2)]
    assert not the_alert().is_open


def test_a_failure_that_nobody_was_told_yet_is_told_although_it_has_recovered() -> None:
    happens(0)
    gather_at(1)
    close_at(2)
    assert gather_at(10) == 1
    assert deliveries() == [("opened", "log", 1)]


def test_who_closes_does_not_close_what_has_gone_on_meanwhile() -> None:
    happens(0)
    gather_at(1)
    alert = the_alert()
    happens(2)
    gather_at(3)
    gathering.close(DATABASE, alert, at(4), recovered=True)
    assert the_alert().is_open


def test_failing_and_succeeding_in_turn_is_no_storm() -> None:
    for minute in range(0, 24 * 60, 20):
        happens(minute * MINUTE)
        gather_at(minute * MINUTE)
        gather_at(minute * MINUTE + 10)
        close_at(minute * MINUTE + 30)
    kinds = list(AlertDelivery.objects.using(DATABASE).values_list("kind", flat=True))
    assert kinds.count("opened") == 1
    assert kinds.count("reminder") <= 26
    assert kinds.count("recovered") <= 27
    assert the_alert().count == 72


def test_what_fails_again_a_day_later_is_another_alert() -> None:
    happens(0)
    gather_at(10)
    close_at(20)
    happens(DAY)
    assert gather_at(DAY + 10) == 1
    assert Alert.objects.using(DATABASE).count() == 2


def test_a_long_silence_closes_without_a_word() -> None:
    happens(0)
    happens(0, "run_slow")
    gather_at(10)
    gather_at(HOUR + 1)
    assert list(
        Alert.objects.using(DATABASE).filter(closed_at=None).values_list("event", flat=True)
    ) == ["run_failed"]
    gather_at(8 * DAY)
    assert not Alert.objects.using(DATABASE).filter(closed_at=None).exists()
    assert {kind for kind, _, _ in deliveries()} == {"opened"}
    assert not Alert.objects.using(DATABASE).exclude(next_message_at=None).exists()


# -- what is kept of a run ---------------------------------------------------------------------


def failed_run(**columns: Any) -> Run:
    return new_run(
        state=State.FAILED, error_class="ValueError", error_message="no such user", **columns
    )


def example() -> dict[str, object]:
    gathering.gather(DATABASE, at(1))
    return dict(the_alert().examples[0])


def test_what_a_message_says_of_a_run_is_kept_though_the_run_is_pruned() -> None:
    run = failed_run(
        label="user 5",
        metadata={"order": "17", "token": "hush"},
        failures=2,
        max_attempts=3,
        slot=T0,
        definition=new_definition(),
    )
    with own_registry():
        defer(takes_token, name=NOOP, sensitive="token")
        happens(0, run_id=run.pk, error="ValueError: no such user")
        said = example()
    assert said == {
        "run_id": str(run.pk),
        "at": at(0).isoformat(),
        "error": "ValueError: no such user",
        "label": "user 5",
        "metadata": {"order": "17"},
        "attempts": "1 of 3",
        "slot": T0.isoformat(),
        "fan_out": "",
    }


def takes_token(token: str) -> None:
    """Take a secret."""


def test_no_arguments_get_into_an_alert() -> None:
    run = new_run(state=State.FAILED, args={"args": ["a-secret-thing"], "kwargs": {}})
    happens(0, run_id=run.pk)
    assert "a-secret-thing" not in str(example())


def test_a_run_that_is_gone_is_told_of_by_its_id() -> None:
    run_id = uuid4()
    happens(0, run_id=run_id, error="KeyError: 1\n")
    assert example() == {"run_id": str(run_id), "at": at(0).isoformat(), "error": "KeyError: 1"}


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("ValueError: no\n\n", "ValueError: no"),
        (
            "db.Error: duplicate key\nDETAIL: (x)=(1) exists\n \n",
            "db.Error: DETAIL: (x)=(1) exists",
        ),
        ("killed\nby nobody", "by nobody"),
        ("", ""),
        ("x" * 400, "x" * 299 + "…"),
    ],
)
def test_of_an_error_its_last_line_is_kept(error: str, line: str) -> None:
    happens(0, error=error, run_id=uuid4())
    assert example()["error"] == line


def test_an_error_that_the_event_has_cut_is_read_from_the_run() -> None:
    message = "a\n" * 300 + "the end"
    run = new_run(state=State.FAILED, error_class="ValueError", error_message=message)
    happens(0, run_id=run.pk, error=f"ValueError: {message}"[:500])
    assert example()["error"] == "ValueError: the end"


def test_a_child_says_which_of_how_many_it_is() -> None:
    monday = new_run(
        "shop.weekly", State.SUCCEEDED, slot=T0, definition=new_definition("shop.weekly")
    )
    children = [
        new_run(state=State.FAILED if n < 3 else State.SUCCEEDED, parent=monday, root=monday)
        for n in range(8)
    ]
    happens(0, run_id=children[2].pk)
    assert example()["fan_out"] == "3 of 8 of shop.weekly, Monday 2026-11-23 08:00 UTC"


def test_a_grandchild_names_where_all_began() -> None:
    monday = new_run(
        "shop.weekly", State.SUCCEEDED, slot=T0, definition=new_definition("shop.weekly")
    )
    part = new_run("shop.part", State.SUCCEEDED, parent=monday, root=monday)
    child = new_run(state=State.SCHEDULED, parent=part, root=monday)
    happens(0, run_id=child.pk)
    assert (
        example()["fan_out"]
        == "one of 1 of shop.part, from shop.weekly, Monday 2026-11-23 08:00 UTC"
    )


def test_the_first_examples_stay_and_the_latest_change() -> None:
    for n in range(9):
        happens(n, error=f"E: {n}", run_id=uuid4())
        gathering.gather(DATABASE, at(n))
    assert [each["error"] for each in the_alert().examples] == [
        "E: 0",
        "E: 1",
        "E: 2",
        "E: 7",
        "E: 8",
    ]


@pytest.mark.parametrize(
    ("event", "columns", "why"),
    [
        ("run_discarded", {"state": State.DISCARDED, "reason": "expired"}, "could not begin by"),
        ("slot_missed", {"state": State.SKIPPED, "reason": "missed"}, "no scheduler ran"),
        ("run_slow", {"state": State.SUCCEEDED, "started_at": T0, "finished_at": at(90)}, "took 1"),
        ("run_succeeded", {"state": State.SUCCEEDED}, ""),
    ],
)
def test_what_is_no_error_says_why(event: str, columns: dict[str, Any], why: str) -> None:
    happens(0, event, run_id=new_run(**columns).pk, error="")
    error = str(example()["error"])
    assert why in error
    assert bool(error) == bool(why)


# -- cost and retention ------------------------------------------------------------------------


def test_whether_there_is_work_is_one_statement() -> None:
    with captured() as queries:
        assert not dispatch.is_work_due(DATABASE, at(0))
    assert len(statements(queries)) == 1
    happens(0)
    with captured() as queries:
        assert dispatch.is_work_due(DATABASE, at(0))
    assert len(statements(queries)) == 1


def test_a_thousand_events_take_few_statements() -> None:
    happens(0, times=1000, run_id=failed_run().pk)
    with captured() as queries:
        assert gathering.gather(DATABASE, at(1)) == 1000
    assert len(statements(queries, besides=("SAVEPOINT", "RELEASE"))) < 40


def test_old_alerts_are_pruned_with_their_deliveries_once_they_are_closed() -> None:
    happens(0)
    happens(0, "run_lost")
    gather_at(10)
    gathering.close(
        DATABASE, Alert.objects.using(DATABASE).get(event="run_lost"), at(20), recovered=False
    )
    happens(20, "run_retrying")
    prune(DATABASE, T0 + timedelta(days=89))
    assert Alert.objects.using(DATABASE).count() == 2
    prune(DATABASE, T0 + timedelta(days=91), dry_run=True)
    assert Alert.objects.using(DATABASE).count() == 2
    prune(DATABASE, T0 + timedelta(days=91))
    assert [alert.event for alert in Alert.objects.using(DATABASE).all()] == ["run_failed"]
    assert AlertDelivery.objects.using(DATABASE).count() == 1
    assert not AlertEvent.objects.using(DATABASE).exists()
