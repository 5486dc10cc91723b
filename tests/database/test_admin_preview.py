"""What preview.js gets while an override is typed: the form's errors and slots, nothing around."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin import AdminSite, site
from django.contrib.admin.models import LogEntry
from django.test import Client, override_settings
from django.urls import path, reverse

from django_defer.admin import CronDefinitionAdmin
from django_defer.models import CronDefinition
from django_defer.sync import sync
from tests.admin_rows import HOSTILE, log_in_with

if TYPE_CHECKING:
    from django.contrib.auth.models import User

pytestmark = pytest.mark.django_db

schedules_only = AdminSite(name="schedules_only")
schedules_only.register(CronDefinition, CronDefinitionAdmin)

urlpatterns = [path("office/", site.urls), path("support/", schedules_only.urls)]


@pytest.fixture
def weekly() -> CronDefinition:
    """The schedule "0 8 * * MON" in UTC."""
    sync()
    return CronDefinition.objects.get(function="testapp.weekly")


def address(row: CronDefinition) -> str:
    return reverse("admin:django_defer_crondefinition_override", args=[row.pk])


def ask(client: Client, row: CronDefinition, **data: str) -> Any:
    """Post the form as the script does; whatever is answered, nothing changes."""
    before = CronDefinition.objects.values().get(pk=row.pk)
    response = client.post(address(row), {**data, "preview": "live"})
    assert CronDefinition.objects.values().get(pk=row.pk) == before
    assert not LogEntry.objects.exists()
    return response


def text_of(response: Any) -> str:
    assert response.status_code == 200
    text: str = response.content.decode().replace("\xa0", " ")
    assert "<html" not in text
    return text


def test_it_has_words_and_slots_in_the_own_zone_and_in_utc(
    client: Client, weekly: CronDefinition
) -> None:
    log_in_with(client, "view_crondefinition", "override_definition")
    text = text_of(ask(client, weekly, expression="0 9 * * *", timezone="Asia/Tokyo"))
    assert text.count("09:00</span>") == text.count("00:00</span>") == 5
    assert "It means: at 09:00 every day (Asia/Tokyo)." in text
    assert "errorlist" not in text


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"expression": "0 25 * * *"}, "does not fit the hour field; write 0-23"),
        ({"expression": "0 9"}, "has 2 fields; write five"),
        ({"expression": "0 8 * * MON", "timezone": "UTC"}, "nothing to override"),
        ({"timezone": "Europe/Viena"}, "did you mean &#x27;Europe/Vienna&#x27;?"),
    ],
)
def test_it_says_at_the_field_what_is_wrong(
    admin_client: Client, weekly: CronDefinition, data: dict[str, str], error: str
) -> None:
    text = text_of(ask(admin_client, weekly, **data))
    assert error in text
    assert text.count('class="errorlist"') == text.count('aria-invalid="true"') == 1
    assert "<table" not in text


def test_an_interval_has_slots_without_a_zone(admin_client: Client, weekly: CronDefinition) -> None:
    CronDefinition.objects.filter(pk=weekly.pk).update(
        kind=CronDefinition.Kind.EVERY,
        code_expression="1m",
        interval=timedelta(minutes=1),
        anchor=datetime(2020, 1, 6, 8, tzinfo=UTC),
    )
    text = text_of(ask(admin_client, weekly, expression="30s"))
    assert "It means: every 30s." in text
    assert text.count("<th ") == 2
    assert "soon" in text_of(ask(admin_client, weekly, expression="soon"))


def test_a_slot_that_the_clock_skips_is_at_the_end_of_the_gap(
    admin_client: Client, weekly: CronDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = datetime(2027, 3, 27, 12, tzinfo=UTC)
    monkeypatch.setattr("django_defer.admin.questions.now", lambda: before)
    data = {"expression": "30 2 28 * *", "timezone": "Europe/Paris"}
    text = text_of(ask(admin_client, weekly, **data))
    assert "Sun 2027-03-28 03:00</span>" in text
    assert "Sun 2027-03-28 01:00</span>" in text
    assert "2027-03-28 02:30" not in text


@pytest.mark.parametrize("codenames", [["view_crondefinition"], ["pause", "run_now"], []])
def test_who_may_not_override_is_refused(
    client: Client, weekly: CronDefinition, codenames: list[str]
) -> None:
    log_in_with(client, *codenames)
    assert ask(client, weekly, expression="0 9 * * *").status_code == 403


def test_who_is_not_logged_in_is_sent_away(client: Client, weekly: CronDefinition) -> None:
    response = ask(client, weekly, expression="0 9 * * *")
    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/?next=")


def test_it_is_a_post_that_is_protected_against_forgery(
    admin_user: User, weekly: CronDefinition
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    assert ask(client, weekly, expression="0 9 * * *").status_code == 403
    assert client.get(address(weekly), {"preview": "live"}).status_code == 405


@pytest.mark.parametrize(
    "data",
    [
        {"expression": HOSTILE},
        {"timezone": HOSTILE},
        {"expression": f"0 9 * * {HOSTILE}", "timezone": "Asia/Tokyo"},
    ],
)
def test_hostile_text_is_escaped(
    admin_client: Client, weekly: CronDefinition, data: dict[str, str]
) -> None:
    text = text_of(ask(admin_client, weekly, **data))
    assert "&lt;script&gt;" in text
    assert "<script" not in text


@pytest.mark.parametrize(
    "data",
    [
        {"expression": "0 9 * * *", "timezone": "Asia/Tokyo"},
        {"expression": "0 0 29 2 */7", "timezone": "Australia/Lord_Howe"},
        {"expression": "*/9 18 29 2 MON#5", "timezone": "Europe/Paris"},
        {"expression": "H(0-59)/59 H/1 H/1 H/1 H/1", "timezone": "Africa/Casablanca"},
        {"expression": "*/1" + ",*/1" * 47 + " * * * *"},
        {"expression": "0-9999999999999 * * * *"},
        {"expression": "*/99999999999999999 * * * *"},
        {"expression": "0 0 1" + "-1" * 80 + " * *"},
        {"expression": "9" * 200},
        {"expression": "@" * 200},
        {"expression": "* " * 500_000},
        {"timezone": "x" * 64},
        {"timezone": "Europe/" * 9},
        {"timezone": "../" * 300_000},
    ],
    ids=lambda data: "-".join(f"{value[:12]}{len(value)}" for value in data.values()),
)
def test_no_answer_is_hard_work(
    admin_client: Client, weekly: CronDefinition, data: dict[str, str]
) -> None:
    """The worst of them took 22 ms; the second is for a machine that is busy."""
    began = time.process_time()
    ask(admin_client, weekly, **data)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("interval", ["9" * 200, "9" * 199 + "d", "1h" * 100, "9999999d"])
def test_no_interval_is_hard_work(
    admin_client: Client, weekly: CronDefinition, interval: str
) -> None:
    CronDefinition.objects.filter(pk=weekly.pk).update(
        kind=CronDefinition.Kind.EVERY,
        code_expression="1m",
        interval=timedelta(minutes=1),
        anchor=datetime(2020, 1, 6, 8, tzinfo=UTC),
    )
    began = time.process_time()
    text_of(ask(admin_client, weekly, expression=interval))
    assert time.process_time() - began < 1


@override_settings(ROOT_URLCONF=__name__)
@pytest.mark.parametrize("mounted", ["office", "support"])
def test_each_site_answers_at_its_own_address(
    admin_client: Client, weekly: CronDefinition, mounted: str
) -> None:
    base = f"/{mounted}/django_defer/crondefinition/{weekly.pk}"
    page = admin_client.get(f"{base}/change/").content.decode()
    assert f'action="{base}/override/"' in page
    assert '<script src="/static/django_defer/preview.js" defer></script>' in page
    data = {"expression": "0 9 * * *", "preview": "live"}
    text = text_of(admin_client.post(f"{base}/override/", data))
    assert "It means: at 09:00 every day." in text


@pytest.mark.django_db(databases=["default", "other"])
def test_the_definition_is_read_from_its_database(admin_client: Client, settings: Any) -> None:
    settings.DEFER = {"DATABASE": "other"}
    sync()
    row = CronDefinition.objects.get(function="testapp.weekly")
    assert row._state.db == "other"
    assert "at 09:00 every day" in text_of(ask(admin_client, row, expression="0 9 * * *"))
