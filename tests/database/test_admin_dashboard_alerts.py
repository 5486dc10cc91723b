"""The dashboard's card of alerts: what is open, and whether anybody is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.test import override_settings

from django_defer.admin import dashboard_alerts
from django_defer.models import AlertChannel
from tests.admin_rows import HOSTILE, ago, log_in_with, make_alert
from tests.database.test_admin_dashboard import page_of, part, sections

if TYPE_CHECKING:
    from django.test import Client

pytestmark = pytest.mark.django_db
told = override_settings(DEFER={"ALERTS": [{"channel": "log"}]})


def failing(**columns: Any) -> None:
    AlertChannel.objects.create(
        **{
            "name": "log",
            "failures": 3,
            "last_error_at": ago(minutes=4),
            "last_error": "the disk is full",
            **columns,
        }
    )


@told
def test_without_open_alerts_it_says_just_that(admin_client: Client) -> None:
    make_alert(closed_at=ago(minutes=1))
    assert part(page_of(admin_client), "alerts") == "Alerts No alert is open. All alerts"


def test_without_channels_it_says_that_nobody_is_told(admin_client: Client) -> None:
    assert "Nobody is told: the setting ALERTS has no channel." in part(
        page_of(admin_client), "alerts"
    )


@told
def test_the_newest_open_alerts_are_listed_with_links(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard_alerts, "MOST_LISTED", 2)
    make_alert(subject="shop.oldest", last_at=ago(minutes=9), acknowledged_at=ago(minutes=1))
    make_alert(subject="shop.older", last_at=ago(minutes=8))
    newest = make_alert(
        subject="shop.newest",
        last_at=ago(minutes=7),
        acknowledged_at=ago(minutes=1),
        acknowledged_by="ada",
    )
    page = page_of(admin_client)
    text = part(page, "alerts")
    assert "run failed shop.newest acknowledged ada 5,000 7 min ago" in text
    assert "run failed shop.older open 5,000 8 min ago" in text
    assert "shop.oldest" not in text
    assert "3 alerts are open; nobody has acknowledged 1 of them." in text
    assert f'href="/admin/django_defer/alert/{newest.pk}/change/"' in page


@told
def test_it_counts_up_to_a_limit(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_alerts, "MOST_COUNTED", 6)
    for n in range(8):
        make_alert(subject=f"shop.f{n}")
    assert "6+ alerts are open" in part(page_of(admin_client), "alerts")


@told
def test_a_channel_that_fails_now_is_named_with_its_error(admin_client: Client) -> None:
    failing()
    failing(name="former")
    page = page_of(admin_client)
    text = part(page, "alerts")
    assert "Channel log failing 4 min ago : the disk is full" in text
    assert "former" not in text
    assert 'href="/admin/django_defer/alertchannel/log/change/"' in page
    AlertChannel.objects.update(failures=0)
    assert "the disk is full" not in page_of(admin_client)


@told
def test_it_is_for_those_who_may_see_it(client: Client) -> None:
    failing()
    make_alert()
    user = log_in_with(client, "view_queue")
    assert "alerts" not in sections(page_of(client))
    user.delete()
    user = log_in_with(client, "view_alert")
    text = part(page_of(client), "alerts")
    assert "testapp.recommend" in text
    assert "the disk is full" not in text
    user.delete()
    log_in_with(client, "view_run")
    page = page_of(client)
    assert "testapp.recommend" in part(page, "alerts")
    assert "the disk is full" in part(page, "alerts")
    assert "/alert/" not in page


@told
def test_hostile_text_stays_text(admin_client: Client) -> None:
    make_alert(subject=HOSTILE, event=HOSTILE, acknowledged_at=ago(), acknowledged_by=HOSTILE)
    failing(last_error=HOSTILE)
    page = page_of(admin_client)
    assert HOSTILE not in page
    assert part(page, "alerts").count(HOSTILE) == 4
