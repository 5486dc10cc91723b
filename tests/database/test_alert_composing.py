"""What a person reads at three in the morning."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import translation

from django_defer.alerts import dispatch, gathering
from django_defer.alerts.composing import WORDS, compose
from django_defer.alerts.events import CONDITIONS, Event
from django_defer.alerts.log import LogChannel
from django_defer.models import Alert, AlertDelivery
from django_defer.models.alerts import MessageKind
from django_defer.states import State
from tests.alerts import T0, TOLD, Told, at, gather_at, happens, send_at, the_alert
from tests.runs import DATABASE, DATABASES, defer_settings, new_definition, new_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_defer.alerts.messages import Message

pytestmark = pytest.mark.django_db(databases=DATABASES)

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.fixture(autouse=True)
def _one_channel() -> Iterator[None]:
    Told.forget()
    with defer_settings(ALERTS=({"channel": TOLD, "name": "a", "events": "all"},)):
        yield


def mail(seconds: float, event: str = "run_failed", **options: Any) -> None:
    happens(seconds, event, "shop.send_report", **options)


def message() -> Message:
    """Return the message that was made last."""
    delivery = AlertDelivery.objects.using(DATABASE).order_by("pk").last()
    assert delivery is not None
    return compose(delivery)


def close_at(seconds: float, alert: Alert | None = None) -> None:
    gathering.close(DATABASE, alert or the_alert(), at(seconds), recovered=True)


def test_one_failure() -> None:
    mail(0)
    gather_at(10)
    sent = message()
    assert (sent.title, sent.text) == ("shop.send_report failed", "")
    assert (sent.kind, sent.count, sent.event) == (MessageKind.OPENED, 1, Event.RUN_FAILED)
    assert (sent.subject, sent.first_at, sent.last_at) == ("shop.send_report", T0, T0)
    assert compose(AlertDelivery.objects.using(DATABASE).get()).id == sent.id


@pytest.mark.parametrize(
    ("seconds", "span"),
    [
        (0, "within a second"),
        (1, "in 1 second"),
        (30, "in 30 seconds"),
        (59, "in 1 minute"),
        (600, "in 10 minutes"),
        (2 * HOUR, "in 2 hours"),
        (30 * HOUR, "in 30 hours"),
        (3 * DAY, "in 3 days"),
    ],
)
def test_many_failures_say_in_what_time(seconds: float, span: str) -> None:
    mail(0, times=4999)
    mail(seconds)
    gather_at(seconds + 60)
    assert message().title == f"shop.send_report failed 5,000 times {span}"
    assert message().text.startswith("The first at 2026-11-23 08:00:00 UTC, the latest at 2026-11-")


def test_failing_on_and_recovering() -> None:
    mail(0, times=3)
    send_at(10)
    mail(15 * MINUTE, times=120)
    send_at(16 * MINUTE)
    close_at(17 * MINUTE)
    send_at(17 * MINUTE)
    mail(40 * MINUTE)
    send_at(2 * HOUR)
    assert Told.titles() == [
        "shop.send_report failed 3 times within a second",
        "still failing: shop.send_report, 120 more since 08:00 UTC",
        "recovered: shop.send_report succeeded again after 123 failures",
        "failing again: shop.send_report, 1 more since 08:17 UTC",
    ]
    sent = [each for _, each in Told.messages]
    assert sent[1].text.startswith("123 in all. The first at")
    assert [each.count for each in sent] == [3, 123, 123, 124]
    assert [str(each.kind) for each in sent] == ["opened", "reminder", "recovered", "reminder"]
    assert not sent[2].examples


def test_one_failure_is_no_failures() -> None:
    mail(0)
    send_at(10)
    close_at(20)
    send_at(20)
    assert Told.titles()[1] == "recovered: shop.send_report succeeded again after 1 failure"


def test_since_another_day_names_the_day() -> None:
    mail(0)
    send_at(10)
    mail(2 * DAY)
    send_at(2 * DAY + 60)
    assert Told.titles()[1].endswith("1 more since Monday 2026-11-23 08:00 UTC")


def test_who_never_got_the_first_message_is_told_from_the_beginning() -> None:
    mail(0)
    gather_at(10)
    mail(HOUR)
    gather_at(HOUR + 10)
    assert message().title == "shop.send_report failed 2 times in 1 hour"
    assert message().kind == MessageKind.OPENED
    close_at(HOUR + 20)
    gather_at(HOUR + 30)
    assert message().kind == MessageKind.OPENED
    assert message().text.endswith("shop.send_report has succeeded since.")


def test_a_failure_that_has_recovered_before_it_was_told_is_a_failure() -> None:
    mail(0)
    gather_at(1)
    close_at(2)
    gather_at(10)
    assert (message().title, message().text) == (
        "shop.send_report failed",
        "shop.send_report has succeeded since.",
    )


@pytest.mark.parametrize(
    ("event", "once", "often", "over"),
    [
        ("run_retrying", "failed and is tried again", "failed 2 times", "2 failed attempts"),
        ("run_lost", "was lost", "was lost 2 times", "2 losses"),
        ("run_timed_out", "timed out", "timed out 2 times", "2 time-outs"),
        ("run_slow", "took too long", "took too long 2 times", ""),
        ("run_succeeded", "succeeded", "succeeded 2 times", ""),
        ("run_discarded", "was discarded", "was discarded 2 times", ""),
        ("slot_missed", "missed its slot", "missed 2 slots", ""),
    ],
)
def test_every_event_has_words_of_its_own(event: str, once: str, often: str, over: str) -> None:
    mail(0, event)
    gather_at(10)
    assert message().title == f"shop.send_report {once}"
    mail(5, event)
    gather_at(15)
    Alert.objects.using(DATABASE).update(count=2)
    assert message().title.startswith(f"shop.send_report {often} in 5 seconds")
    if over:
        AlertDelivery.objects.using(DATABASE).update(sent_at=at(20))
        close_at(30)
        assert message().title == f"recovered: shop.send_report succeeded again after {over}"


@pytest.mark.parametrize("event", sorted(CONDITIONS))
def test_a_condition_has_words_of_its_own(event: Event) -> None:
    gathering.raise_condition(DATABASE, event, "mail", "Waiting since 07:50 UTC.", at(0))
    send_at(10)
    gathering.raise_condition(DATABASE, event, "mail", "Waiting since 07:50 UTC.", at(HOUR))
    send_at(HOUR)
    close_at(2 * HOUR)
    send_at(2 * HOUR)
    began, lasts, over = [each for _, each in Told.messages]
    assert began.text == lasts.text == "Waiting since 07:50 UTC."
    assert "still" in lasts.title
    assert over.title.startswith("recovered: ")
    assert over.text == ""
    assert (
        began.title
        == {
            "definition_error": "the schedule of mail is broken",
            "queue_stalled": "queue mail is stalled",
            "no_workers": "no workers are alive for mail",
            "scheduler_stalled": "the scheduler is stalled",
        }[event]
    )
    if event != Event.SCHEDULER_STALLED:
        assert all("mail" in each.title for each in (began, lasts, over))


def test_a_missed_slot_is_named() -> None:
    slot = new_run("shop.send_report", State.SKIPPED, slot=T0, definition=new_definition())
    mail(0, "slot_missed", run_id=slot.pk, error="")
    gather_at(10)
    assert message().text == "It was due at Monday 2026-11-23 08:00 UTC."
    assert message().examples[0].slot == T0


def test_every_event_has_words() -> None:
    assert set(WORDS) == set(Event)


def test_the_examples_are_those_that_are_news() -> None:
    runs = [
        new_run("shop.send_report", State.FAILED, label=f"user {n}", failures=1) for n in range(3)
    ]
    mail(0, run_id=runs[0].pk, error="ValueError: no such user")
    mail(1, run_id=runs[1].pk)
    send_at(15)
    mail(HOUR, run_id=runs[2].pk)
    send_at(HOUR + 15)
    first, second = [each for _, each in Told.messages]
    assert [each.label for each in first.examples] == ["user 0", "user 1"]
    assert first.examples[0].error == "ValueError: no such user"
    assert first.examples[0].run_id == runs[0].pk
    assert [each.label for each in second.examples] == ["user 2"]


def test_links_lead_to_the_admin_of_the_site() -> None:
    run = new_run("shop.send_report", State.FAILED)
    mail(0, run_id=run.pk)
    gather_at(10)
    assert (message().url, message().examples[0].url) == ("", "")
    with defer_settings(SITE_URL="https://shop.example/", ALERTS=()):
        url = message().examples[0].url
    assert url.startswith("https://shop.example/")
    assert url.endswith(f"/django_defer/run/{run.pk}/change/")


def test_the_language_of_the_process_changes_no_message() -> None:
    mail(0)
    send_at(10)
    with translation.override("de"):
        mail(2 * DAY)
        gather_at(2 * DAY + 60)
        dispatch.work(DATABASE, 20)
    assert "Monday" in Told.titles()[1]


def test_the_log_has_one_line_a_message(caplog: pytest.LogCaptureFixture) -> None:
    mail(0, error="ValueError: no\nsuch user", run_id=new_run().pk)
    mail(1)
    gather_at(20)
    with caplog.at_level(logging.WARNING, "django_defer.alerts"):
        assert LogChannel("log").send(message()) == "logged"
    (record,) = [each for each in caplog.records if each.name == "django_defer.alerts"]
    assert record.getMessage() == (
        "alert.run_failed shop.send_report failed 2 times in 1 second: ValueError: such user "
        "The first at 2026-11-23 08:00:00 UTC, the latest at 2026-11-23 08:00:01 UTC."
    )
    assert record.levelno == logging.WARNING
    assert record.__dict__["event"] == "alert.run_failed"
    assert record.__dict__["count"] == 2
