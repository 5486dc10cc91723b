"""The page of a run in Chromium, beside a real worker: it follows the run to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from django_defer.admin import run_page
from django_defer.models import Run
from django_defer.states import State
from tests.acceptance.harness import Trees, wait_for_state
from tests.admin_rows import ago, call, make_attempt, make_finished, make_retrying, make_run
from tests.browser.test_admin import STRICT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page, Route

FAST = 0.2  # seconds between two refreshes, in a test
STEPS = 4
LINES = 60  # of each step: more than a window holds


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refresh several times a second."""
    monkeypatch.setattr(run_page, "REFRESH_SECONDS", FAST)
    monkeypatch.setattr(run_page, "IDLE_SECONDS", FAST)


@pytest.fixture
def trees(transactional_db: None, tmp_path: Path) -> Iterator[Trees]:
    """Start `defer_worker`s; they are ended after the test."""
    (tmp_path / "logs").mkdir()
    trees = Trees(tmp_path / "logs")
    yield trees
    trees.destroy()


def open_strictly(page: Page, run: Run) -> None:
    """Open the page of a run under a strict policy; what it fetches later comes by itself."""

    def add_policy(route: Route) -> None:
        response = route.fetch()
        headers = {**response.headers, "content-security-policy": STRICT}
        route.fulfill(response=response, headers=headers)

    page.route("**/change/", add_policy)
    page.goto(address(run))
    page.unroute_all(behavior="wait")


def address(run: Run) -> str:
    return f"/admin/django_defer/run/{run.pk}/change/"


def state(page: Page) -> str:
    return page.locator(".defer-state").inner_text()


def wait_for_state_shown(page: Page, text: str) -> None:
    page.locator(".defer-state", has_text=text).wait_for()


def progress(page: Page) -> Any:
    return page.locator("progress").evaluate("e => [e.value, e.max]")


def log_lines(page: Page) -> int:
    return page.locator(".defer-message").count()


def test_it_follows_a_run_of_a_real_worker_to_its_end(
    admin_page: Page, trees: Trees, tmp_path: Path
) -> None:
    page = admin_page
    loads: list[str] = []
    page.on("framenavigated", lambda frame: loads.append(frame.url))
    run = make_run(function_id="testapp.talk_in_steps", args=call(str(tmp_path), STEPS, LINES))
    open_strictly(page, run)
    page.locator("#defer-live[data-state=live]").wait_for()
    assert state(page) == "queued"

    trees("--workers", "1")
    wait_for_state_shown(page, "running")
    page.locator("summary", has_text="Abort").wait_for()
    assert page.get_by_role("button", name="Cancel").count() == 0

    (tmp_path / "1").touch()
    page.locator(".defer-message", has_text=f"step 1, line {LINES}").wait_for()
    page.locator("progress").wait_for()
    assert progress(page) == [1, STEPS]

    # The person reads in the middle of the log while more comes.
    reading = page.locator(".defer-message", has_text="step 1, line 30")
    reading.evaluate("e => e.scrollIntoView({block: 'center'})")
    before = page.evaluate("scrollY")
    assert before > 0
    element = reading.element_handle()
    (tmp_path / "2").touch()
    page.locator(".defer-message", has_text=f"step 2, line {LINES}").wait_for()
    page.locator("[data-key=Progress]", has_text="at step 2").wait_for()
    assert progress(page) == [2, STEPS]
    assert page.evaluate("scrollY") == before
    assert element.evaluate("e => e.isConnected && e.textContent.includes('step 1, line 30')")

    for step in (3, 4):
        (tmp_path / str(step)).touch()
    (tmp_path / "end").touch()
    wait_for_state_shown(page, "succeeded")
    page.locator("#defer-live[data-state=over]").wait_for()
    assert page.locator(".defer-live-state").inner_text() == "it has ended"
    assert page.locator("[data-key=Result]").inner_text().strip().endswith("'all steps'")
    assert page.get_by_role("button", name="Rerun").is_visible()
    assert not page.locator("#defer-live button").is_visible()
    assert progress(page) == [STEPS, STEPS]
    assert log_lines(page) == STEPS * LINES
    assert page.evaluate("scrollY") > 0
    assert len(loads) == 1, "it was never loaded again"


def test_nothing_is_asked_once_the_run_has_ended(admin_page: Page) -> None:
    run = make_run(state=State.RUNNING, started_at=ago(seconds=3), attempt=1)
    admin_page.goto(address(run))
    admin_page.locator("#defer-live[data-state=live]").wait_for()
    Run.objects.filter(pk=run.pk).update(state=State.FAILED, finished_at=ago(minutes=1))
    admin_page.locator("#defer-live[data-state=over]").wait_for()
    asked: list[str] = []
    admin_page.on("request", lambda request: asked.append(request.url))
    admin_page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    admin_page.wait_for_timeout(10 * FAST * 1000)
    assert asked == []


def test_the_page_of_a_run_that_has_ended_does_not_refresh_itself(admin_page: Page) -> None:
    admin_page.goto(address(make_finished()))
    assert admin_page.locator("#defer-live").count() == 0
    assert admin_page.locator("script[src*='live.js']").count() == 0


def test_it_waits_while_a_form_is_open(admin_page: Page) -> None:
    run = make_run(state=State.SCHEDULED)
    admin_page.goto(address(run))
    admin_page.locator("summary", has_text="Reschedule").click()
    admin_page.locator("#defer-live[data-state=waiting]").wait_for()
    Run.objects.filter(pk=run.pk).update(state=State.QUEUED, queued_at=ago())
    admin_page.wait_for_timeout(2500)  # it looks each second whether it may go on
    assert state(admin_page) == "scheduled"
    assert admin_page.locator("details.defer-ask[open]").is_visible()
    admin_page.locator("summary", has_text="Reschedule").click()
    admin_page.locator("h1").hover()
    wait_for_state_shown(admin_page, "queued")


def test_a_button_still_works_after_the_page_was_refreshed(admin_page: Page) -> None:
    run = make_run(state=State.SCHEDULED)
    admin_page.goto(address(run))
    Run.objects.filter(pk=run.pk).update(state=State.QUEUED, queued_at=ago())
    wait_for_state_shown(admin_page, "queued")
    admin_page.get_by_role("button", name="Cancel").click()
    wait_for_state_shown(admin_page, "cancelled")
    assert wait_for_state(run, State.CANCELLED)


def test_previous_and_next_lead_along_the_runs_of_the_function(admin_page: Page) -> None:
    first = make_finished(label="first")
    make_finished(function_id="testapp.noop")
    second = make_finished(State.FAILED, label="second")
    third = make_run(label="third")
    admin_page.goto(address(second))
    admin_page.get_by_role("link", name="previous").click()
    admin_page.wait_for_url(f"**{address(first)}")
    assert admin_page.get_by_role("link", name="previous").count() == 0
    admin_page.get_by_role("link", name="next", exact=True).click()
    admin_page.wait_for_url(f"**{address(second)}")
    admin_page.get_by_role("link", name="next", exact=True).click()
    admin_page.wait_for_url(f"**{address(third)}")
    assert admin_page.get_by_role("link", name="next", exact=True).count() == 0


def test_parent_and_children_lead_to_each_other(admin_page: Page) -> None:
    parent = make_finished(label="the parent")
    child = make_finished(function_id="testapp.noop", label="the child", parent=parent, root=parent)
    admin_page.goto(address(child))
    admin_page.get_by_role("link", name="the parent").click()
    admin_page.wait_for_url(f"**{address(parent)}")
    admin_page.get_by_role("link", name="1 succeeded").click()
    admin_page.wait_for_url("**/run/?parent=*")
    assert admin_page.locator("#result_list .defer-label").all_inner_texts() == ["the child"]


def test_the_attempts_are_drawn_to_scale(admin_page: Page) -> None:
    """A minute of waiting, ten seconds of trying, fifty of a pause, ten, and what is left."""
    run = make_retrying(enqueued_at=ago(minutes=9), run_after=ago(minutes=-4))
    admin_page.goto(address(run))
    parts = admin_page.locator(".defer-lifeline .defer-part")
    kinds = [kind.split("--")[1] for kind in parts.evaluate_all("l => l.map(e => e.classList[1])")]
    assert kinds == ["waiting", "retried", "pause", "retried", "pause"]
    widths = parts.evaluate_all("l => l.map(e => e.getBoundingClientRect().width)")
    assert widths[0] == pytest.approx(6 * widths[1], rel=0.1)
    assert widths[2] == pytest.approx(5 * widths[3], rel=0.1)
    assert widths[4] > 5 * widths[2]


def test_the_frames_of_the_project_are_marked(admin_page: Page) -> None:
    run = make_finished(State.FAILED, error_class="ConnectTimeout", error_message="no answer")
    make_attempt(run, 1)
    admin_page.goto(address(run))
    mark = admin_page.locator("[data-key=Error] mark")
    assert mark.count() == 1
    assert "/srv/shop/defer.py" in mark.inner_text()
    backgrounds = admin_page.locator("[data-key=Error] :is(mark, pre)").evaluate_all(
        "l => l.map(e => getComputedStyle(e).backgroundColor)"
    )
    assert len(set(backgrounds)) == 2
