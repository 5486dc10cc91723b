"""Text that would harm a page: it is shown as text, runs nothing, and makes no page too wide."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.utils import quote

from django_defer.models import BackgroundFunction, CronDefinition, LogLine, Progress, Queue, Run
from django_defer.states import Outcome, State
from tests.admin_rows import ago, call, make_attempt, make_cluster, make_finished, make_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Dialog, Page, Request

SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(1)>'
TEMPLATE = "{{ 7*7 }}{% debug %}"
REVERSED = "\u200f\u2067\u202egnp.exe"  # never closed
LONG = "W" * 10_000
ALL = SCRIPT + IMAGE + TEMPLATE + REVERSED
TEXTS = {"script": SCRIPT, "image": IMAGE, "template": TEMPLATE, "reversed": REVERSED}
ADMIN = "/admin/django_defer/"
KEY = f"shop.{SCRIPT}{IMAGE}{{{{ 7*7 }}}}\u202egnp" + "W" * 100
TRACEBACK = (
    f'Traceback (most recent call last):\n  File "/srv/{ALL}.py", line 3, in f\n    {LONG}\n'
    f'  File "/x/site-packages/{ALL}/api.py", line 3, in {IMAGE}\n    raise {ALL}\n{ALL}{LONG}'
)


@pytest.fixture
def addresses() -> dict[str, str]:
    """The pages that show such rows, in which each text of a person or a function is hostile."""
    queue, label = ALL[:50], (ALL + LONG)[:200]
    BackgroundFunction.objects.create(
        key=KEY,
        queue=queue,
        options={ALL: LONG, "max_duration": ALL, "metadata": {ALL: LONG}},
        module=(ALL + LONG)[:300],
        former_keys=[ALL, LONG],
        paused_at=ago(hours=1),
        paused_by=ALL,
        pause_reason=(ALL + LONG)[:500],
    )
    definition = CronDefinition.objects.create(
        function_id=KEY,
        code_expression=ALL[:100],
        code_timezone=ALL[:60],
        queue=queue,
        error=ALL + LONG,
        next_slot_at=ago(hours=2),
        paused_at=ago(hours=1),
        pause_reason=(ALL + LONG)[:500],
    )
    Queue.objects.create(name=queue, paused_at=ago(hours=1), pause_reason=(ALL + LONG)[:500])
    make_cluster(host=ALL, queues=[queue], functions=[KEY])
    common: dict[str, Any] = {
        "function_id": KEY,
        "queue": queue,
        "label": label,
        "args": call(ALL, LONG, {ALL: [LONG, {"deep": ALL}]}, **{ALL: ALL, "word": LONG}),
        "metadata": {ALL: LONG, "pair": ALL},
        "enqueued_by": (ALL + LONG)[:200],
    }
    succeeded = make_finished(result={ALL: [LONG, ALL]}, **common)
    error = {"error_class": (ALL + LONG)[:300], "error_message": ALL + LONG}
    failed = make_finished(
        State.FAILED, parent=succeeded, root=succeeded, attempt=2, failures=2, **error, **common
    )
    make_attempt(failed, 1, **error, traceback=TRACEBACK)
    make_attempt(failed, 2, outcome=Outcome.FAILED, **error, traceback=TRACEBACK)
    waiting = make_run(reason=ALL, **common)
    running = make_run(
        state=State.RUNNING, started_at=ago(seconds=9), attempt=1, rerun_of=failed, **common
    )
    for n, message in enumerate((*TEXTS.values(), LONG, f"{ALL}\n{LONG}\n{ALL}"), start=1):
        LogLine.objects.create(
            run=running,
            attempt=1,
            number=n,
            level=logging.INFO,
            at=ago(seconds=n),
            logger=(ALL + LONG)[:200],
            message=message,
        )
    Progress.objects.create(
        run=running, attempt=1, done=3, total=9, message=(ALL + LONG)[:2000], at=ago()
    )
    return {
        "dashboard": ADMIN,
        "runs": f"{ADMIN}run/",
        "failed run": f"{ADMIN}run/{failed.pk}/change/",
        "succeeded run": f"{ADMIN}run/{succeeded.pk}/change/",
        "waiting run": f"{ADMIN}run/{waiting.pk}/change/",
        "running run": f"{ADMIN}run/{running.pk}/change/",
        "functions": f"{ADMIN}backgroundfunction/",
        "function": f"{ADMIN}backgroundfunction/{quote(KEY)}/change/",
        "definitions": f"{ADMIN}crondefinition/",
        "definition": f"{ADMIN}crondefinition/{definition.pk}/change/",
        "queues": f"{ADMIN}queue/",
        "queue": f"{ADMIN}queue/{quote(queue)}/change/",
        "clusters": f"{ADMIN}cluster/",
    }


PAGES = (
    "dashboard",
    "runs",
    "failed run",
    "succeeded run",
    "waiting run",
    "running run",
    "functions",
    "function",
    "definitions",
    "definition",
    "queues",
    "queue",
    "clusters",
)


@pytest.fixture
def watched_page(admin_page: Page) -> Iterator[Page]:
    """A page that fails the test if a dialog opens or something is fetched that text asked for."""
    wrong: list[str] = []

    def on_dialog(dialog: Dialog) -> None:
        wrong.append(dialog.message)
        dialog.dismiss()

    def on_request(request: Request) -> None:
        if request.url.endswith("/x"):
            wrong.append(request.url)

    admin_page.on("dialog", on_dialog)
    admin_page.on("request", on_request)
    yield admin_page
    assert not wrong


def strange_elements(page: Page) -> list[str]:
    """Return the elements that no page of ours has."""
    return list(
        page.evaluate(
            """() => [...document.querySelectorAll("img[src=x], [onerror], script:not([src])")]
                .filter(e => e.type !== "application/json").map(e => e.outerHTML.slice(0, 200))"""
        )
    )


@pytest.mark.parametrize("name", PAGES)
def test_it_is_text_and_nothing_is_executed(
    watched_page: Page, addresses: dict[str, str], name: str
) -> None:
    watched_page.goto(addresses[name])
    for details in watched_page.locator("details:not(.defer-ask)").all():
        details.evaluate("e => { e.open = true; }")
    assert strange_elements(watched_page) == []
    text = watched_page.locator("body").inner_text()
    assert SCRIPT in text
    assert IMAGE in text or name in ("queues", "clusters")
    assert "{{ 7*7 }}" in text or name in ("queues", "clusters", "dashboard", "queue")
    assert "49{% debug" not in text


@pytest.mark.parametrize("name", PAGES)
def test_no_page_becomes_wider_than_a_telephone(
    watched_page: Page, addresses: dict[str, str], name: str
) -> None:
    watched_page.set_viewport_size({"width": 390, "height": 844})
    watched_page.goto(addresses[name])
    for details in watched_page.locator("details:not(.defer-ask)").all():
        details.evaluate("e => { e.open = true; }")
    assert watched_page.evaluate("document.scrollingElement.scrollWidth") <= 390


@pytest.mark.parametrize("name", ["dashboard", "runs", "failed run", "running run", "function"])
def test_a_change_of_direction_does_not_turn_the_ids_and_times_beside_it(
    watched_page: Page, addresses: dict[str, str], name: str
) -> None:
    watched_page.goto(addresses[name])
    read = watched_page.evaluate(
        """() => [...document.querySelectorAll("#content :is(code, time)")]
            .filter(e => e.checkVisibility() && e.childNodes.length === 1)
            .filter(e => e.firstChild.nodeType === 3 && /^[\\x20-\\x7e]{4,}$/.test(e.textContent))
            .map(e => {
                const place = n => {
                    const range = document.createRange();
                    range.setStart(e.firstChild, n);
                    range.setEnd(e.firstChild, n + 1);
                    return range.getBoundingClientRect();
                };
                const [first, last] = [place(0), place(e.textContent.length - 1)];
                return [e.textContent, first.top !== last.top || first.left < last.left];
            })"""
    )
    assert len(read) > 0
    assert [text for text, is_forwards in read if not is_forwards] == []


def test_hostile_log_lines_and_progress_that_arrive_later_stay_text(
    watched_page: Page, addresses: dict[str, str]
) -> None:
    watched_page.goto(addresses["running run"])
    run = Run.objects.get(state=State.RUNNING)
    LogLine.objects.create(
        run=run, attempt=1, number=7, level=logging.ERROR, at=ago(), message=f"later {ALL}"
    )
    Progress.objects.filter(pk=run.pk).update(done=5, message=f"later {ALL}")
    watched_page.locator(".defer-message", has_text="later").wait_for()
    watched_page.locator("[data-key=Progress]", has_text="later").wait_for()
    assert strange_elements(watched_page) == []
    assert SCRIPT in watched_page.locator(".defer-message", has_text="later").inner_text()


def test_a_point_of_the_chart_says_the_label_as_text(
    watched_page: Page, addresses: dict[str, str]
) -> None:
    watched_page.goto(addresses["function"])
    titles = watched_page.locator(".defer-points title").all_text_contents()
    assert len(titles) == 2
    assert all(SCRIPT in title for title in titles)
