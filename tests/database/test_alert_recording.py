"""An event is written with the outcome that it is about: both or neither."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.apps import apps
from django.db import transaction

from django_defer import attempts, defer, endings, outcomes
from django_defer.alerts import routes
from django_defer.alerts.events import Event
from django_defer.attempt_facts import Failure, Success
from django_defer.clock import database_now
from django_defer.models import AlertEvent, Run
from django_defer.states import Outcome, Reason, State
from django_defer.transitions import discard
from tests.runs import (
    DATABASE,
    DATABASES,
    captured,
    defer_settings,
    fresh,
    new_definition,
    new_run,
    start,
    statements,
)
from tests.scratch import own_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db(databases=DATABASES)

OOPS = Failure(outcome=Outcome.FAILED, error_class="ValueError", error_message="no such user")
LATE = Failure(outcome=Outcome.TIMED_OUT, error_class="TimeLimitExceeded", error_message="30 s")
ALL = ({"channel": "log", "events": "all"},)


@pytest.fixture(autouse=True)
def _told_of_all() -> Iterator[None]:
    with defer_settings(ALERTS=ALL):
        yield


def told() -> list[tuple[str, str, str]]:
    return list(AlertEvent.objects.using(DATABASE).values_list("event", "subject", "error"))


def noop() -> None:
    """Do nothing."""


def running(**columns: Any) -> Any:
    return start(new_run(state=State.CLAIMED, **columns))


def test_what_failed_for_good_is_told_with_its_error() -> None:
    started = running()
    endings.fail(DATABASE, started, OOPS, None)
    assert told() == [("run_failed", "testapp.noop", "ValueError: no such user")]
    assert AlertEvent.objects.using(DATABASE).get().run_id == started.claim.run_id


@pytest.mark.parametrize(("failure", "event"), [(OOPS, "run_retrying"), (LATE, "run_timed_out")])
def test_what_is_tried_again_is_told_apart(failure: Failure, event: str) -> None:
    endings.fail(DATABASE, running(), failure, timedelta(0))
    assert [name for name, _, _ in told()] == [event]


def test_a_failure_for_good_is_one_event_whatever_its_last_attempt_was() -> None:
    endings.fail(DATABASE, running(), LATE, None)
    assert [name for name, _, _ in told()] == ["run_failed"]


def test_who_listens_for_time_outs_alone_is_told_of_the_last_one_too() -> None:
    with defer_settings(ALERTS=({"channel": "log", "events": ["run_timed_out"]},)):
        endings.fail(DATABASE, running(), LATE, None)
    assert [name for name, _, _ in told()] == ["run_timed_out"]


def test_another_teams_channel_mutes_nobody() -> None:
    team = {"channel": "log", "name": "team", "functions": ["shop.*"]}
    pager = {"channel": "log", "name": "pager", "events": ["run_timed_out"]}
    with defer_settings(ALERTS=(team, pager)):
        endings.fail(DATABASE, running(), LATE, None)
    assert sorted(name for name, _, _ in told()) == ["run_failed", "run_timed_out"]


def test_a_success_costs_nothing_where_another_function_is_asked_for() -> None:
    only = {"channel": "log", "events": ["run_succeeded"], "functions": ["shop.*"]}
    with defer_settings(ALERTS=(only,)):
        assert not outcomes.is_success_wanted("testapp.noop", 1.0)
        assert outcomes.is_success_wanted("shop.f", 1.0)


def test_a_loss_is_told() -> None:
    run = new_run(state=State.RUNNING)
    endings.lose(DATABASE, run, Failure(outcome=Outcome.LOST, error_message="killed"))
    assert told() == [("run_lost", "testapp.noop", "killed")]


def test_what_is_rolled_back_is_not_told() -> None:
    started = running()
    with transaction.atomic(using=DATABASE):
        endings.fail(DATABASE, started, OOPS, None)
        transaction.set_rollback(True, using=DATABASE)
    assert told() == []


def test_a_claim_that_was_taken_away_is_not_told() -> None:
    started = running()
    Run.objects.using(DATABASE).update(claim_id=None)
    assert endings.fail(DATABASE, started, OOPS, None) is None
    assert told() == []


def test_a_success_is_one_statement_where_nobody_asks() -> None:
    started = running()
    with defer_settings(ALERTS=({"channel": "log"},)), captured() as queries:
        assert attempts.succeed(DATABASE, Success(started, "1", 0.0))
    assert len(statements(queries)) <= 1  # on PostgreSQL it passes by the cursor that captures
    assert told() == []


def test_a_success_is_told_where_somebody_asks() -> None:
    assert attempts.succeed(DATABASE, Success(running(), "1", 0.0))
    assert told() == [("run_succeeded", "testapp.noop", "")]


def test_a_success_that_took_too_long_is_slow() -> None:
    with own_registry(), defer_settings(ALERTS=({"channel": "log"},)):
        defer(noop, name="testapp.noop", alert_after="10s")
        for seconds, events in ((9, []), (11, ["run_slow"])):
            assert attempts.succeed(DATABASE, Success(running(), "1", seconds))
            assert [name for name, _, _ in told()] == events


def test_a_function_of_which_nobody_is_to_be_told_writes_nothing() -> None:
    with own_registry():
        defer(noop, name="testapp.noop", alert=False)
        endings.fail(DATABASE, running(), OOPS, None)
    assert told() == []


def test_without_channels_nothing_is_written() -> None:
    with defer_settings(ALERTS=()):
        endings.fail(DATABASE, running(), OOPS, None)
    assert told() == []


def test_what_was_discarded_is_told_and_a_slot_of_it_is_missed() -> None:
    new_run(label="plain")
    new_run(definition=new_definition(), slot=database_now(DATABASE))
    discard(DATABASE, Run.objects.using(DATABASE).all(), Reason.EXPIRED)
    assert sorted(name for name, _, _ in told()) == ["run_discarded", "slot_missed"]


def test_an_app_that_is_made_ready_again_tells_everything_once() -> None:
    apps.get_app_config("django_defer").ready()
    endings.fail(DATABASE, running(), OOPS, None)
    assert [name for name, _, _ in told()] == ["run_failed"]


def test_a_hook_that_fails_changes_no_outcome(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(using: str, ended: object) -> None:
        AlertEvent.objects.using(using).create(event="half")
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(outcomes, "hooks", lambda: [SimpleNamespace(record=broken)])
    started = running()
    assert endings.fail(DATABASE, started, OOPS, None) == State.FAILED
    assert fresh(Run.objects.using(DATABASE).get(pk=started.claim.run_id)).state == State.FAILED
    assert told() == []
    assert "outcome.hook_failed testapp.noop" in caplog.text


# -- routes ----------------------------------------------------------------------------------------


def test_a_channel_is_told_of_the_events_and_functions_it_names() -> None:
    route = routes.read_route(
        {"channel": "slack", "events": ["run_failed"], "functions": ["shop.*"], "url": "x"}
    )
    assert route.name == "slack"
    assert dict(route.options) == {"url": "x"}
    assert route.wants(Event.RUN_FAILED, "shop.mail")
    assert not route.wants(Event.RUN_FAILED, "blog.mail")
    assert not route.wants(Event.RUN_LOST, "shop.mail")
    assert route.wants(Event.RUN_FAILED, "blog.mail", ("slack",))
    assert not route.wants(Event.RUN_FAILED, "shop.mail", ("billing",))
    assert not route.wants(Event.RUN_FAILED, "shop.mail", False)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("slack", "an entry is a dict"),
        ({}, '"channel" is None: write "slack", "email"'),
        ({"channel": "slak"}, "\"channel\" is 'slak'"),
        ({"channel": "log", "name": ""}, "\"name\" is ''"),
        ({"channel": "log", "events": "run_failed"}, '"events" is \'run_failed\': write "all"'),
        ({"channel": "log", "events": ["failed"]}, "\"events\" has 'failed': there are run_failed"),
        ({"channel": "log", "functions": "shop.*"}, "\"functions\" is 'shop.*'"),
        ({"channel": "log", "rate": 0}, '"rate" is 0'),
    ],
    ids=str,
)
def test_an_entry_that_cannot_be_meant_is_refused(entry: Any, says: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        routes.read_route(entry)
    assert says in str(caught.value)
