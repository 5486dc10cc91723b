"""The pages of the admin in Chromium: the buttons work, in the dark too."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from django_defer.models import BackgroundFunction, CronDefinition, Run
from django_defer.states import Outcome, State
from django_defer.sync import sync
from tests.admin_rows import (
    HOSTILE,
    make_attempt,
    make_cluster,
    make_finished,
    make_retrying,
    make_run,
    make_slot,
)
from tests.strict_policy import POLICY

if TYPE_CHECKING:
    from playwright.sync_api import Page

ADMIN = "/admin/django_defer/"
STRICT = POLICY


@dataclass(frozen=True)
class Site:
    """The rows that the pages show."""

    waiting: Run
    failed: Run
    retrying: Run
    slot: Run
    definition: CronDefinition
    addresses: dict[str, str]


@pytest.fixture
def site() -> Site:
    """Rows of all kinds: a weekly fan-out, failures, hostile text, two clusters."""
    sync()
    CronDefinition.objects.update(code_timezone="Europe/Paris")
    definition = CronDefinition.objects.get(function="testapp.weekly")
    slot = make_slot(
        definition, datetime(2026, 11, 23, 8, tzinfo=UTC), succeeded=9, retrying=2, failed=1
    )
    failed = make_finished(
        State.FAILED,
        function_id="testapp.recommend",
        label=HOSTILE + "x" * 150,
        attempt=2,
        failures=2,
        error_class="requests.exceptions.ConnectTimeout",
        error_message="mail.example.com/" + "y" * 300,
        parent=slot,
        root=slot,
    )
    make_attempt(failed, 1)
    make_attempt(failed, 2, outcome=Outcome.FAILED, traceback="  File " + "z" * 300)
    waiting = make_run(function_id="shop.gone", state=State.PARKED, reason="no_code")
    retrying, cluster = make_retrying(), make_cluster()
    addresses = {
        "runs": "run/",
        "failed run": f"run/{failed.pk}/change/",
        "slot": f"run/{slot.pk}/change/",
        "retrying run": f"run/{retrying.pk}/change/",
        "definitions": "crondefinition/",
        "definition": f"crondefinition/{definition.pk}/change/",
        "functions": "backgroundfunction/",
        "function": "backgroundfunction/testapp.weekly/change/",
        "clusters": "cluster/",
        "cluster": f"cluster/{cluster.pk}/change/",
        "queues": "queue/",
    }
    return Site(waiting, failed, retrying, slot, definition, addresses)


def scroll_width(page: Page) -> int:
    return int(page.evaluate("document.scrollingElement.scrollWidth"))


def test_badges_follow_the_dark_mode(admin_page: Page, site: Site) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        admin_page.emulate_media(color_scheme=scheme)
        admin_page.goto(ADMIN + site.addresses["failed run"])
        badge = admin_page.locator(".defer-state .defer-badge")
        colours[scheme] = badge.evaluate("e => getComputedStyle(e).backgroundColor")
    assert colours["light"] != colours["dark"]


def test_a_scheduled_function_is_run_now(admin_page: Page, site: Site) -> None:
    admin_page.goto(ADMIN + site.addresses["definition"])
    admin_page.get_by_role("button", name="Run now").click()
    admin_page.locator(".messagelist .success a").click()
    assert admin_page.locator("#content h1").inner_text() == "testapp.weekly"
    run = Run.objects.latest("id")
    assert run.enqueued_by == "admin"
    assert str(run.pk) in admin_page.url


def test_a_definition_is_paused_with_a_reason_and_resumed(admin_page: Page, site: Site) -> None:
    admin_page.goto(ADMIN + site.addresses["definition"])
    admin_page.locator("summary", has_text="Pause").click()
    admin_page.get_by_label("Reason (optional)").fill("Holidays")
    admin_page.get_by_role("button", name="Pause", exact=True).click()
    assert "Paused by admin since" in admin_page.locator(".defer-said").inner_text()
    assert "Holidays" in admin_page.locator(".defer-said").inner_text()
    admin_page.locator("summary", has_text="Resume").click()
    admin_page.get_by_role("button", name="Resume", exact=True).click()
    assert admin_page.locator(".defer-state").inner_text() == "active"


def test_a_waiting_run_is_cancelled_and_rerun(admin_page: Page, site: Site) -> None:
    admin_page.goto(f"{ADMIN}run/{site.waiting.pk}/change/")
    admin_page.get_by_role("button", name="Cancel").click()
    assert admin_page.locator(".defer-state").inner_text() == "cancelled"
    assert "Cancelled by admin." in admin_page.locator(".defer-said").inner_text()
    admin_page.get_by_role("button", name="Rerun").click()
    assert "Enqueued again: shop.gone" in admin_page.locator(".messagelist").inner_text()
    admin_page.get_by_role("link", name="History").click()
    assert "Cancelled." in admin_page.locator("#change-history").inner_text()


def test_a_sentence_leads_to_the_children_it_counts(admin_page: Page, site: Site) -> None:
    admin_page.goto(ADMIN + site.addresses["slot"])
    admin_page.get_by_role("link", name="2 retrying").click()
    admin_page.wait_for_url("**/run/?parent=*")
    assert admin_page.locator("#result_list tbody tr").count() == 2


def test_a_traceback_opens_in_the_table_of_attempts(admin_page: Page, site: Site) -> None:
    admin_page.goto(ADMIN + site.addresses["retrying run"])
    trace = admin_page.locator("details .defer-block").first
    assert not trace.is_visible()
    admin_page.locator("summary", has_text="ConnectTimeout").first.click()
    assert trace.is_visible()


def test_several_functions_are_paused_from_the_list(admin_page: Page, site: Site) -> None:
    admin_page.goto(f"{ADMIN}backgroundfunction/?q=testapp.add")
    admin_page.locator("#action-toggle").check()
    admin_page.locator("select[name=action]").select_option("pause_selected")
    admin_page.locator("button[name=index]").click()
    admin_page.get_by_label("Reason (optional)").fill("Holidays")
    admin_page.get_by_role("button", name="Pause").click()
    admin_page.locator(".messagelist .success").wait_for()
    assert set(BackgroundFunction.objects.paused().values_list("key", flat=True)) == {
        "testapp.add",
        "testapp.add_async",
    }
