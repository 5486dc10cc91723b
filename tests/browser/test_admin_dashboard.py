"""The dashboard in Chromium: it refreshes itself without disturbing the person who reads it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from django_defer.admin import dashboard
from django_defer.models import CronDefinition
from django_defer.states import State
from django_defer.sync import sync
from tests.admin_rows import HOSTILE, ago, make_cluster, make_finished, make_run
from tests.runs import new_definition

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Route

DASHBOARD = "/admin/django_defer/"
FAST = 150  # milliseconds between two refreshes, in a test


@pytest.fixture(autouse=True)
def rows() -> None:
    """Rows for each part of the page."""
    sync()
    CronDefinition.objects.update(next_slot_at=ago(hours=-3))
    make_cluster()
    make_run(queued_at=ago(seconds=20))
    new_definition("shop.hourly", "0 * * * *", ago(minutes=-20))
    new_definition("shop.paused", paused_at=ago(hours=1), paused_by="ada", pause_reason=HOSTILE)
    for n in range(12):
        make_finished(
            State.FAILED if n % 4 == 0 else State.SUCCEEDED,
            function_id=f"shop.function_number_{n}",
            label="y" * 80,
            error_class="ValueError" if n % 4 == 0 else "",
            error_message=HOSTILE + "x" * 200 if n % 4 == 0 else "",
            finished_at=ago(minutes=1, seconds=n),
        )


@pytest.fixture
def fast_page(admin_page: Page, monkeypatch: pytest.MonkeyPatch) -> Page:
    """The dashboard, refreshing itself several times a second."""
    monkeypatch.setattr(dashboard, "REFRESH_SECONDS", FAST / 1000)
    admin_page.goto(DASHBOARD)
    admin_page.locator("#defer-live[data-state=live]").wait_for()
    return admin_page


def add_failure(function: str = "shop.just_failed", **columns: Any) -> None:
    make_finished(
        State.FAILED,
        **{"function_id": function, "error_class": "KeyError", "finished_at": ago(seconds=1)}
        | columns,
    )


def wait_for_failure(page: Page, function: str = "shop.just_failed") -> None:
    page.locator("#defer-failed td a", has_text=function).wait_for()


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.getAttribute('href')"))


def state(page: Page) -> str:
    return page.locator(".defer-live-state").inner_text()


def test_it_opens_with_every_part(fast_page: Page) -> None:
    assert fast_page.locator("#defer-dashboard > section").count() == 10
    assert fast_page.locator("svg.defer-chart").count() == 2
    bars = fast_page.locator(".defer-bar--failed").first
    assert bars.evaluate("e => getComputedStyle(e).fill") not in ("rgb(0, 0, 0)", "none")


@pytest.mark.parametrize("span", ["hour", "day", "week"])
def test_each_span_opens_by_the_keyboard(fast_page: Page, span: str) -> None:
    fast_page.locator(f".defer-tabs a[href='?span={span}']").focus()
    fast_page.keyboard.press("Enter")
    fast_page.wait_for_url(f"**{DASHBOARD}?span={span}")
    current = fast_page.locator(".defer-tabs a[aria-current]")
    assert current.inner_text() == f"Last {span}"


def test_a_new_failure_appears_by_itself_and_everything_stays_where_it_was(
    fast_page: Page,
) -> None:
    fast_page.set_viewport_size({"width": 1280, "height": 500})
    fast_page.locator("#defer-behind-parts summary").click()
    link = fast_page.locator("#defer-failed td a").first
    link.focus()
    href, element = focused(fast_page), fast_page.evaluate_handle("document.activeElement")
    fast_page.evaluate("document.querySelector('.defer-behind-table').scrollTop = 150")
    before = fast_page.evaluate("document.activeElement.getBoundingClientRect().top")
    add_failure()
    wait_for_failure(fast_page)
    assert focused(fast_page) == href
    assert fast_page.evaluate("e => e === document.activeElement", element)
    assert fast_page.locator("#defer-behind-parts").get_attribute("open") is not None
    assert fast_page.evaluate("document.querySelector('.defer-behind-table').scrollTop") == 150
    assert fast_page.evaluate("scrollY") > 0
    after = fast_page.evaluate("document.activeElement.getBoundingClientRect().top")
    assert abs(after - before) < 60, "its row went down by the height of the new one at most"


def test_the_time_of_the_last_update_goes_on(fast_page: Page) -> None:
    shown = fast_page.locator("#defer-updated").inner_text()
    fast_page.wait_for_function(
        "shown => document.getElementById('defer-updated').textContent !== shown", arg=shown
    )
    assert state(fast_page) == "live"


def test_it_waits_while_text_is_selected(fast_page: Page) -> None:
    fast_page.evaluate("getSelection().selectAllChildren(document.getElementById('defer-failed'))")
    fast_page.locator("#defer-live[data-state=waiting]").wait_for()
    shown = fast_page.locator("#defer-updated").inner_text()
    add_failure()
    fast_page.wait_for_timeout(1500)
    assert fast_page.locator("#defer-updated").inner_text() == shown
    assert "shop.just_failed" not in fast_page.locator("#defer-failed").inner_text()
    assert fast_page.evaluate("getSelection().isCollapsed") is False
    fast_page.evaluate("getSelection().removeAllRanges()")
    wait_for_failure(fast_page)


def test_a_person_pauses_and_resumes_it_by_the_keyboard(fast_page: Page) -> None:
    button = fast_page.locator("#defer-live button")
    button.focus()
    fast_page.keyboard.press("Enter")
    assert (button.inner_text(), state(fast_page)) == ("Resume", "paused")
    add_failure()
    fast_page.wait_for_timeout(10 * FAST)
    assert "shop.just_failed" not in fast_page.locator("#defer-failed").inner_text()
    fast_page.keyboard.press("Enter")
    wait_for_failure(fast_page)
    assert (button.inner_text(), state(fast_page)) == ("Pause", "live")


def test_it_stops_while_the_tab_is_hidden(fast_page: Page) -> None:
    requests: list[str] = []
    fast_page.on("request", lambda request: requests.append(request.url))
    set_visibility(fast_page, "hidden")
    fast_page.wait_for_timeout(3 * FAST)  # what was under way may arrive
    requests.clear()
    add_failure()
    fast_page.wait_for_timeout(10 * FAST)
    assert requests == []
    set_visibility(fast_page, "visible")
    wait_for_failure(fast_page)


def set_visibility(page: Page, value: str) -> None:
    page.evaluate(
        """value => {
            Object.defineProperty(document, "visibilityState", {value, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        value,
    )


def test_a_server_that_is_away_is_said_to_be_and_asked_again(
    fast_page: Page, context: BrowserContext
) -> None:
    """Answers that are no page: an aborted request would be an error in the console."""
    away = re.compile(r"/admin/django_defer/$")

    def refuse(route: Route) -> None:
        route.fulfill(status=200, content_type="text/html", body="<p>Log in</p>")

    context.route(away, refuse)
    fast_page.locator("#defer-live[data-state=out]").wait_for()
    assert state(fast_page) == "not logged in any more: load the page again"
    assert fast_page.locator("#defer-failed").is_visible(), "the last numbers stay"


def test_a_network_that_is_away_is_said_to_be_and_tried_again(fast_page: Page) -> None:
    fast_page.evaluate(
        """() => {
            const real = window.fetch;
            window.tries = 0;
            window.fetch = (...all) => {
                window.tries += 1;
                return window.tries < 3 ? Promise.reject(new TypeError("away")) : real(...all);
            };
        }"""
    )
    fast_page.locator("#defer-live[data-state=lost]").wait_for()
    assert state(fast_page) == "cannot reach the server"
    fast_page.locator("#defer-live[data-state=live]").wait_for()
    assert fast_page.evaluate("window.tries") >= 3


def test_rows_that_go_and_rows_that_change_places_are_followed(fast_page: Page) -> None:
    names = fast_page.locator("#defer-busy tbody td:first-child")
    assert names.count() == 10
    slow = "shop.function_number_11"
    assert slow not in fast_page.locator("#defer-busy").inner_text()
    make_finished(function_id=slow, finished_at=ago(seconds=-500), started_at=ago(seconds=100))
    fast_page.locator("#defer-busy tbody tr:first-child", has_text=slow).wait_for()
    assert names.count() == 10
    order = names.all_inner_texts()
    assert len(set(order)) == 10
    riser = order[6]
    cell = names.nth(6).element_handle()
    make_finished(function_id=riser, finished_at=ago(seconds=-900), started_at=ago(seconds=100))
    fast_page.locator("#defer-busy tbody tr:first-child", has_text=riser).wait_for()
    assert names.all_inner_texts() == [riser, *order[:6], *order[7:]]
    assert cell.evaluate("e => e.isConnected"), "its row was moved, not made anew"


def test_hostile_text_that_arrives_later_stays_text(fast_page: Page) -> None:
    add_failure(label="<img src=x onerror=alert(1)>", error_message=HOSTILE)
    fast_page.locator("#defer-failed td", has_text="<img src=x").first.wait_for()
    assert fast_page.locator("#defer-dashboard img, #defer-dashboard script").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_does_not_scroll_sideways_on_a_telephone(admin_page: Page, scheme: Any) -> None:
    admin_page.emulate_media(color_scheme=scheme)
    admin_page.set_viewport_size({"width": 390, "height": 844})
    admin_page.goto(DASHBOARD)
    assert admin_page.evaluate("document.scrollingElement.scrollWidth") <= 390
    for name in ("clusters", "queues", "failed"):
        table = admin_page.locator(f"#defer-{name} .defer-table")
        assert table.evaluate("e => e.scrollWidth <= e.clientWidth"), name


def test_it_follows_the_dark_mode(admin_page: Page) -> None:
    colours = []
    for scheme in ("light", "dark"):
        admin_page.emulate_media(color_scheme=scheme)
        admin_page.goto(DASHBOARD)
        headline = admin_page.locator("#defer-headline")
        colours.append(headline.evaluate("e => getComputedStyle(e).backgroundColor"))
    assert colours[0] != colours[1]


def test_without_javascript_it_is_a_page_to_read(admin_page: Page, context: BrowserContext) -> None:
    context.route("**/live.js", lambda route: route.fulfill(status=200, body=""))
    admin_page.goto(DASHBOARD)
    assert not admin_page.locator("#defer-live button").is_visible()
    assert admin_page.locator("#defer-updated").is_visible()
    admin_page.locator(".defer-tabs a", has_text="Last week").click()
    assert admin_page.locator(".defer-tabs a[aria-current]").inner_text() == "Last week"


def test_every_control_is_reached_by_the_keyboard(admin_page: Page) -> None:
    admin_page.goto(DASHBOARD)
    admin_page.locator("#defer-live button").wait_for()
    missing = set(
        admin_page.evaluate(
            """() => [...document.querySelectorAll("#content a, #content button, #content summary")]
                .filter(e => e.checkVisibility()).map((e, n) => e.dataset.tested = String(n))"""
        )
    )
    assert len(missing) > 20
    admin_page.locator("h1").click()
    for _press in range(2 * len(missing)):
        admin_page.keyboard.press("Tab")
        missing.discard(admin_page.evaluate("document.activeElement.dataset.tested ?? ''"))
        if not missing:
            break
    assert not missing
