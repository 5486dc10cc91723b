"""Rescheduling a run in the admin: when it is due then, what is refused, what is left behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils.html import strip_tags

from django_defer import operations
from django_defer.models import Run
from django_defer.states import WAITING, Reason, State
from tests.admin_rows import ago, log_in_with, make_run, prune

if TYPE_CHECKING:
    from django.test import Client

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
WHEN = datetime(2035, 1, 4, 10, 30, tzinfo=UTC)


def url_of(run: Run) -> str:
    return f"/admin/django_defer/run/{run.pk}/reschedule/"


def page_of(client: Client, run: Run) -> str:
    return client.get(reverse("admin:django_defer_run_change", args=[run.pk])).content.decode()


def reschedule(client: Client, run: Run, **data: Any) -> Any:
    """Post the answer, and have the run as it is then."""
    response = client.post(url_of(run), data, follow=True)
    assert response.status_code == 200
    run.refresh_from_db()
    return response


def reschedule_several(client: Client, *runs: Run, **data: Any) -> Any:
    fields = {"action": "reschedule_selected", "_selected_action": [run.pk for run in runs]}
    return client.post(reverse("admin:django_defer_run_changelist"), fields | data, follow=True)


def errors(response: Any) -> dict[str, list[str]]:
    return dict(response.context["question"].errors)


def said(response: Any) -> list[str]:
    return [strip_tags(str(message)) for message in response.context["messages"]]


def log() -> str:
    return LogEntry.objects.get().get_change_message()


def waiting(state: State = State.SCHEDULED, **columns: Any) -> Run:
    return make_run(state=state, **{"run_after": ago(hours=-3), **columns})


# -- when ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(WAITING))
def test_a_run_that_waits_is_made_due_now(admin_client: Client, state: State) -> None:
    run = waiting(state, reason=Reason.NO_CODE if state == State.PARKED else "")
    assert url_of(run) in page_of(admin_client, run)
    response = reschedule(admin_client, run)
    assert (run.state, run.reason) == (State.QUEUED, "")
    assert abs(run.run_after - datetime.now(UTC)) < timedelta(minutes=1)
    assert log() == "Rescheduled: to now."
    assert said(response) == [f"Rescheduled: testapp.add {run.pk.hex[-8:]}"]


@pytest.mark.parametrize("state", sorted(WAITING))
def test_a_run_that_waits_is_made_due_at_a_time(admin_client: Client, state: State) -> None:
    run = waiting(state)
    reschedule(admin_client, run, when="2035-01-04T10:30")
    assert (run.state, run.run_after) == (State.SCHEDULED, WHEN)
    assert log() == "Rescheduled: to 2035-01-04 10:30:00 UTC."


def test_the_time_is_in_the_current_time_zone(admin_client: Client, settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"
    run = waiting()
    assert "Or at (Asia/Tokyo, optional)" in page_of(admin_client, run)
    reschedule(admin_client, run, when="2035-01-04T19:30")
    assert run.run_after == WHEN
    assert log() == "Rescheduled: to 2035-01-04 19:30:00 Asia/Tokyo."


def test_without_time_zones_the_time_is_in_utc(admin_client: Client, settings: Any) -> None:
    settings.USE_TZ = False
    settings.TIME_ZONE = "Asia/Tokyo"
    run = waiting()
    reschedule(admin_client, run, when="2035-01-04T10:30")
    assert run.run_after == WHEN


def test_a_run_may_be_due_in_an_hour(admin_client: Client) -> None:
    run = waiting()
    reschedule(admin_client, run, span="hour")
    assert abs(run.run_after - datetime.now(UTC) - HOUR) < timedelta(minutes=1)


def test_a_run_may_be_due_tomorrow_morning(admin_client: Client, settings: Any) -> None:
    settings.TIME_ZONE = "America/New_York"
    zone, run = ZoneInfo("America/New_York"), waiting()
    today = datetime.now(zone).date()
    reschedule(admin_client, run, span="morning")
    due = run.run_after.astimezone(zone)
    assert (due.date() - today, due.hour, due.minute) == (timedelta(days=1), 8, 0)


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("data", [{}, {"when": "2035-01-04T10:30"}, {"when": "soon"}])
@pytest.mark.parametrize("state", sorted(set(State) - WAITING))
def test_a_run_that_does_not_wait_is_not_rescheduled(
    admin_client: Client, state: State, data: dict[str, str]
) -> None:
    run = make_run(state=state, started_at=ago(seconds=9), discard_after=ago(hours=1))
    assert url_of(run) not in page_of(admin_client, run)
    before = run.run_after
    response = reschedule(admin_client, run, **data)
    assert said(response) == [
        f"Not rescheduled: Run {run.pk} is {state}: only a run that waits can be rescheduled."
    ]
    assert (run.state, run.run_after) == (state, before)
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("data", "field", "error"),
    [
        ({"when": "2020-01-01T10:00"}, "when", "This time has passed."),
        ({"when": "soon"}, "when", "Enter a valid date/time."),
        ({"when": "2035-01-01T10:00", "span": "hour"}, "when", "Choose one"),
        ({"span": "year"}, "span", "Select a valid choice"),
        ({"when": "2035-01-01T10:00", "span": "year"}, "span", "Select a valid choice"),
    ],
)
def test_an_answer_that_means_nothing_is_asked_again(
    admin_client: Client, data: dict[str, str], field: str, error: str
) -> None:
    run = waiting()
    before = run.run_after
    response = reschedule(admin_client, run, **data)
    assert list(errors(response)) == [field]
    assert error in errors(response)[field][0]
    assert error in response.content.decode()
    assert (run.state, run.run_after) == (State.SCHEDULED, before)
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"when": "2035-01-04T10:30"}, "when"),
        ({"when": "2035-01-04T10:31"}, "when"),
    ],
)
def test_a_time_at_which_the_run_is_discarded_is_said_at_its_field(
    admin_client: Client, data: dict[str, str], field: str
) -> None:
    run = waiting(discard_after=WHEN)
    response = reschedule(admin_client, run, **data)
    (error,) = errors(response)[field]
    assert "discarded at 2035-01-04 10:30:00 UTC" in error
    assert f"not due before {data['when'].replace('T', ' ')}:00 UTC" in error
    assert run.run_after < WHEN
    reschedule(admin_client, run, when="2035-01-04T10:29")
    assert run.run_after == WHEN - timedelta(minutes=1)


@pytest.mark.parametrize("span", ["hour", ""])
def test_a_choice_at_which_the_run_is_discarded_is_said_at_its_field(
    admin_client: Client, span: str
) -> None:
    run = waiting(discard_after=ago(minutes=-5) if span else ago(minutes=5))
    response = reschedule(admin_client, run, span=span)
    assert "(discard_after)" in errors(response)["span"][0]
    assert run.state == State.SCHEDULED


def test_a_deadline_that_comes_between_the_form_and_the_deed_is_a_message(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_defer.admin.moments.refuse_later", lambda *args: None)
    run = waiting(discard_after=WHEN)
    response = reschedule(admin_client, run, when="2035-01-04T10:30")
    assert said(response)[0].startswith(
        f"Not rescheduled: {run}: It would be discarded at 2035-01-04"
    )
    assert not LogEntry.objects.exists()


def test_a_run_that_starts_between_the_look_and_the_click_is_a_message(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "move_to", lambda *args: False)
    response = reschedule(admin_client, waiting())
    assert "only a run that waits can be rescheduled" in said(response)[0]
    assert not LogEntry.objects.exists()


def test_the_operation_is_told_who_asked(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in_with(client, "view_run", "reschedule_run")
    told: list[Any] = []
    monkeypatch.setattr(
        operations, "reschedule", lambda run, when, *, actor: told.append((run.pk, when, actor))
    )
    run = waiting()
    reschedule(client, run, when="2035-01-04T10:30")
    assert told == [(run.pk, WHEN, "viewer")]


# -- several -------------------------------------------------------------------------------------


def test_several_are_asked_for_the_time_first(admin_client: Client) -> None:
    runs = [waiting(), waiting(State.PARKED)]
    response = reschedule_several(admin_client, *runs)
    assert "Or at (UTC, optional)" in response.content.decode()
    assert not LogEntry.objects.exists()
    reschedule_several(admin_client, *runs, answered=1, when="2035-01-04T10:30")
    assert set(Run.objects.values_list("state", "run_after")) == {(State.SCHEDULED, WHEN)}
    assert {entry.get_change_message() for entry in LogEntry.objects.all()} == {
        "Rescheduled: to 2035-01-04 10:30:00 UTC."
    }


def test_several_are_asked_again_if_the_time_has_passed(admin_client: Client) -> None:
    run = waiting()
    response = reschedule_several(admin_client, run, answered=1, when="2020-01-01T10:00")
    assert errors(response)["when"] == ["This time has passed."]
    assert not LogEntry.objects.exists()


def test_of_several_those_that_may_be_rescheduled_are_and_the_others_are_named(
    admin_client: Client,
) -> None:
    mine, running = waiting(), make_run(state=State.RUNNING)
    expiring = waiting(discard_after=WHEN)
    response = reschedule_several(
        admin_client, mine, running, expiring, answered=1, when="2035-01-05T10:30"
    )
    done, refused = said(response)
    assert done == f"Rescheduled: testapp.add {mine.pk.hex[-8:]}"
    assert f"Run {running.pk} is running: only a run that waits can be rescheduled." in refused
    assert f"{expiring}: It would be discarded at 2035-01-04 10:30:00 UTC" in refused
    assert "., " not in refused
    mine.refresh_from_db()
    assert mine.run_after == WHEN + timedelta(days=1)


def test_what_does_not_wait_is_refused_as_that_whatever_its_deadline(admin_client: Client) -> None:
    run = make_run(state=State.RUNNING, discard_after=WHEN)
    response = reschedule_several(admin_client, run, answered=1, when="2035-01-05T10:30")
    assert "only a run that waits can be rescheduled" in said(response)[0]


def test_of_several_that_are_all_gone_it_says_so(admin_client: Client) -> None:
    run = waiting()
    prune(run)
    for data in ({}, {"answered": 1}):
        response = reschedule_several(admin_client, run, **data)
        assert said(response) == ["Nothing was done: there are no such runs (any more)."]
