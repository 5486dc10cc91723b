"""Finding runs in Chromium: pages, the filter by time, some or all that match; by keyboard too.

A strict Content-Security-Policy holds throughout: what it refuses is an error in the console, and
an error in the console fails the test.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from django_defer.ids import first_uuid7_of
from django_defer.models import BackgroundFunction, Run
from django_defer.states import State
from tests.admin_rows import make_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext, Page, Route

LIST = "/admin/django_defer/run/"
STRICT = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:"
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def strict_policy(context: BrowserContext) -> Iterator[None]:
    def add_policy(route: Route) -> None:
        response = route.fetch(max_redirects=0)
        headers = {**response.headers, "content-security-policy": STRICT}
        route.fulfill(response=response, headers=headers)

    context.route("**/admin/django_defer/**", add_policy)
    yield
    context.unroute_all(behavior="ignoreErrors")


@pytest.fixture
def mails() -> list[Run]:
    """A hundred and twenty runs that wait, one enqueued a minute, and some of another queue."""
    made = [
        make_run(
            id=first_uuid7_of(NOON + timedelta(minutes=n)),
            enqueued_at=NOON + timedelta(minutes=n),
            queue="mail",
            label=f"mail {n}",
        )
        for n in range(120)
    ]
    for _ in range(3):
        make_run(label="other")
    return made


def labels(page: Page) -> list[str]:
    return page.locator("#result_list .defer-label").all_inner_texts()


def follow(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
    page.wait_for_load_state()


def choose(page: Page, action: str) -> None:
    page.locator("select[name=action]").select_option(action)
    page.locator("button[name=index]").click()


def test_pages_keep_the_filter_and_their_place(admin_page: Page, mails: list[Run]) -> None:
    admin_page.goto(f"{LIST}?queue=mail")
    pages = admin_page.get_by_role("navigation", name="Pages")
    expect(pages).to_contain_text("120 runs")
    expect(pages.get_by_role("link")).to_have_text(["Older"])
    assert labels(admin_page)[::49] == ["mail 119", "mail 70"]
    make_run(queue="mail", label="came later")
    follow(admin_page, "Older")
    assert labels(admin_page)[::49] == ["mail 69", "mail 20"]
    expect(pages.get_by_role("link")).to_have_text(["Newest", "Newer", "Older"])
    follow(admin_page, "Older")
    assert labels(admin_page)[::19] == ["mail 19", "mail 0"]
    expect(pages.get_by_role("link")).to_have_text(["Newest", "Newer"])
    follow(admin_page, "Newer")
    assert labels(admin_page)[0] == "mail 69"
    follow(admin_page, "Newest")
    assert labels(admin_page)[0] == "came later"
    assert admin_page.url.endswith("?queue=mail")


def test_a_search_begins_with_the_first_page(admin_page: Page, mails: list[Run]) -> None:
    admin_page.goto(f"{LIST}?queue=mail")
    follow(admin_page, "Older")
    admin_page.locator("#searchbar").fill("mail 7")
    admin_page.get_by_role("button", name="Search").click()
    expect(admin_page.get_by_role("navigation", name="Pages")).to_contain_text("11 runs")
    assert labels(admin_page) == [f"mail {n}" for n in range(79, 69, -1)] + ["mail 7"]
    assert "before" not in admin_page.url


def test_runs_are_filtered_by_time(admin_page: Page, mails: list[Run]) -> None:
    admin_page.goto(f"{LIST}?queue=mail")
    admin_page.get_by_label("From", exact=False).fill("2026-07-01T12:30")
    admin_page.get_by_label("Until", exact=False).fill("2026-07-01T12:33")
    admin_page.get_by_role("button", name="Show").click()
    expect(admin_page.get_by_role("navigation", name="Pages")).to_contain_text("3 runs")
    assert labels(admin_page) == ["mail 32", "mail 31", "mail 30"]
    assert "queue=mail" in admin_page.url
    assert admin_page.get_by_label("From", exact=False).input_value() == "2026-07-01T12:30"
    assert "In UTC." in admin_page.locator("#changelist-filter").inner_text()
    admin_page.get_by_role("link", name="past hour").click()
    expect(admin_page.get_by_role("navigation", name="Pages")).to_contain_text("0 runs")
    assert admin_page.get_by_label("From", exact=False).input_value() == ""


def test_a_wrong_time_is_said_beside_its_field(admin_page: Page, mails: list[Run]) -> None:
    admin_page.goto(LIST)
    admin_page.get_by_label("From", exact=False).fill("2026-07-02T00:00")
    admin_page.get_by_label("Until", exact=False).fill("2026-07-01T00:00")
    admin_page.get_by_role("button", name="Show").click()
    said = "This is not after “From”."
    expect(admin_page.locator(".errornote")).to_contain_text(said)
    expect(admin_page.locator("#changelist-filter .errorlist")).to_have_text(said)
    assert admin_page.get_by_label("Until").get_attribute("aria-invalid") == "true"
    assert admin_page.locator("#result_list tbody tr").count() == 0


def test_an_action_is_done_to_all_that_match(admin_page: Page, mails: list[Run]) -> None:
    admin_page.goto(f"{LIST}?queue=mail&state=queued")
    follow(admin_page, "Older")
    question = admin_page.get_by_role("button", name="Select all runs that match (120)")
    assert not question.is_visible()
    admin_page.locator("#action-toggle").check()
    expect(admin_page.locator(".action-counter")).to_have_text("50 of 50 selected")
    question.click()
    expect(admin_page.locator(".actions .all")).to_have_text("All that match selected (120)")
    choose(admin_page, "cancel_selected")
    expect(admin_page.locator("#content")).to_contain_text("This is about all 120 runs that match")
    expect(admin_page.locator(".defer-rows li")).to_have_text(["queue: mail", "state: queued"])
    assert Run.objects.filter(state=State.CANCELLED).count() == 0
    admin_page.locator("#content").get_by_role("button", name="Cancel").click()
    expect(admin_page.locator(".messagelist .success")).to_have_text("Cancelled: 120.")
    assert Run.objects.filter(queue="mail", state=State.CANCELLED).count() == 120
    assert Run.objects.filter(state=State.QUEUED).count() == 3


def test_going_back_from_the_confirmation_does_nothing(admin_page: Page, mails: list[Run]) -> None:
    admin_page.goto(f"{LIST}?queue=mail")
    admin_page.locator("#action-toggle").check()
    admin_page.locator(".question a").click()
    choose(admin_page, "cancel_selected")
    admin_page.get_by_role("link", name="Back", exact=True).click()
    expect(admin_page.locator("#result_list .defer-label").first).to_have_text("mail 119")
    assert Run.objects.filter(state=State.CANCELLED).count() == 0


def test_selecting_all_is_taken_back(admin_page: Page, mails: list[Run]) -> None:
    admin_page.goto(f"{LIST}?queue=mail")
    admin_page.locator("#action-toggle").check()
    admin_page.locator(".question a").click()
    admin_page.get_by_role("button", name="Clear selection").click()
    expect(admin_page.locator(".action-counter")).to_have_text("0 of 50 selected")
    assert admin_page.locator(".action-select:checked").count() == 0


def test_an_action_is_done_to_some_of_a_page(admin_page: Page, mails: list[Run]) -> None:
    admin_page.goto(f"{LIST}?queue=mail")
    follow(admin_page, "Older")
    for n in (69, 67):
        row = admin_page.locator("#result_list tbody tr", has_text=f"mail {n}")
        row.locator(".action-select").check()
    expect(admin_page.locator(".action-counter")).to_have_text("2 of 50 selected")
    choose(admin_page, "cancel_selected")
    expect(admin_page.locator(".messagelist .success")).to_contain_text("Cancelled")
    cancelled = Run.objects.filter(state=State.CANCELLED).values_list("label", flat=True)
    assert set(cancelled) == {"mail 69", "mail 67"}
    assert labels(admin_page)[0] == "mail 69"  # the same page


def test_nothing_more_than_the_page_is_not_offered(admin_page: Page) -> None:
    make_run(label="one")
    admin_page.goto(LIST)
    admin_page.locator("#action-toggle").check()
    expect(admin_page.locator(".action-counter")).to_have_text("1 of 1 selected")
    assert admin_page.locator(".question").count() == 0


def test_a_run_is_cancelled_by_keyboard_alone(admin_page: Page, mails: list[Run]) -> None:
    keyboard = admin_page.keyboard
    admin_page.goto(f"{LIST}?queue=mail")

    def go_to(selector: str, key: str = "Tab") -> None:
        for _ in range(250):
            keyboard.press(key)
            if admin_page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"{selector} was not reached")

    go_to(".defer-pages a[rel=next]")
    keyboard.press("Enter")
    admin_page.wait_for_url(re.compile("before="))
    go_to(".action-select")
    keyboard.press("Space")
    expect(admin_page.locator(".action-counter")).to_have_text("1 of 50 selected")
    go_to("select[name=action]", "Shift+Tab")
    keyboard.type("Cancel")
    go_to("button[name=index]")
    keyboard.press("Enter")
    expect(admin_page.locator(".messagelist .success")).to_contain_text("Cancelled")
    (label,) = Run.objects.filter(state=State.CANCELLED).values_list("label", flat=True)
    assert label == "mail 69"


def test_a_box_finds_one_of_thousands_of_functions(admin_page: Page, mails: list[Run]) -> None:
    BackgroundFunction.objects.bulk_create(
        BackgroundFunction(key=f"shop.f{n:04}", module="shop.defer", line=n) for n in range(2_000)
    )
    run = make_run(function_id="shop.f1234")
    admin_page.goto(f"{LIST}?state=queued")
    functions = admin_page.locator("details[data-filter-title=function]")
    assert functions.get_by_role("link").count() == 21
    functions.get_by_role("searchbox").fill("f123")
    functions.get_by_role("button", name="Find").click()
    functions.get_by_role("link", name="shop.f1234").click()
    expect(admin_page.get_by_role("navigation", name="Pages")).to_contain_text("1 run")
    assert run.pk.hex[-8:] in admin_page.locator("#result_list").inner_text()
    assert "state=queued" in admin_page.url
    assert "find_function" not in admin_page.url


@pytest.mark.parametrize("query", ["", "queue=mail&before=", "from=x", "find_function=zzz"])
def test_the_list_fits_a_telephone(admin_page: Page, mails: list[Run], query: str) -> None:
    admin_page.set_viewport_size({"width": 390, "height": 844})
    admin_page.goto(f"{LIST}?{query}{mails[80].pk if query.endswith('before=') else ''}")
    assert admin_page.evaluate("document.scrollingElement.scrollWidth") <= 390
    for part in admin_page.locator(".defer-pages, .defer-filter").all():
        box = part.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390


def test_the_fields_follow_the_dark_mode(admin_page: Page, mails: list[Run]) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        admin_page.emulate_media(color_scheme=scheme)
        admin_page.goto(LIST)
        field = admin_page.locator(".defer-filter input[type=datetime-local]").first
        colours[scheme] = field.evaluate("e => getComputedStyle(e).backgroundColor")
    assert colours["light"] != colours["dark"]
