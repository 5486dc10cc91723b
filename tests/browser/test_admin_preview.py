"""The override form while a person types, in Chromium under a strict policy: slots and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from django_defer.models import CronDefinition
from django_defer.sync import sync

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, Route
    from pytest_django.live_server_helper import LiveServer

STRICT = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:"
MOST_TABS = 80
FORM = "details[open] form"


@pytest.fixture
def definition() -> CronDefinition:
    """The schedule "0 8 * * MON" in UTC."""
    sync()
    return CronDefinition.objects.get(function="testapp.weekly")


@pytest.fixture
def strict(context: BrowserContext) -> None:
    """Send every page of a definition with a strict policy; a violation is a console error."""

    def add_policy(route: Route) -> None:
        response = route.fetch(max_redirects=0)
        headers = {**response.headers, "content-security-policy": STRICT}
        route.fulfill(response=response, headers=headers)

    context.route("**/crondefinition/**", add_policy)


@pytest.fixture
def form(admin_page: Page, strict: None, definition: CronDefinition) -> Locator:
    """The form on the page of the definition, open."""
    return open_form(admin_page, definition)


def open_form(page: Page, definition: CronDefinition) -> Locator:
    page.goto(f"/admin/django_defer/crondefinition/{definition.pk}/change/")
    page.locator("summary", has_text="Override").click()
    return page.locator(FORM)


def typed(form: Locator, expression: str, zone: str = "") -> None:
    """Type as a person does: one key after the other."""
    for label, text in {"Expression": expression, "Time zone": zone}.items():
        if text:
            form.get_by_label(label).fill("")
            form.get_by_label(label).press_sequentially(text)


def wait_for_words(form: Locator, words: str) -> None:
    form.locator(".defer-preview", has_text=words).wait_for()


def wait_for_status(form: Locator, words: str) -> None:
    form.locator("[role=status]", has_text=words).wait_for()


def text_of_table(form: Locator) -> list[list[str]]:
    rows = [row.locator("td") for row in form.locator(".defer-preview tbody tr").all()]
    return [[text.replace("\xa0", " ") for text in row.all_inner_texts()] for row in rows]


def as_stored(definition: CronDefinition) -> tuple[str, str]:
    definition.refresh_from_db()
    return definition.expression_override, definition.timezone_override


def test_typing_shows_words_and_slots_and_saves_nothing(
    form: Locator, definition: CronDefinition
) -> None:
    address = form.page.url
    typed(form, "0 9 * * *", "Asia/Tokyo")
    wait_for_words(form, "It means: at 09:00 every day (Asia/Tokyo).")
    table = text_of_table(form)
    assert len(table) == 5
    for own, utc, soon in table:
        assert own.endswith("09:00")
        assert utc.endswith("00:00")
        assert soon.startswith("in ")
    typed(form, "", "Europe/Athens")
    wait_for_words(form, "It means: at 09:00 every day (Europe/Athens).")
    assert form.page.url == address
    assert as_stored(definition) == ("", "")


def test_an_error_is_shown_at_its_field_and_goes_when_it_is_corrected(form: Locator) -> None:
    typed(form, "0 25 * * *")
    errors = form.locator(".defer-field", has_text="Expression").locator(".errorlist")
    errors.wait_for()
    field = form.get_by_label("Expression")
    assert "'25' does not fit the hour field; write 0-23" in errors.inner_text()
    assert field.get_attribute("aria-invalid") == "true"
    described = str(field.get_attribute("aria-describedby")).split()
    assert str(errors.get_attribute("id")) in described
    assert form.locator(".defer-preview table").count() == 0
    assert field.input_value() == "0 25 * * *"
    assert field.evaluate("e => e === document.activeElement")
    field.press("End")
    for _ in range(len("5 * * *")):
        field.press("ArrowLeft")
    field.press("Delete")
    wait_for_words(form, "It means: at 02:00 every day.")
    assert form.locator(".errorlist").count() == 0
    assert field.get_attribute("aria-invalid") is None
    assert field.get_attribute("aria-describedby") == described[0]


def test_each_field_has_its_own_error(form: Locator) -> None:
    typed(form, "0 9 * * *", "Europe/Viena")
    zone = form.locator(".defer-field", has_text="Time zone")
    zone.locator(".errorlist", has_text="did you mean 'Europe/Vienna'?").wait_for()
    assert form.locator(".errorlist").count() == 1


def test_it_is_announced_after_a_silence(form: Locator) -> None:
    status = form.locator("[role=status]")
    assert status.inner_text() == ""
    typed(form, "0 9 * * *")
    wait_for_words(form, "It means")
    wait_for_status(form, "It means: at 09:00 every day. Next slots with 0 9 * * * UTC")
    assert status.inner_text().count("UTC") == 2  # of five slots, the next one
    typed(form, "0 25 * * *")
    wait_for_status(form, "does not fit the hour field")


@pytest.mark.parametrize("can_abort", [True, False])
def test_a_late_answer_does_not_overwrite_a_newer_one(
    admin_page: Page, definition: CronDefinition, can_abort: bool
) -> None:
    held: list[tuple[Route, Any]] = []

    def hold_the_first(route: Route) -> None:
        response = route.fetch()
        if held:
            route.fulfill(response=response)
        else:
            held.append((route, response))

    if not can_abort:  # then the script alone is to tell which answer is late
        admin_page.add_init_script("AbortController.prototype.abort = function () {};")
    admin_page.route("**/override/", hold_the_first)
    failed: list[Request] = []
    admin_page.on("requestfailed", lambda each: failed.append(each))
    form = open_form(admin_page, definition)
    with admin_page.expect_request("**/override/"):
        form.get_by_label("Expression").fill("0 9 * * *")
    form.get_by_label("Expression").fill("0 10 * * *")
    wait_for_words(form, "at 10:00 every day")
    [(route, response)] = held
    assert "at 09:00 every day" in response.text()
    if can_abort:
        assert failed == [route.request]
    else:
        with admin_page.expect_event("requestfinished", lambda each: each == route.request):
            route.fulfill(response=response)
    admin_page.evaluate("() => new Promise(done => setTimeout(done, 100))")
    assert "at 10:00 every day" in form.locator(".defer-preview").inner_text()
    assert form.locator(".defer-preview").get_attribute("aria-busy") is None


def test_the_server_is_asked_once_a_quarter_of_a_second_after_the_last_key(
    admin_page: Page, strict: None, definition: CronDefinition
) -> None:
    asked: list[str] = []
    admin_page.on("request", lambda each: asked.append(each.method))
    admin_page.clock.install(time=0)
    form = open_form(admin_page, definition)
    admin_page.clock.pause_at(3_600_000)
    form.get_by_label("Expression").fill("0 9 * *")
    admin_page.clock.run_for(200)
    form.get_by_label("Expression").press_sequentially(" *")
    admin_page.clock.run_for(249)
    assert "POST" not in asked
    admin_page.clock.run_for(1)
    wait_for_words(form, "at 09:00 every day")
    assert asked.count("POST") == 1


def tab_to(page: Page, selector: str) -> None:
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            return
    raise AssertionError(f"{selector} cannot be reached with the keyboard")


def test_the_keyboard_is_enough(admin_page: Page, strict: None, definition: CronDefinition) -> None:
    admin_page.goto(f"/admin/django_defer/crondefinition/{definition.pk}/change/")
    tab_to(admin_page, "details:has(.defer-preview) > summary")
    admin_page.keyboard.press("Enter")
    tab_to(admin_page, "[name=expression]")
    admin_page.keyboard.press("Control+A")
    admin_page.keyboard.type("0 9 * * MON-FRI")
    wait_for_words(admin_page.locator(FORM), "on Monday to Friday")
    tab_to(admin_page, "[value=Save]")
    admin_page.keyboard.press("Enter")
    admin_page.locator(".messagelist .success").wait_for()
    assert as_stored(definition) == ("0 9 * * MON-FRI", "")


def test_it_goes_on_after_the_preview_button(form: Locator, definition: CronDefinition) -> None:
    page = form.page
    typed(form, "0 9 * * *")
    page.get_by_role("button", name="Preview").click()
    question = page.locator(".defer-question")
    wait_for_words(question, "at 09:00 every day")
    typed(question, "0 10 * * *")
    wait_for_words(question, "at 10:00 every day")
    assert page.locator(".defer-preview section").count() == 1
    question.get_by_role("button", name="Save").click()
    page.locator(".messagelist .success").wait_for()
    assert as_stored(definition) == ("0 10 * * *", "")


def test_without_javascript_the_button_shows_the_preview(
    browser: Browser, admin_page: Page, live_server: LiveServer, definition: CronDefinition
) -> None:
    cookies = admin_page.context.storage_state()
    context = browser.new_context(
        base_url=live_server.url, java_script_enabled=False, storage_state=cookies
    )
    page = context.new_page()
    form = open_form(page, definition)
    form.get_by_label("Expression").fill("0 9 * * *")
    form.get_by_role("button", name="Preview").click()
    wait_for_words(page.locator(".defer-question"), "at 09:00 every day")
    context.close()
    assert as_stored(definition) == ("", "")


@pytest.mark.parametrize("cookie", ["sessionid", "csrftoken"])
def test_it_says_that_it_is_not_allowed_any_more_and_asks_no_more(
    admin_page: Page, context: BrowserContext, definition: CronDefinition, cookie: str
) -> None:
    page = context.new_page()  # one whose console may have errors
    form = open_form(page, definition)
    context.clear_cookies(name=cookie)
    form.get_by_label("Expression").fill("0 9 * * *")
    wait_for_words(form, "Not allowed any more: load the page again.")
    wait_for_status(form, "Not allowed any more")
    form.get_by_label("Expression").fill("0 10 * * *")
    assert form.locator(".defer-preview").get_attribute("aria-busy") is None


def test_it_says_that_the_server_does_not_answer_and_tries_again(
    admin_page: Page, context: BrowserContext, definition: CronDefinition
) -> None:
    page = context.new_page()  # one whose console may have errors
    page.route("**/override/", lambda route: route.abort())
    form = open_form(page, definition)
    form.get_by_label("Expression").fill("0 9 * * *")
    wait_for_words(form, "No preview: the server does not answer.")
    page.unroute("**/override/")
    form.get_by_label("Expression").fill("0 10 * * *")
    wait_for_words(form, "at 10:00 every day")
    assert "No preview" not in form.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 800, 1280])
def test_it_fits_into_the_window(form: Locator, width: int, scheme: Any) -> None:
    page = form.page
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 600})
    typed(form, "0 9 * * *", "America/Argentina/ComodRivadavia")
    wait_for_words(form, "at 09:00 every day (America/Argentina/ComodRivadavia)")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    box = form.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    table = form.locator(".defer-table")
    assert table.evaluate("e => e.scrollWidth <= e.clientWidth")
    form.get_by_role("button", name="Save").click()
    page.locator(".messagelist .success").wait_for()
