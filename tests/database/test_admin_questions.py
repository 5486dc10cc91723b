"""What verbs ask first: until when a pause lasts, whether to catch up, what to put in force."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from django_defer import pauses
from django_defer.clock import database_now
from django_defer.conf import conf
from django_defer.materialise import materialise
from django_defer.models import BackgroundFunction, CronDefinition, Queue
from django_defer.sync import sync
from tests.admin_rows import HOSTILE, ago, log_in_with

if TYPE_CHECKING:
    from django.test import Client

pytestmark = pytest.mark.django_db

LONG_AGO = datetime(2020, 1, 6, 8, tzinfo=UTC)  # a Monday
HOUR = timedelta(hours=1)


def weekly(**columns: Any) -> CronDefinition:
    sync()
    CronDefinition.objects.filter(function="testapp.weekly").update(**columns)
    return CronDefinition.objects.get(function="testapp.weekly")


def every() -> CronDefinition:
    return weekly(
        kind=CronDefinition.Kind.EVERY,
        code_expression="1m",
        interval=timedelta(minutes=1),
        anchor=LONG_AGO,
    )


def do(client: Client, verb: str, row: Any, **data: Any) -> Any:
    """Post a verb, and have the row as it is then."""
    model = row._meta.model_name
    url = reverse(f"admin:django_defer_{model}_{verb.replace('-', '_')}", args=[row.pk])
    response = client.post(url, data, follow=True)
    assert response.status_code == 200
    row.refresh_from_db()
    return response


def errors(response: Any) -> dict[str, list[str]]:
    return dict(response.context["question"].errors)


def log() -> str:
    return LogEntry.objects.get().get_change_message()


# -- pause ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        weekly,
        lambda: weekly().function,
        lambda: Queue.objects.create(name="mail"),
    ],
    ids=["definition", "function", "queue"],
)
def test_a_pause_may_have_an_end(admin_client: Client, make: Any) -> None:
    row = make()
    do(admin_client, "pause", row, until="2035-01-04T10:30", reason="holidays")
    assert row.paused_until == datetime(2035, 1, 4, 10, 30, tzinfo=UTC)
    assert row.pause_reason == "holidays"
    assert log() == "Paused: until 2035-01-04 10:30:00 UTC, holidays."


def test_the_end_of_a_pause_is_in_the_current_time_zone(
    admin_client: Client, settings: Any
) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"
    row = weekly()
    page = admin_client.get(reverse("admin:django_defer_crondefinition_change", args=[row.pk]))
    assert "Or until (Asia/Tokyo, optional)" in page.content.decode()
    do(admin_client, "pause", row, until="2035-01-04T10:30")
    assert row.paused_until == datetime(2035, 1, 4, 1, 30, tzinfo=UTC)


def test_without_time_zones_the_end_of_a_pause_is_in_utc(
    admin_client: Client, settings: Any
) -> None:
    settings.USE_TZ = False
    row = weekly()
    do(admin_client, "pause", row, until="2035-01-04T10:30")
    row.refresh_from_db()
    assert row.paused_until == datetime(2035, 1, 4, 10, 30, tzinfo=UTC)


def test_a_pause_may_last_an_hour(admin_client: Client) -> None:
    row = weekly()
    do(admin_client, "pause", row, span="hour")
    assert row.paused_until is not None
    assert HOUR - timedelta(minutes=1) < row.paused_until - row.paused_at < HOUR + HOUR / 60


def test_a_pause_may_last_until_tomorrow_morning(admin_client: Client, settings: Any) -> None:
    settings.TIME_ZONE = "America/New_York"
    row = weekly()
    do(admin_client, "pause", row, span="morning")
    assert row.paused_until is not None
    local = row.paused_until.astimezone(ZoneInfo("America/New_York"))
    today = datetime.now(ZoneInfo("America/New_York")).date()
    assert (local.date() - today, local.hour, local.minute) == (timedelta(days=1), 8, 0)


@pytest.mark.parametrize(
    ("data", "field", "error"),
    [
        ({"until": "2020-01-01T10:00"}, "until", "This time has passed."),
        ({"until": "soon"}, "until", "Enter a valid date/time."),
        ({"until": "2035-01-01T10:00", "span": "hour"}, "until", "Choose one"),
        ({"span": "year"}, "span", "Select a valid choice"),
        ({"reason": "x" * 501}, "reason", "at most 500 characters"),
        ({"reason": "a\x00b"}, "reason", "Null characters are not allowed."),
    ],
)
def test_an_answer_that_means_nothing_is_asked_again(
    admin_client: Client, data: dict[str, str], field: str, error: str
) -> None:
    row = weekly()
    response = do(admin_client, "pause", row, **data)
    assert error in errors(response)[field][0]
    assert error in response.content.decode()
    assert not row.is_paused
    assert not LogEntry.objects.exists()


# -- resume --------------------------------------------------------------------------------------


def fired() -> int:
    using = str(conf.database)
    return len(materialise(using, database_now(using)))


def paused() -> CronDefinition:
    row = weekly(next_slot_at=LONG_AGO)
    row.pause()
    return row


def test_resuming_fires_nothing_by_itself(admin_client: Client) -> None:
    row = paused()
    do(admin_client, "resume", row)
    assert not row.is_paused
    assert fired() == 0
    assert log() == "Resumed."


def test_resuming_may_catch_up(admin_client: Client) -> None:
    row = paused()
    do(admin_client, "resume", row, catch_up="on")
    assert row.next_slot_at == LONG_AGO
    assert fired() == 1
    assert log() == "Resumed: the slots of the pause count as missed."


def test_a_function_with_a_schedule_may_catch_up_too(admin_client: Client) -> None:
    row = weekly(next_slot_at=LONG_AGO)
    function = BackgroundFunction.objects.get(pk="testapp.weekly")
    pauses.pause(function)
    do(admin_client, "resume", function, catch_up="on")
    row.refresh_from_db()
    assert row.next_slot_at == LONG_AGO


@pytest.mark.parametrize("key", ["testapp.weekly", "testapp.add"])
def test_only_those_with_a_schedule_are_asked_whether_to_catch_up(
    admin_client: Client, key: str
) -> None:
    sync()
    function = BackgroundFunction.objects.get(pk=key)
    pauses.pause(function)
    url = reverse("admin:django_defer_backgroundfunction_change", args=[key])
    text = admin_client.get(url).content.decode()
    assert ('name="catch_up"' in text) == (key == "testapp.weekly")


def test_several_are_asked_at_once(admin_client: Client) -> None:
    row = paused()
    url = reverse("admin:django_defer_crondefinition_changelist")
    data = {"action": "resume_selected", "_selected_action": [row.pk]}
    text = admin_client.post(url, data).content.decode()
    assert "Treat the slots of the pause as missed ones" in text
    admin_client.post(url, {**data, "answered": "1", "catch_up": "on"})
    row.refresh_from_db()
    assert row.next_slot_at == LONG_AGO


# -- override ------------------------------------------------------------------------------------


def test_an_override_is_put_in_force_and_logged(client: Client) -> None:
    log_in_with(client, "view_crondefinition", "override_definition")
    row = weekly()
    do(client, "override", row, expression=" 0 9  * * * ", timezone="Asia/Tokyo")
    assert (row.expression, row.timezone) == ("0 9  * * *", "Asia/Tokyo")
    assert row.overridden_by == "viewer"
    assert log() == "Overridden: 0 9  * * * Asia/Tokyo."


@pytest.mark.parametrize("expression", ["", "0 8 * * MON", "0 8  * * MON"])
def test_what_the_code_says_stays_the_codes(admin_client: Client, expression: str) -> None:
    row = weekly()
    do(admin_client, "override", row, expression=expression, timezone="Asia/Tokyo")
    assert (row.expression_override, row.timezone_override) == ("", "Asia/Tokyo")


def test_the_form_has_what_is_in_force(admin_client: Client) -> None:
    row = weekly(expression_override="0 9 * * *", code_timezone="Europe/Paris")
    url = reverse("admin:django_defer_crondefinition_change", args=[row.pk])
    text = admin_client.get(url).content.decode()
    assert 'value="0 9 * * *"' in text
    assert 'value="Europe/Paris"' in text
    assert "The code says 0 8 * * MON Europe/Paris." in text


@pytest.mark.parametrize(
    ("data", "field", "error"),
    [
        ({"expression": "61 * * * *", "timezone": "UTC"}, "expression", "61"),
        ({"expression": "0 0 30 2 *", "timezone": "UTC"}, "expression", "never"),
        ({"expression": "* * * * * *", "timezone": "UTC"}, "expression", "defer.every"),
        ({"expression": "", "timezone": "Europe/Viena"}, "timezone", "'Europe/Vienna'"),
        ({"expression": "0 8 * * MON", "timezone": "UTC"}, "expression", "nothing to override"),
        ({"expression": "", "timezone": ""}, "expression", "nothing to override"),
        ({"expression": "x" * 201, "timezone": ""}, "expression", "at most 200"),
        ({"expression": HOSTILE, "timezone": HOSTILE}, "timezone", "is not a time zone"),
    ],
)
@pytest.mark.parametrize("button", [{}, {"preview": "1"}], ids=["save", "preview"])
def test_what_cannot_be_used_is_said_at_its_field(
    admin_client: Client, data: dict[str, str], field: str, error: str, button: dict[str, str]
) -> None:
    row = weekly()
    response = do(admin_client, "override", row, **data, **button)
    assert list(errors(response)) == [field]
    assert error in errors(response)[field][0]
    assert "<script>alert" not in response.content.decode()
    assert not row.is_overridden
    assert not LogEntry.objects.exists()


def test_a_preview_shows_the_next_slots_and_changes_nothing(admin_client: Client) -> None:
    row = weekly()
    response = do(
        admin_client, "override", row, expression="0 9 * * *", timezone="Asia/Tokyo", preview="1"
    )
    text = response.content.decode()
    assert text.count("09:00</span>") == text.count("00:00</span>") == 5
    assert "It means: at 09:00" in text
    assert 'value="0 9 * * *"' in text
    assert not row.is_overridden
    assert not LogEntry.objects.exists()


def test_an_interval_is_overridden_by_an_interval_without_a_zone(admin_client: Client) -> None:
    row = every()
    url = reverse("admin:django_defer_crondefinition_change", args=[row.pk])
    text = admin_client.get(url).content.decode()
    assert "Interval, such as 30s, 5m or 1h30m" in text
    assert 'name="timezone"' not in text
    response = do(admin_client, "override", row, expression="soon")
    assert "soon" in errors(response)["expression"][0]
    response = do(admin_client, "override", row, expression="60s")
    assert "nothing to override" in errors(response)["expression"][0]
    do(admin_client, "override", row, expression="30s", timezone="Asia/Tokyo")
    assert (row.expression, row.timezone_override) == ("every 30s", "")
    assert log() == "Overridden: every 30s."


def test_an_override_mends_a_definition_that_cannot_be_read(admin_client: Client) -> None:
    row = weekly(code_timezone="Europe/Atlantis", error="no such zone", next_slot_at=ago(hours=1))
    do(admin_client, "override", row, timezone="Europe/Athens")
    assert row.timezone == "Europe/Athens"
    assert row.error == ""
    assert row.next_slot_at == row.schedule.next_after(datetime.now(UTC))


def test_an_override_is_cleared(client: Client) -> None:
    log_in_with(client, "view_crondefinition", "override_definition")
    row = weekly()
    page = reverse("admin:django_defer_crondefinition_change", args=[row.pk])
    assert "Clear override" not in client.get(page).content.decode()
    row.override(expression="0 9 * * *")
    assert "Clear override" in client.get(page).content.decode()
    do(client, "clear-override", row)
    assert not row.is_overridden
    assert log() == "Override cleared."
    response = do(client, "clear-override", row)
    assert "is not overridden." in response.content.decode()
