"""What is due is sent once, by each channel in its turn; what could not be sent is tried again."""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from django_defer.alerts import dispatch, routes, sending
from django_defer.alerts.messages import Channel
from django_defer.models import Alert, AlertChannel, AlertDelivery, AlertEvent
from tests.alerts import (
    LOG,
    TOLD,
    Refused,
    Told,
    TryLater,
    at,
    gather_at,
    happens,
    send_at,
)
from tests.runs import DATABASE, DATABASES, captured, defer_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_defer.alerts.messages import Message

pytestmark = pytest.mark.django_db(databases=DATABASES)

HOUR = 3600


@pytest.fixture(autouse=True)
def _two_channels() -> Iterator[None]:
    Told.forget()
    with defer_settings(
        ALERTS=({"channel": TOLD, "name": "a"}, {"channel": TOLD, "name": "b"}), SITE_URL=None
    ):
        yield


def delivery(channel: str = "a", number: int = 1) -> AlertDelivery:
    return AlertDelivery.objects.using(DATABASE).get(channel=channel, number=number)


def channel(name: str = "a") -> AlertChannel:
    return AlertChannel.objects.using(DATABASE).get(name=name)


def due_in(each: AlertDelivery, seconds: float) -> float:
    return float((each.due_at - at(seconds)).total_seconds())


class Hanging(Channel):
    """Never answers."""

    let_go = threading.Event()

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name)

    def send(self, message: Message) -> str:
        """Wait, and never answer: a late answer would be written after the test's transaction."""
        self.let_go.wait(60)
        raise TryLater("never answered")


class Slow(Channel):
    """Takes its time."""

    def send(self, message: Message) -> str:
        """Take longer than the pass has left."""
        time.sleep(0.3)
        return "slowly"


def test_a_message_is_sent_once_by_each_channel() -> None:
    happens(0)
    assert send_at(10) == 2
    assert Told.titles() == ["testapp.noop failed"] * 2
    assert send_at(11) == 0
    sent = delivery()
    assert (sent.answer, sent.attempts, sent.count, sent.given_up_at) == ("ok", 1, 1, None)
    assert sent.sent_at is not None
    assert channel().failures == 0
    assert channel().last_sent_at == sent.sent_at


def test_what_failed_is_tried_again_at_growing_intervals_for_a_day() -> None:
    Told.errors["a"] = [TryLater("busy") for _ in range(100)]
    happens(0)
    gather_at(10)
    now, waits = 10.0, []
    while (failed := delivery()).given_up_at is None:
        dispatch.send_due(DATABASE, at(now), 20)
        failed = delivery()
        waits.append(round(due_in(failed, now)))
        now += max(due_in(failed, now), 1)
    assert waits[:10] == [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600]
    assert set(waits[9:-1]) == {3600}
    assert 24 * HOUR <= now <= 27 * HOUR
    assert failed.answer == "busy"
    assert channel().last_error == "busy"
    assert channel().failures == len(waits)
    assert Told.titles("b") == ["testapp.noop failed"]


def test_a_message_that_is_refused_is_given_up_at_once_and_says_why() -> None:
    Told.errors["a"] = [Refused("no_such_channel")]
    happens(0)
    happens(0, "run_lost")
    assert send_at(10) == 3
    refused = AlertDelivery.objects.using(DATABASE).exclude(given_up_at=None).get()
    assert (refused.channel, refused.answer, refused.sent_at) == ("a", "no_such_channel", None)
    assert channel().last_error == "no_such_channel"
    assert len(Told.titles("a")) == 1


def test_a_channel_that_asks_for_time_gets_it() -> None:
    Told.errors["a"] = [TryLater("rate limited", timedelta(seconds=90))]
    happens(0)
    happens(0, "run_lost")
    assert send_at(10) == 2  # by the other one
    assert (channel().not_before, channel().failures) == (pytest.approx(at(100), abs=_SECOND), 1)
    assert [send_at(50), dispatch.is_work_due(DATABASE, at(50))] == [0, False]
    assert dispatch.is_work_due(DATABASE, at(102))
    assert send_at(102) == 2
    assert (channel().not_before, channel().failures) == (None, 0)


_SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("error", [ZeroDivisionError("oh"), SystemExit(3)], ids=str)
def test_whatever_a_channel_raises_it_is_tried_again(error: BaseException) -> None:
    Told.errors["a"] = [error]
    happens(0)
    assert send_at(10) == 1
    assert type(error).__name__ in delivery().answer
    assert send_at(21) == 1
    assert len(Told.titles("a")) == 1


def test_an_error_does_not_tell_what_the_settings_keep_secret() -> None:
    secret = "https://hooks.example/T0/SECRET"
    Told.errors["a"] = [OSError(f"cannot reach {secret}/x"), OSError("key hush-hush")]
    options = {"channel": TOLD, "name": "a", "url": secret, "headers": {"x": ["hush-hush"]}}
    with defer_settings(ALERTS=(options,)):
        happens(0)
        send_at(10)
        assert delivery().answer == "OSError: cannot reach ••••••/x"
        send_at(30)
        assert channel().last_error == "OSError: key ••••••"


def test_a_channel_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "SEND_SECONDS", 0.2)
    Hanging.let_go.clear()
    hanging = {"channel": "tests.database.test_alert_dispatch.Hanging", "name": "a"}
    with defer_settings(ALERTS=(hanging, {"channel": TOLD, "name": "b"})):
        for event in ("run_failed", "run_lost", "run_timed_out"):
            happens(0, event)
        began = time.monotonic()
        assert send_at(10) == 3
        assert time.monotonic() - began < 5
    Hanging.let_go.set()
    assert channel().last_error == "no answer within 0 s"
    assert AlertDelivery.objects.using(DATABASE).filter(attempts=1, channel="a").count() == 1


def test_what_is_begun_is_waited_for_however_little_time_is_left() -> None:
    slow = {"channel": "tests.database.test_alert_dispatch.Slow", "name": "a"}
    with defer_settings(ALERTS=(slow,)):
        happens(0)
        gather_at(10)
        assert dispatch.send_due(DATABASE, at(10), 0.05) == 1
    assert delivery().answer == "slowly"


def test_an_answer_that_comes_late_is_kept() -> None:
    late = threading.Event()
    answers: list[str] = []

    def keep(answer: str) -> None:
        answers.append(answer)
        late.set()

    with pytest.raises(TryLater, match="no answer within"):
        sending.send_within(Slow("a"), None, 0.01, keep)  # type: ignore[arg-type]
    assert late.wait(10)
    assert answers == ["slowly"]


def test_a_reminder_that_waited_and_has_nothing_to_add_is_not_sent() -> None:
    happens(0)
    gather_at(10)  # the message is due, and its channel is slow
    happens(11)
    gather_at(12)
    assert send_at(13) == 2  # it tells of both
    gather_at(2 * HOUR)
    assert send_at(2 * HOUR) == 0
    assert len(Told.titles("a")) == 1
    assert "2 times" in Told.titles("a")[0]


def test_parts_of_an_address_are_kept_secret_too() -> None:
    secret = "https://hooks.example/services/T00/SECRETTOKEN"
    Told.errors["a"] = [OSError("Max retries exceeded with url: /services/T00/SECRETTOKEN")]
    with defer_settings(ALERTS=({"channel": TOLD, "name": "a", "url": secret},)):
        happens(0)
        send_at(10)
    assert "SECRETTOKEN" not in delivery().answer
    assert "SECRETTOKEN" not in channel().last_error


def test_pings_take_no_time_from_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(dispatch, "addresses", lambda: {"shop.f": "https://example.com"})
    monkeypatch.setattr(dispatch, "send_due_pings", lambda *args: order.append("ping"))
    monkeypatch.setattr(dispatch, "watch", lambda *args: order.append("message"))
    dispatch.work(DATABASE, 5)
    assert order == ["message", "ping"]


def test_a_channel_that_cannot_be_opened_says_so_and_loses_nothing() -> None:
    broken = {"channel": "tests.alerts.Broken", "name": "a"}
    with defer_settings(ALERTS=(broken,)):
        happens(0)
        assert send_at(10) == 0
        assert channel().last_error == "ImportError: no module named slack_sdk"
        assert not dispatch.is_work_due(DATABASE, at(300))
        for hours in range(1, 80):
            assert dispatch.send_due(DATABASE, at(hours * HOUR), 20) == 0
    with defer_settings(ALERTS=({"channel": TOLD, "name": "a"},)):
        assert dispatch.send_due(DATABASE, at(81 * HOUR), 20) == 1


def test_what_is_for_a_channel_that_was_removed_is_given_up_after_a_while() -> None:
    happens(0)
    gather_at(10)
    with defer_settings(ALERTS=({"channel": TOLD, "name": "b"},)):
        assert dispatch.send_due(DATABASE, at(11), 20) == 1
        assert delivery().given_up_at is None
        assert not dispatch.is_work_due(DATABASE, at(12))
        dispatch.send_due(DATABASE, at(700), 20)
    assert delivery().answer == 'the setting ALERTS has no channel "a" any more'
    assert delivery().given_up_at == at(700)


def test_a_channel_sends_so_many_messages_a_minute() -> None:
    slow = {"channel": TOLD, "name": "a", "rate": 3}
    with defer_settings(ALERTS=(slow, {"channel": TOLD, "name": "b"})):
        for n in range(5):
            happens(0, subject=f"shop.f{n}")
        assert send_at(10) == 8
        assert not dispatch.is_work_due(DATABASE, at(60))
        assert send_at(60) == 0
        assert send_at(75) == 2
    assert len(Told.titles("a")) == 5


def test_a_leased_message_is_left_alone_until_the_lease_is_over() -> None:
    happens(0)
    gather_at(10)
    leased = AlertDelivery.objects.using(DATABASE).filter(channel="a")
    leased.update(attempts=1, due_at=at(70))  # and its sender was killed
    assert dispatch.send_due(DATABASE, at(69), 20) == 1
    assert Told.titles("a") == []
    assert dispatch.send_due(DATABASE, at(71), 20) == 1
    assert Told.titles("a") == ["testapp.noop failed"]


def test_who_was_too_slow_changes_nothing_of_what_another_sent() -> None:
    happens(0)
    gather_at(10)
    turn = dispatch.Turn(DATABASE, routes.routes()[0])
    mine = turn._lease(at(10))
    assert mine is not None
    assert send_at(71) == 2
    turn.channel = Told("a")
    turn._failed(mine, Refused("late"), at(72))
    assert delivery().sent_at is not None
    assert delivery().given_up_at is None


def test_a_sent_message_has_been_sent_even_if_a_later_one_took_its_place() -> None:
    happens(0)
    gather_at(10)
    turn = dispatch.Turn(DATABASE, routes.routes()[0])
    mine = turn._lease(at(10))
    assert mine is not None
    happens(HOUR)
    gather_at(HOUR + 10)
    turn._sent(mine, 1, "ok", at(HOUR + 11))
    assert (delivery().sent_at, delivery().given_up_at) == (at(HOUR + 11), None)


def test_nothing_is_sent_inside_a_transaction_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connections

    depths: list[int] = []
    depth = len(connections[DATABASE].savepoint_ids)

    def send_within(*arguments: Any) -> str:
        depths.append(len(connections[DATABASE].savepoint_ids))
        return "ok"

    monkeypatch.setattr(dispatch, "send_within", send_within)
    happens(0)
    assert send_at(10) == 2
    assert depths == [depth, depth]


# -- work --------------------------------------------------------------------------------------


def test_work_notices_gathers_and_sends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watched: list[str] = []
    monkeypatch.setattr(dispatch, "watch", lambda using, now: watched.append(using))
    AlertEvent.objects.using(DATABASE).create(event="run_failed", subject="shop.mail", error="E: 1")
    with defer_settings(ALERTS=LOG):
        dispatch.work(DATABASE, 20)
        assert Alert.objects.using(DATABASE).get().messages == 0  # it gathers for 10 s
        with caplog.at_level(logging.WARNING, "django_defer.alerts"):
            dispatch.work(DATABASE, 20, is_last=True)
    assert watched == [DATABASE] * 2
    records = [each for each in caplog.records if each.name == "django_defer.alerts"]
    assert [each.getMessage() for each in records] == ["alert.run_failed shop.mail failed"]
    assert records[0].event == "alert.run_failed"  # type: ignore[attr-defined]


def test_work_goes_on_where_one_step_of_it_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(using: str, now: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(dispatch, "watch", broken)
    happens(0)
    dispatch.work(DATABASE, 20, is_last=True)
    assert len(Told.titles()) == 2
    assert "alerts.failed" in caplog.text


def test_without_channels_work_asks_nothing() -> None:
    with defer_settings(ALERTS=()), captured() as queries:
        dispatch.work(DATABASE, 20)
    assert not queries.captured_queries


def test_the_answer_is_cut_to_its_column() -> None:
    class Chatty(Told):
        def send(self, message: Message) -> str:
            return "x" * 10_000

    happens(0)
    gather_at(10)
    assert len(sending.send_within(Chatty("a"), None, 5)) == 500  # type: ignore[arg-type]
