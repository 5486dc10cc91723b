"""The forms of a definition's page in Chromium: pause, resume, override; dark and narrow too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from django_defer.models import CronDefinition, Run
from django_defer.sync import sync

if TYPE_CHECKING:
    from playwright.sync_api import Page

LONG_AGO = datetime(2020, 1, 6, 8, tzinfo=UTC)
VERBS = ["Pause", "Override"]


@pytest.fixture
def definition() -> CronDefinition:
    """A weekly one, that was overridden and paused before."""
    sync()
    span = {"from": LONG_AGO.isoformat(), "to": LONG_AGO.isoformat(), "by": "ada" * 40}
    CronDefinition.objects.filter(function="testapp.weekly").update(
        timezone_override="Europe/Paris",
        overridden_by="ada",
        overridden_at=LONG_AGO,
        pauses=[{**span, "reason": "x" * 300, "ended_by": "bob"}],
    )
    return CronDefinition.objects.get(function="testapp.weekly")


def refreshed(definition: CronDefinition) -> CronDefinition:
    definition.refresh_from_db()
    return definition


def open_form(page: Page, definition: CronDefinition, verb: str) -> None:
    page.goto(f"/admin/django_defer/crondefinition/{definition.pk}/change/")
    page.locator("summary", has_text=verb).click()


def test_a_definition_is_overridden_after_an_error_and_a_preview(
    admin_page: Page, definition: CronDefinition
) -> None:
    open_form(admin_page, definition, "Override")
    assert admin_page.get_by_label("Expression").input_value() == "0 8 * * MON"
    admin_page.get_by_label("Expression").fill("0 9 * * MON-FRI")
    admin_page.get_by_label("Time zone").fill("Europe/Viena")
    admin_page.get_by_role("button", name="Save").click()
    assert "'Europe/Vienna'" in admin_page.locator(".errorlist").inner_text()
    assert admin_page.get_by_label("Time zone").get_attribute("aria-invalid") == "true"
    admin_page.get_by_label("Time zone").fill("Asia/Tokyo")
    admin_page.get_by_label("Time zone").press("Enter")
    admin_page.locator(".defer-table").wait_for()
    assert admin_page.locator(".defer-table tbody tr").count() == 5
    assert refreshed(definition).timezone == "Europe/Paris"
    admin_page.get_by_role("button", name="Save").click()
    assert "Overridden by admin at" in admin_page.locator(".defer-said").inner_text()
    assert refreshed(definition).timezone == "Asia/Tokyo"
    admin_page.get_by_role("button", name="Clear override").click()
    assert "Overridden by" not in admin_page.locator(".defer-said").inner_text()
    assert refreshed(definition).timezone == "UTC"


def test_a_definition_is_paused_until_a_time(admin_page: Page, definition: CronDefinition) -> None:
    open_form(admin_page, definition, "Pause")
    admin_page.get_by_label("Or until").fill("2020-01-01T10:00")
    admin_page.get_by_label("Reason (optional)").fill("Holidays")
    admin_page.get_by_role("button", name="Pause", exact=True).click()
    assert admin_page.locator(".errorlist").inner_text() == "This time has passed."
    assert admin_page.get_by_label("Or until").input_value() == "2020-01-01T10:00"
    admin_page.get_by_label("Or until").fill("2035-01-01T10:00")
    admin_page.get_by_role("button", name="Pause", exact=True).click()
    said = admin_page.locator(".defer-said").inner_text()
    assert "until 2035-01-01 10:00:00 UTC: Holidays" in said


def test_a_definition_is_resumed_and_catches_up(
    admin_page: Page, definition: CronDefinition
) -> None:
    CronDefinition.objects.filter(pk=definition.pk).update(
        paused_at=LONG_AGO, unfired_slot_at=LONG_AGO, next_slot_at=None
    )
    open_form(admin_page, definition, "Resume")
    admin_page.get_by_label("Treat the slots of the pause as missed ones").check()
    admin_page.get_by_role("button", name="Resume", exact=True).click()
    assert admin_page.locator(".defer-state").inner_text() == "active"
    next_slot_at = refreshed(definition).next_slot_at
    assert next_slot_at is not None
    assert LONG_AGO - timedelta(days=7) < next_slot_at <= LONG_AGO
    assert not Run.objects.exists()


def test_one_form_is_open_at_a_time(admin_page: Page, definition: CronDefinition) -> None:
    open_form(admin_page, definition, "Pause")
    admin_page.locator("summary", has_text="Override").click()
    assert admin_page.locator("details.defer-ask[open]").count() == 1


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("width", [390, 800, 1280])
def test_a_definition_form_fits_into_the_window(
    admin_page: Page, definition: CronDefinition, verb: str, width: int
) -> None:
    admin_page.set_viewport_size({"width": width, "height": 844})
    open_form(admin_page, definition, verb)
    assert admin_page.evaluate("document.scrollingElement.scrollWidth") <= width
    form = admin_page.locator("details[open] form").bounding_box()
    assert form is not None
    assert form["x"] >= 0
    assert form["x"] + form["width"] <= width
    button = admin_page.locator("details[open] form input[type=submit]").last
    button.click()
    assert admin_page.evaluate("document.scrollingElement.scrollWidth") <= width


@pytest.mark.parametrize("verb", VERBS)
def test_a_definition_form_follows_the_dark_mode(
    admin_page: Page, definition: CronDefinition, verb: str
) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        admin_page.emulate_media(color_scheme=scheme)
        open_form(admin_page, definition, verb)
        field = admin_page.locator("details[open] input:not([type=hidden])").first
        colours[scheme] = field.evaluate("e => getComputedStyle(e).backgroundColor")
    assert colours["light"] != colours["dark"]
