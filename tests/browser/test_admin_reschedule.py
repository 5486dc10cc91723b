"""The form of a run's page that reschedules it, in Chromium; dark and narrow too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from django_defer.models import Run
from django_defer.states import State
from tests.admin_rows import HOSTILE, ago, make_run

if TYPE_CHECKING:
    from playwright.sync_api import Page

WHEN = datetime(2035, 1, 4, 10, 30, tzinfo=UTC)


@pytest.fixture
def run() -> Run:
    """One that waits, and is discarded some day."""
    return make_run(
        state=State.SCHEDULED,
        run_after=ago(hours=-3),
        discard_after=datetime(2036, 1, 1, tzinfo=UTC),
        label=HOSTILE + "x" * 100,
    )


def open_form(page: Page, run: Run) -> None:
    page.goto(f"/admin/django_defer/run/{run.pk}/change/")
    page.locator("summary", has_text="Reschedule").click()


def press(page: Page) -> None:
    page.get_by_role("button", name="Reschedule", exact=True).click()


def refreshed(run: Run) -> Run:
    run.refresh_from_db()
    return run


def test_a_run_is_rescheduled_after_errors(admin_page: Page, run: Run) -> None:
    open_form(admin_page, run)
    assert admin_page.get_by_label("Due").input_value() == ""
    admin_page.get_by_label("Or at").fill("2020-01-01T10:00")
    press(admin_page)
    assert admin_page.locator(".errorlist").inner_text() == "This time has passed."
    assert admin_page.get_by_label("Or at").input_value() == "2020-01-01T10:00"
    assert admin_page.get_by_label("Or at").get_attribute("aria-invalid") == "true"
    admin_page.get_by_label("Or at").fill("2036-01-01T00:00")
    press(admin_page)
    assert "discarded at 2036-01-01 00:00:00 UTC" in admin_page.locator(".errorlist").inner_text()
    admin_page.get_by_label("Or at").fill("2035-01-04T10:30")
    admin_page.get_by_label("Due").select_option("hour")
    press(admin_page)
    assert "Choose one" in admin_page.locator(".errorlist").inner_text()
    admin_page.get_by_label("Due").select_option("now")
    press(admin_page)
    said = admin_page.locator(".defer-said").inner_text()
    assert "Waits until 2035-01-04 10:30:00 UTC" in said
    assert "Discarded if it has not started by 2036-01-01 00:00:00 UTC." in said
    assert refreshed(run).run_after == WHEN


def test_a_run_is_made_due_now(admin_page: Page, run: Run) -> None:
    open_form(admin_page, run)
    press(admin_page)
    assert admin_page.locator(".defer-state").inner_text() == "queued"
    assert "Rescheduled: " in admin_page.locator(".messagelist .success").inner_text()
    admin_page.get_by_role("link", name="History").click()
    assert "Rescheduled: to now." in admin_page.locator("#change-history").inner_text()


def test_several_runs_are_rescheduled_from_the_list(admin_page: Page, run: Run) -> None:
    running = make_run(state=State.RUNNING, started_at=ago(seconds=5))
    admin_page.goto("/admin/django_defer/run/")
    admin_page.locator("#action-toggle").check()
    admin_page.locator("select[name=action]").select_option("reschedule_selected")
    admin_page.locator("button[name=index]").click()
    admin_page.get_by_label("Due").select_option("hour")
    press(admin_page)
    admin_page.locator(".messagelist .success").wait_for()
    refused = admin_page.locator(".messagelist .error").inner_text()
    assert f"Run {running.pk} is running: only a run that waits can be rescheduled." in refused
    due = refreshed(run).run_after
    assert abs(due - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=1)


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_the_form_fits_into_the_window(admin_page: Page, run: Run, width: int) -> None:
    admin_page.set_viewport_size({"width": width, "height": 844})
    open_form(admin_page, run)
    assert admin_page.evaluate("document.scrollingElement.scrollWidth") <= width
    form = admin_page.locator("details[open] form").bounding_box()
    assert form is not None
    assert form["x"] >= 0
    assert form["x"] + form["width"] <= width
    for sentence in admin_page.locator(".defer-said p").all():
        said = sentence.bounding_box()
        assert said is not None
        assert said["x"] + said["width"] <= form["x"] or said["y"] + said["height"] <= form["y"]
    admin_page.get_by_label("Or at").fill("2036-01-01T00:00")
    press(admin_page)
    admin_page.locator(".errorlist").wait_for()
    assert admin_page.evaluate("document.scrollingElement.scrollWidth") <= width


def test_the_form_follows_the_dark_mode(admin_page: Page, run: Run) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        admin_page.emulate_media(color_scheme=scheme)
        open_form(admin_page, run)
        fields = admin_page.locator("details[open] select, details[open] input[name=when]")
        assert fields.count() == 2
        colours[scheme] = [
            field.evaluate("e => getComputedStyle(e).backgroundColor") for field in fields.all()
        ]
    assert all(light != dark for light, dark in zip(*colours.values(), strict=True))
