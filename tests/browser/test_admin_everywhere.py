"""What holds on every page of ours: policy, width, buttons for those who may, the keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin import site

from django_defer.models import Alert, CronDefinition, Queue, Run
from tests.admin_rows import ago, log_in_with, make_run
from tests.browser.conftest import log_in
from tests.browser.every_page import ADMIN, Visit, every_page, open_all, press, unfold
from tests.strict_policy import POLICY

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.test import Client
    from playwright.sync_api import BrowserContext, Locator, Page
    from pytest_django.live_server_helper import LiveServer

pytestmark = pytest.mark.usefixtures("channels")
VIEWS = (
    *("view_backgroundfunction", "view_crondefinition", "view_run", "view_cluster", "view_queue"),
    *("view_alert", "view_alertchannel"),
)
MOST_TABS = 120
ABORTED = "net::ERR_ABORTED"  # what the dashboard was asking for when somebody left it


def test_every_page_fits_a_telephone_and_nothing_goes_wrong_there(admin_page: Page) -> None:
    """The fixture `page` fails on what the console says; a policy that is broken is said there."""
    failed: list[str] = []

    def on_failure(request: Any) -> None:
        if request.failure != ABORTED:
            failed.append(f"{request.failure}: {request.url}")

    admin_page.on("requestfailed", on_failure)
    admin_page.set_viewport_size({"width": 390, "height": 844})
    wide: dict[str, int] = {}
    for name, visit in every_page().items():
        visit.open(admin_page)
        assert admin_page.locator("#content h1").inner_text(), name
        open_all(admin_page)
        width = admin_page.evaluate("document.scrollingElement.scrollWidth")
        if width > 390:
            wide[name] = width
    assert not wide
    assert not failed


def test_a_page_that_breaks_the_policy_is_found_out(logged_in: BrowserContext) -> None:
    page, said = logged_in.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    response = page.goto(ADMIN)
    assert response is not None
    assert response.headers["content-security-policy"] == POLICY
    assert not said
    page.evaluate("document.body.setAttribute('style', 'color: red')")
    page.evaluate("document.body.append(document.createElement('script'))")
    page.evaluate("document.querySelector('body > script').textContent = 'alert(1)'")
    page.wait_for_function("document.querySelector('body > script').textContent !== ''")
    assert [text for text in said if "style-src 'self'" in text]
    assert [text for text in said if "script-src 'self'" in text]


@pytest.fixture
def visits(admin_user: User) -> dict[str, Visit]:
    """All pages."""
    return every_page()


def test_no_model_of_the_admin_is_left_out(visits: dict[str, Visit]) -> None:
    ours = [model for model in site._registry if model._meta.app_label == "django_defer"]
    paths = [visit.path for visit in visits.values()]
    for name in [str(model._meta.model_name) for model in ours]:
        assert f"{name}/" in paths
        assert any(path.startswith(f"{name}/") and path.endswith("/change/") for path in paths)


def verbs_shown(page: Page, visits: dict[str, Visit]) -> dict[str, list[str]]:
    """Return what can be pressed on each page that only has to be opened."""
    shown = {}
    for name, visit in visits.items():
        if not visit.steps:
            visit.open(page)
            buttons = page.locator(".defer-verbs :is(summary, input[type=submit]), .actions option")
            if texts := [text.strip() for text in buttons.all_inner_texts()]:
                shown[name] = texts
    return shown


def test_a_person_without_their_permissions_sees_no_verbs(
    page: Page,
    context: BrowserContext,
    live_server: LiveServer,
    client: Client,
    visits: dict[str, Visit],
    admin_user: User,
) -> None:
    log_in(context, live_server, client, log_in_with(client, *VIEWS))
    assert verbs_shown(page, visits) == {}
    log_in(context, live_server, client, admin_user)
    names = ("function", "queue", "failed run", "runs", "functions", "alert", "alerts")
    few = {name: visits[name] for name in names}
    assert set(verbs_shown(page, few)) == set(few), "the same search finds them where they are"


# -- verbs that no other test of a browser presses -------------------------------------------------


def test_a_running_run_is_aborted(admin_page: Page) -> None:
    run = make_run(state="running", started_at=ago(seconds=5), attempt=1)
    admin_page.goto(f"{ADMIN}run/{run.pk}/change/")
    unfold(admin_page, "Abort")
    admin_page.get_by_label("Reason (optional)").fill("Too slow")
    press(admin_page, "Abort")
    assert admin_page.locator(".defer-state").inner_text() == "aborting"
    assert "Abort requested" in admin_page.locator(".messagelist .success").inner_text()
    run.refresh_from_db()
    assert run.abort_requested_at is not None


def test_a_queue_is_paused_and_resumed(admin_page: Page) -> None:
    queue = Queue.objects.create(name="mails")
    admin_page.goto(f"{ADMIN}queue/mails/change/")
    unfold(admin_page, "Pause")
    press(admin_page, "Pause")
    assert admin_page.locator(".defer-state").inner_text() == "paused"
    queue.refresh_from_db()
    assert queue.paused_by == "admin"
    press(admin_page, "Resume")
    assert admin_page.locator(".defer-state").inner_text() == "open"
    queue.refresh_from_db()
    assert queue.paused_at is None


def test_a_definition_is_resumed_without_catching_up(
    admin_page: Page, visits: dict[str, Visit]
) -> None:
    CronDefinition.objects.filter(function="testapp.weekly").update(
        paused_at=ago(days=30), unfired_slot_at=ago(days=20), next_slot_at=None
    )
    visits["definition"].open(admin_page)
    unfold(admin_page, "Resume")
    press(admin_page, "Resume")
    assert admin_page.locator(".defer-state").inner_text() == "active"
    due = CronDefinition.objects.get(function="testapp.weekly").next_slot_at
    assert due is not None
    assert due > ago()


# -- by the keyboard alone -------------------------------------------------------------------------


def tab_to(page: Page, goal: Locator) -> None:
    """Press Tab until this has the focus, and see that a person sees where the focus is."""
    for _press in range(MOST_TABS):
        page.keyboard.press("Tab")
        if goal.evaluate("e => e === document.activeElement"):
            break
    else:
        raise AssertionError(f"{goal} is not reached by {MOST_TABS} presses")
    assert goal.evaluate(
        """e => e.matches(":focus-visible") && (getComputedStyle(e).outlineStyle !== "none"
            || getComputedStyle(e).textDecorationLine === "underline")"""
    ), f"{goal} does not look as if it had the focus"


def test_the_keyboard_leads_from_the_index_to_a_failed_run_that_runs_again(
    admin_page: Page, visits: dict[str, Visit]
) -> None:
    failed = visits["failed run"].path
    admin_page.goto("/admin/")
    way = [
        ("caption a[href='/admin/django_defer/']", "Dashboard"),
        (f"#defer-failed a[href$='{failed}']", "testapp.recommend"),
    ]
    for selector, title in way:
        tab_to(admin_page, admin_page.locator(selector).first)
        admin_page.keyboard.press("Enter")
        admin_page.locator("#content h1", has_text=title).wait_for()
    assert admin_page.url.endswith(failed)
    tab_to(admin_page, admin_page.get_by_role("button", name="Rerun"))
    admin_page.keyboard.press("Enter")
    done = admin_page.locator(".messagelist .success a")
    done.wait_for()
    assert "Enqueued again" in admin_page.locator(".messagelist").inner_text()
    tab_to(admin_page, done)
    admin_page.keyboard.press("Enter")
    admin_page.locator(".defer-state", has_text="queued").wait_for()
    again = Run.objects.latest("id")
    assert str(again.pk) in admin_page.url
    assert str(again.rerun_of_id) in failed


def test_the_keyboard_leads_from_the_dashboard_to_an_alert_that_is_acknowledged(
    admin_page: Page, visits: dict[str, Visit]
) -> None:
    alert = Alert.objects.get(event="run_failed", closed_at=None)
    admin_page.goto(ADMIN)
    tab_to(admin_page, admin_page.locator(f"#defer-alerts a[href$='{alert.pk}/change/']"))
    admin_page.keyboard.press("Enter")
    admin_page.locator(".defer-state", has_text="open").wait_for()
    tab_to(admin_page, admin_page.get_by_role("button", name="Acknowledge"))
    admin_page.keyboard.press("Enter")
    admin_page.locator(".defer-state", has_text="acknowledged").wait_for()
    assert "Acknowledged by admin at " in admin_page.locator(".defer-said").inner_text()
    assert not admin_page.get_by_role("button", name="Acknowledge").count()
    alert.refresh_from_db()
    assert alert.acknowledged_by == "admin"


def test_a_channel_is_tried_from_its_page(admin_page: Page, settings: Any) -> None:
    settings.DEFER = {"ALERTS": [{"channel": "log"}]}
    admin_page.goto(f"{ADMIN}alertchannel/")
    admin_page.get_by_role("link", name="log", exact=True).click()
    press(admin_page, "Send a test message")
    said = admin_page.locator(".messagelist .success").inner_text()
    assert said == "Sent a test message: log, answered: logged"
