"""The pages of alerts and of their channels: what they say, hide and let people do."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any, Final

import pytest
from django.contrib.admin import AdminSite, site
from django.contrib.admin.models import LogEntry
from django.db import connections
from django.test import override_settings
from django.urls import path, resolve

from django_defer.admin import AlertAdmin, AlertChannelAdmin
from django_defer.admin.alert_words import LABELS, open_alerts_about
from django_defer.alerts import gathering
from django_defer.alerts.acknowledging import acknowledge
from django_defer.alerts.events import CONDITIONS, Event
from django_defer.alerts.messages import Channel, Refused
from django_defer.exceptions import DeferError
from django_defer.models import Alert, AlertChannel, AlertDelivery
from django_defer.states import State
from tests.admin_pages import read, words
from tests.admin_rows import (
    HOSTILE,
    ago,
    log_in_with,
    make_alert,
    make_delivery,
    make_finished,
    prune,
)
from tests.alerts import TOLD, Told
from tests.runs import DATABASE, captured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.test import Client

    from django_defer.alerts.messages import Message

pytestmark = pytest.mark.django_db

ADMIN: Final = "/admin/django_defer/"
ESCAPED: Final = html.escape(HOSTILE)
ADDRESS: Final = "https://hooks.example.com/services/T0/B1/sesame"
alerts_only = AdminSite(name="alerts_only")
alerts_only.register(Alert, AlertAdmin)
alerts_only.register(AlertChannel, AlertChannelAdmin)

urlpatterns = [path("office/", site.urls), path("night/", alerts_only.urls)]


class Quoting(Channel):
    """Quotes its address and password in what it says."""

    def __init__(self, name: str, address: str, options: dict[str, Any] | None = None) -> None:
        super().__init__(name)
        self.said = f"posted to {address} with {(options or {}).get('password')}"

    def send(self, message: Message) -> str:
        """Say it."""
        if self.name == "refused":
            raise Refused(self.said)
        return self.said


def alerts(*entries: dict[str, Any]) -> override_settings:
    """Set ALERTS."""
    return override_settings(DEFER={"ALERTS": entries})


def quoting(name: str) -> dict[str, Any]:
    """Return an entry whose channel quotes what is secret."""
    return {
        "channel": f"{__name__}.Quoting",
        "name": name,
        "address": ADDRESS,
        "options": {"password": "open sesame"},
    }


@pytest.fixture(autouse=True)
def told() -> Iterator[type[Told]]:
    """A channel that keeps what it is told."""
    Told.forget()
    yield Told
    Told.forget()


def listed(client: Client, **query: str) -> list[str]:
    """Return the subjects of the alerts in the list."""
    return re.findall(r'<td class="field-about">([^<]*)<', read(client, "alert", **query))


def channels(client: Client) -> list[str]:
    """Return the names in the list of channels."""
    return re.findall(r'<th class="field-name"><a [^>]*>([^<]*)<', read(client, "alertchannel"))


def test_url(name: str) -> str:
    return f"{ADMIN}alertchannel/{name}/send-test/"


test_url.__test__ = False  # type: ignore[attr-defined]


# -- alerts ----------------------------------------------------------------------------------------


def test_every_event_has_a_label() -> None:
    assert set(LABELS) == set(Event)


def test_the_list_says_what_about_what_how_often_and_in_which_state(admin_client: Client) -> None:
    make_alert(acknowledged_at=ago(minutes=1), acknowledged_by="ada")
    text = words(admin_client, "alert")
    for said in ("run failed", "testapp.recommend", "acknowledged ada", "5,000", "2 min ago"):
        assert said in text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["a.open", "a.seen", "mails", "a.over"]),
        ({"state": "open"}, ["a.open", "mails"]),
        ({"state": "acknowledged"}, ["a.seen"]),
        ({"state": "closed"}, ["a.over"]),
        ({"event": "queue_stalled"}, ["mails"]),
        ({"subject": "a.seen"}, ["a.seen"]),
        ({"q": "a.o"}, ["a.open", "a.over"]),
        ({"state": "open", "event": "run_failed"}, ["a.open"]),
    ],
)
def test_the_list_is_filtered(
    admin_client: Client, query: dict[str, str], found: list[str]
) -> None:
    make_alert(subject="a.open", last_at=ago(minutes=1))
    make_alert(subject="a.seen", last_at=ago(minutes=2), acknowledged_at=ago(minutes=1))
    make_alert(subject="mails", last_at=ago(minutes=3), event="queue_stalled")
    make_alert(subject="a.over", last_at=ago(minutes=4), closed_at=ago(minutes=1))
    assert listed(admin_client, **query) == found


def test_a_page_says_what_happened_in_words(admin_client: Client) -> None:
    text = words(admin_client, "alert", make_alert(detail="The bank is closed."))
    assert "testapp.recommend failed 5,000 times in 18 minutes." in text
    assert "The bank is closed. The first at " in text
    assert "Told of 4,000 of 5,000" in text


@pytest.mark.parametrize("event", [*Event, "known_to_newer_code"])
def test_a_page_knows_every_event(admin_client: Client, event: str) -> None:
    subject = "" if event in (*CONDITIONS, "known_to_newer_code") else "testapp.add"
    alert = make_alert(event=event, subject=subject)
    assert event in words(admin_client, "alert", alert)
    label = str(LABELS.get(event, event))
    assert f">{label}</a></th>" in read(admin_client, "alert")


def test_an_example_leads_to_its_run_unless_that_is_pruned(admin_client: Client) -> None:
    run = make_finished()
    alert = make_alert(run)
    address = f"{ADMIN}run/{run.pk}/change/"
    assert address in read(admin_client, "alert", alert)
    text = words(admin_client, "alert", alert)
    for said in ("user 42", "tenant: acme", "17 of 17", "3 of 300 of testapp.weekly", "mail.exam"):
        assert said in text
    prune(run)
    assert address not in read(admin_client, "alert", alert)
    assert "(pruned)" in words(admin_client, "alert", alert)


def test_who_may_not_see_runs_gets_no_links_to_them(client: Client) -> None:
    log_in_with(client, "view_alert")
    run = make_finished()
    text = read(client, "alert", make_alert(run))
    assert "user 42" in text
    assert f"{ADMIN}run/" not in text
    assert f"{ADMIN}backgroundfunction/" not in text


def test_each_delivery_says_when_how_often_and_what_was_answered(admin_client: Client) -> None:
    alert = make_alert()
    make_delivery(alert, 1, sent_at=ago(minutes=18), attempts=1, answer="ok")
    make_delivery(alert, 2, given_up_at=ago(minutes=9), answer="HTTP 404: no_service")
    make_delivery(alert, 3)
    text = words(admin_client, "alert", alert)
    assert re.search(r"1, opened slack sent [-\d: ]+UTC 1 ok", text)
    assert re.search(r"2, reminder slack given up [-\d: ]+UTC 3 HTTP 404: no_service", text)
    assert re.search(r"3, reminder slack waits due [-\d: ]+UTC \(in 3 min\) 3 HTTP 503", text)
    assert f'href="{ADMIN}alertchannel/slack/change/"' in read(admin_client, "alert", alert)


def test_a_page_says_who_is_told_or_that_nobody_is(admin_client: Client) -> None:
    alert = make_alert()
    assert "Nobody is told: the setting ALERTS has no channel." in words(
        admin_client, "alert", alert
    )
    with alerts({"channel": "log"}, {"channel": TOLD, "name": "b", "functions": ["shop.*"]}):
        assert "Who is told log" in words(admin_client, "alert", alert)
    with alerts({"channel": "log", "events": ["no_workers"]}):
        assert "Nobody: no channel lists this event" in words(admin_client, "alert", alert)


def test_hostile_text_stays_text_on_every_page(admin_client: Client) -> None:
    example = dict.fromkeys(("error", "label", "attempts", "fan_out"), HOSTILE) | {
        "at": ago(minutes=1).isoformat(),
        "metadata": {HOSTILE: HOSTILE},
    }
    alert = make_alert(
        subject=HOSTILE,
        detail=HOSTILE,
        event=HOSTILE,
        examples=[example],
        acknowledged_by=HOSTILE,
        acknowledged_at=ago(minutes=1),
    )
    make_delivery(alert, channel=HOSTILE, answer=HOSTILE)
    make_delivery(alert, 2, channel=HOSTILE, answer=HOSTILE, sent_at=ago(minutes=1))
    channel = AlertChannel.objects.create(
        name=HOSTILE, failures=1, last_error=HOSTILE, last_error_at=ago(minutes=1)
    )
    with alerts({"channel": TOLD, "name": HOSTILE, "functions": [HOSTILE]}):
        Told.errors[HOSTILE] = [Refused(HOSTILE)]
        pages = [
            read(admin_client, "alert"),
            read(admin_client, "alert", alert),
            read(admin_client, "alertchannel"),
            read(admin_client, "alertchannel", channel),
            admin_client.get(ADMIN).content.decode(),
        ]
    for page in pages:
        assert HOSTILE not in page
        assert ESCAPED in page


# -- the page of a run that is an example ----------------------------------------------------------


def test_a_failed_run_says_by_whom_it_was_told(admin_client: Client) -> None:
    run = make_finished(State.FAILED, function_id="testapp.recommend")
    alert = make_alert(run)
    for number, channel in ((1, "slack"), (2, "slack"), (2, "mail")):
        make_delivery(alert, number, channel=channel, sent_at=ago(minutes=20 - number))
    make_delivery(alert, 3)
    text = words(admin_client, "run", run)
    assert re.search(r"Alert run failed : told mail [-\d: ]+UTC , slack [-\d: ]+UTC", text)
    assert f'href="{ADMIN}alert/{alert.pk}/change/"' in read(admin_client, "run", run)


def test_a_run_that_is_no_example_says_nothing_of_alerts(admin_client: Client) -> None:
    run = make_finished(State.FAILED, function_id="testapp.recommend")
    make_alert(make_finished(), subject="testapp.recommend")
    assert "Alert run failed" not in words(admin_client, "run", run)


@pytest.mark.postgres
def test_the_alert_of_a_run_is_found_by_an_index() -> None:
    for n in range(3000):
        make_alert(subject=f"shop.f{n}", closed_at=ago(days=1) if n % 100 else None)
    with connections[DATABASE].cursor() as cursor:
        cursor.execute("ANALYZE django_defer_alert")
    run = make_finished(State.FAILED, function_id="shop.f100")
    assert "defer_alert_open" in open_alerts_about(run).explain()


# -- acknowledging ---------------------------------------------------------------------------------


def test_who_has_acknowledged_it_is_kept_shown_and_logged(client: Client) -> None:
    log_in_with(client, "view_alert", "acknowledge_alert")
    alert = make_alert()
    page = client.post(f"{ADMIN}alert/{alert.pk}/acknowledge/", follow=True).content.decode()
    alert.refresh_from_db()
    assert alert.acknowledged_by == "viewer"
    assert "Acknowledged by viewer at " in page
    assert "/acknowledge/" not in page
    assert LogEntry.objects.get().get_change_message() == "Acknowledged."


def test_nothing_more_is_told_of_an_acknowledged_alert_but_that_it_is_over() -> None:
    alert = make_alert(next_message_at=ago(minutes=1))
    waits = make_delivery(alert)
    with alerts({"channel": "log"}):
        assert gathering.due_alerts(DATABASE, ago()).exists()
        acknowledge(alert, actor="ada")
        assert not gathering.due_alerts(DATABASE, ago()).exists()
        waits.refresh_from_db()
        assert waits.given_up_at is not None
        assert waits.answer == "acknowledged by ada before it was sent"
        make_delivery(alert, 2, channel="log", sent_at=ago(minutes=1))
        alert.refresh_from_db()
        gathering.close(DATABASE, alert, ago(), recovered=True)
    over = AlertDelivery.objects.get(kind="recovered")
    assert (over.channel, over.given_up_at) == ("log", None)


def test_it_is_acknowledged_once(admin_client: Client) -> None:
    alert = make_alert()
    same = Alert.objects.get(pk=alert.pk)
    acknowledge(alert, actor="ada")
    with pytest.raises(DeferError, match="was acknowledged by ada at"):
        acknowledge(same, actor="bob")
    assert same.acknowledged_by == "ada"
    page = admin_client.post(f"{ADMIN}alert/{alert.pk}/acknowledge/", follow=True)
    assert "Not acknowledged: run_failed testapp.recommend was acknowledged by ada" in words_of(
        page.content.decode()
    )


def test_what_is_over_is_not_acknowledged(admin_client: Client) -> None:
    alert = make_alert(closed_at=ago(minutes=1))
    assert "/acknowledge/" not in read(admin_client, "alert", alert)
    page = admin_client.post(f"{ADMIN}alert/{alert.pk}/acknowledge/", follow=True)
    assert "run_failed testapp.recommend is over." in page.content.decode()
    alert.refresh_from_db()
    assert alert.acknowledged_at is None


# -- channels --------------------------------------------------------------------------------------


def test_the_list_has_each_channel_of_the_settings_and_those_that_were(
    admin_client: Client,
) -> None:
    for name in ("former", "b"):
        AlertChannel.objects.create(name=name, last_sent_at=ago(minutes=1))
    with alerts({"channel": "log"}, {"channel": TOLD, "name": "b"}):
        assert channels(admin_client) == ["log", "b", "former"]
        text = words(admin_client, "alertchannel")
    assert "log not used yet the default all 20 a minute – –" in text
    assert "b works the default all 20 a minute 60 s ago –" in text
    assert "former not in the settings – – – 60 s ago –" in text
    assert "3 alert channels" in text
    assert AlertChannel.objects.count() == 2


def test_without_channels_the_list_says_that_nobody_is_told(admin_client: Client) -> None:
    assert "Nobody is told" in words(admin_client, "alertchannel")
    with alerts({"channel": "log"}):
        assert "Nobody is told" not in words(admin_client, "alertchannel")


def test_a_channel_has_a_page_before_it_has_sent_anything(admin_client: Client) -> None:
    entry = {"channel": "log", "events": ["run_lost", "run_failed"], "functions": ["shop.*"]}
    with alerts({**entry, "rate": 3}):
        text = words(admin_client, "alertchannel", AlertChannel(name="log"))
    assert "not used yet" in text
    assert "Class django_defer.alerts.log.LogChannel" in text
    assert "Events run_failed, run_lost Functions shop.* Rate 3 a minute" in text
    gone = admin_client.get(f"{ADMIN}alertchannel/log/change/")
    assert gone.status_code == 302
    assert not AlertChannel.objects.exists()


def test_a_channel_that_fails_says_since_when_why_and_until_when_it_waits(
    admin_client: Client,
) -> None:
    channel = AlertChannel.objects.create(
        name="log",
        failures=4,
        not_before=ago(minutes=-8),
        last_error_at=ago(minutes=2),
        last_error="HTTP 503",
    )
    alert = make_alert()
    make_delivery(alert, channel="log", sent_at=ago(minutes=30), answer="logged")
    with alerts({"channel": "log"}):
        row, page = (
            words(admin_client, "alertchannel"),
            words(admin_client, "alertchannel", channel),
        )
    assert "failing tried again in 8 min" in row
    assert "2 min ago HTTP 503" in row
    assert "Failures in a row 4 Not before" in page
    assert "HTTP 503" in page
    assert "testapp.recommend failed 5,000 times in 18 minutes 1, opened logged" in page


@pytest.mark.parametrize("name", ["answered", "refused"])
def test_addresses_and_passwords_are_on_no_page(admin_client: Client, name: str) -> None:
    said = f"posted to {ADDRESS} with open sesame"
    channel = AlertChannel.objects.create(
        name=name, failures=1, last_error=said, last_error_at=ago(minutes=1)
    )
    alert = make_alert()
    make_delivery(alert, channel=name, answer=said)
    make_delivery(alert, 2, channel=name, answer=said, sent_at=ago(minutes=1))
    with alerts(quoting(name)):
        pages = [
            read(admin_client, "alertchannel"),
            read(admin_client, "alertchannel", channel),
            read(admin_client, "alert", alert),
            admin_client.get(ADMIN).content.decode(),
            admin_client.post(test_url(name), follow=True).content.decode(),
            admin_client.get(f"{ADMIN}alertchannel/{name}/history/").content.decode(),
        ]
    for page in pages:
        assert "sesame" not in page
    assert all("posted to" in page for page in pages[:5])


# -- a test message --------------------------------------------------------------------------------


def test_a_test_message_shows_the_answer_and_is_logged(client: Client) -> None:
    log_in_with(client, "view_alertchannel", "acknowledge_alert")
    with alerts({"channel": TOLD, "name": "b"}):
        assert test_url("b") in read(client, "alertchannel", AlertChannel(name="b"))
        page = client.post(test_url("b"), follow=True)
    assert "Sent a test message: b , answered: ok" in words_of(page.content.decode())
    [(name, message)] = Told.messages
    assert (name, message.kind) == ("b", "test")
    assert message.text == "viewer, in the admin, sent this; nothing has failed."
    assert LogEntry.objects.get().get_change_message() == "Sent a test message: ok."
    assert not AlertChannel.objects.exists()
    assert not AlertDelivery.objects.exists()


def test_a_test_message_that_fails_shows_the_error(admin_client: Client) -> None:
    Told.errors["b"] = [Refused(f"HTTP 404: {HOSTILE}")]
    with alerts({"channel": TOLD, "name": "b"}):
        page = admin_client.post(test_url("b"), follow=True).content.decode()
    assert "No test message was sent: " in page
    assert f"HTTP 404: {ESCAPED}" in page
    assert HOSTILE not in page
    assert not LogEntry.objects.exists()


def test_a_channel_that_cannot_be_opened_shows_why(admin_client: Client) -> None:
    with alerts({"channel": "tests.alerts.Broken", "name": "b"}):
        page = admin_client.post(test_url("b"), follow=True).content.decode()
    assert "no module named slack_sdk" in page


def test_a_test_message_is_refused_to_those_who_lack_the_permission(client: Client) -> None:
    log_in_with(client, "view_alertchannel", "change_alertchannel", "view_alert")
    with alerts({"channel": TOLD, "name": "b"}):
        assert test_url("b") not in read(client, "alertchannel", AlertChannel(name="b"))
        assert client.post(test_url("b")).status_code == 403
        assert client.get(test_url("b")).status_code == 405
    assert not Told.messages


def test_a_channel_that_is_no_longer_in_the_settings_is_not_tried(admin_client: Client) -> None:
    channel = AlertChannel.objects.create(name="former", last_sent_at=ago(days=1))
    assert test_url("former") not in read(admin_client, "alertchannel", channel)
    page = admin_client.post(test_url("former"), follow=True).content.decode()
    assert "The setting ALERTS has no channel former." in page


def test_no_transaction_is_open_while_a_channel_is_tried() -> None:
    alert, channel = (
        resolve(f"{ADMIN}{page}/").func
        for page in ("alert/1/acknowledge", "alertchannel/b/send-test")
    )
    assert not getattr(alert, "_non_atomic_requests", None)
    assert channel._non_atomic_requests == set(connections)  # type: ignore[attr-defined]


# -- who, where, how fast --------------------------------------------------------------------------


def test_the_pages_are_refused_to_those_who_may_not_view_them(client: Client) -> None:
    log_in_with(client, "view_run", "acknowledge_alert")
    alert = make_alert()
    with alerts({"channel": TOLD, "name": "b"}):
        for page in (
            "alert/",
            f"alert/{alert.pk}/change/",
            "alertchannel/",
            "alertchannel/b/change/",
        ):
            assert client.get(ADMIN + page).status_code == 403, page


@override_settings(ROOT_URLCONF=__name__)
def test_another_site_links_to_its_own_pages_and_to_none_it_lacks(admin_client: Client) -> None:
    run = make_finished()
    alert = make_alert(run)
    make_delivery(alert)
    with alerts({"channel": TOLD, "name": "slack"}):
        page = admin_client.get(f"/night/django_defer/alert/{alert.pk}/change/").content.decode()
        assert "/night/django_defer/alertchannel/slack/change/" in page
        assert f"/night/django_defer/alert/{alert.pk}/acknowledge/" in page
        assert "/office/" not in page
        assert "run/" not in page
        url = "/night/django_defer/alertchannel/slack/"
        tried = admin_client.post(f"{url}send-test/", follow=True)
        assert tried.redirect_chain == [(f"{url}change/", 302)]
        dashboard = admin_client.get("/night/django_defer/").content.decode()
        assert f"/night/django_defer/alert/{alert.pk}/change/" in dashboard
        assert "/office/" not in dashboard


@pytest.mark.parametrize("model", ["alert", "alertchannel"])
def test_the_number_of_queries_does_not_grow(admin_client: Client, model: str) -> None:
    def fill(start: int, count: int) -> None:
        for n in range(start, start + count):
            make_delivery(make_alert(subject=f"shop.f{n}"), channel=f"c{n}")
            AlertChannel.objects.create(name=f"c{n}", failures=1)

    with alerts({"channel": "log"}):
        fill(0, 2)
        read(admin_client, model)
        with captured() as few:
            read(admin_client, model)
        fill(2, 25)
        with captured() as many:
            read(admin_client, model)
    assert len(few) == len(many)


def words_of(page: str) -> str:
    """Return the text of a page, one space between words."""
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", page)).split())
