"""The list of functions and the page of one in Chromium: they fit, and the points can be told."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from django_defer.models import BackgroundFunction, CronDefinition
from django_defer.states import State
from tests.admin_rows import ago, make_finished, make_run
from tests.browser.test_admin import scroll_width
from tests.runs import new_definition

if TYPE_CHECKING:
    from playwright.sync_api import Page

LIST = "/admin/django_defer/backgroundfunction/"
KEY = "marketplace_recommendations.compute_weekly_product_recommendations_for_user"
PAGE = f"{LIST}{KEY.replace('_', '_5F')}/change/"


@pytest.fixture(autouse=True)
def rows() -> None:
    """A function of which everything that is shown is long."""
    new_definition(KEY, "*/15 8-18 * * MON-FRI", paused_at=ago(hours=1))
    CronDefinition.objects.update(code_timezone="America/Argentina/Buenos_Aires")
    BackgroundFunction.objects.update(options={"max_duration": "30s"}, paused_at=ago(hours=1))
    for n in range(60):
        end = ago(minutes=60 - n)
        make_finished(
            State.FAILED if n % 9 == 5 else State.ABORTED if n == 30 else State.SUCCEEDED,
            function_id=KEY,
            started_at=end - timedelta(seconds=10 + n / 4),
            finished_at=end,
            error_class="requests.exceptions.ChunkedEncodingError" if n % 9 == 5 else "",
        )
    for _ in range(12):
        make_run(function_id=KEY)


def test_every_column_is_in_sight_beside_both_sidebars(admin_page: Page) -> None:
    admin_page.goto(LIST)
    assert admin_page.locator("#nav-sidebar").is_visible()
    assert admin_page.locator("#changelist-filter").is_visible()
    assert admin_page.locator("#result_list .field-schedule").is_visible()
    results = admin_page.locator("#changelist-form .results")
    assert results.evaluate("e => e.scrollWidth <= e.clientWidth")


def test_on_a_telephone_the_list_is_read_without_scrolling_sideways(admin_page: Page) -> None:
    admin_page.set_viewport_size({"width": 390, "height": 844})
    admin_page.goto(LIST)
    assert scroll_width(admin_page) <= 390
    results = admin_page.locator("#changelist-form .results")
    assert results.evaluate("e => e.scrollWidth <= e.clientWidth")
    for name in ("shown_key", "last_runs", "success_and_duration", "last_failure", "schedule"):
        box = admin_page.locator(f"#result_list .field-{name}").bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390, name


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_points_are_inside_the_page_and_told_apart_by_shape(
    admin_page: Page, width: int, scheme: Any
) -> None:
    admin_page.emulate_media(color_scheme=scheme)
    admin_page.set_viewport_size({"width": width, "height": 844})
    admin_page.goto(PAGE)
    assert scroll_width(admin_page) <= width
    points = admin_page.locator(".defer-points .defer-point")
    assert points.count() == 60
    assert admin_page.locator("circle.defer-point--succeeded").count() > 0
    assert admin_page.locator(".defer-points path.defer-point--failed").count() == 7
    assert admin_page.locator(".defer-points path.defer-point--aborted").count() == 1
    assert admin_page.locator(".defer-points .defer-limit-name").is_visible()
    for point in (points.first, points.last):
        box = point.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    colours = [
        admin_page.locator(f".defer-points .defer-point--{state}").first.evaluate(
            "(e, name) => getComputedStyle(e)[name]", name
        )
        for state, name in (("succeeded", "fill"), ("failed", "stroke"), ("aborted", "fill"))
    ]
    assert colours[0] != colours[1] == colours[2]
    assert "rgb(0, 0, 0)" not in colours


def test_a_point_leads_to_its_run(admin_page: Page) -> None:
    admin_page.goto(PAGE)
    link = admin_page.locator(".defer-points a").first
    href = link.get_attribute("href")
    link.locator(".defer-hit").click()
    admin_page.wait_for_url(f"**{href}")
    assert admin_page.locator("#content h1").inner_text() == KEY


def test_by_the_keyboard_the_table_is_opened_and_no_point_is_in_the_way(admin_page: Page) -> None:
    admin_page.goto(PAGE)
    admin_page.locator(".defer-words a").focus()
    admin_page.keyboard.press("Tab")
    summary = admin_page.locator(".defer-durations + details summary")
    assert summary.evaluate("e => e === document.activeElement")
    admin_page.keyboard.press("Enter")
    admin_page.keyboard.press("Tab")
    region = admin_page.get_by_role("region", name="The numbers as a table")
    assert region.evaluate("e => e === document.activeElement")
    assert region.locator("tbody tr").count() == 60
    admin_page.keyboard.press("Tab")
    assert "/run/" in str(admin_page.evaluate("document.activeElement.getAttribute('href')"))
