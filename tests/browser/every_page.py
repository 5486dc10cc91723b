"""Every page of ours in the admin, with rows that fill it, and how to get there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType

from django_defer.models import (
    AlertChannel,
    BackgroundFunction,
    CronDefinition,
    LogLine,
    Progress,
    Queue,
    Run,
)
from django_defer.states import Outcome, State
from django_defer.sync import sync
from tests.admin_rows import (
    HOSTILE,
    TRACEBACK,
    ago,
    make_alert,
    make_attempt,
    make_cluster,
    make_delivery,
    make_finished,
    make_retrying,
    make_run,
    make_slot,
    prune,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

ADMIN: Final = "/admin/django_defer/"
FEW: Final = ["testapp.add", "testapp.noop", "testapp.recommend"]  # besides those on a schedule
PAUSED: Final[dict[str, Any]] = {"paused_by": "ada", "pause_reason": HOSTILE + "x" * 60}


@dataclass(frozen=True)
class Visit:
    """A page: its address, and what a person does there to see it."""

    path: str
    steps: tuple[Callable[[Page], None], ...] = ()

    def open(self, page: Page) -> None:
        """Go there."""
        page.goto(ADMIN + self.path)
        for step in self.steps:
            step(page)


def every_page() -> dict[str, Visit]:
    """Make the rows, and return all pages by name."""
    sync()
    BackgroundFunction.objects.filter(definition=None).exclude(key__in=FEW).delete()
    paths = {**_lists(), **_definitions(), **_runs(), **_others(), **_alerts()}
    visits = {name: Visit(path) for name, path in paths.items()}
    return visits | _questions(paths)


def _lists() -> dict[str, str]:
    return {
        "dashboard": "",
        "dashboard of a day": "?span=day",
        "dashboard of a week": "?span=week",
        "functions": "backgroundfunction/",
        "functions searched": "backgroundfunction/?q=testapp.a",
        "definitions": "crondefinition/",
        "runs": "run/",
        "runs filtered": "run/?state=failed&function=testapp.recommend",
        "runs searched": "run/?q=nothing-is-called-so",
        "clusters": "cluster/",
        "queues": "queue/",
        "alerts": "alert/",
        "alerts filtered": "alert/?state=open&event=run_failed",
        "channels": "alertchannel/",
    }


def _definitions() -> dict[str, str]:
    definition = CronDefinition.objects.get(function="testapp.weekly")
    make_slot(definition, datetime(2026, 11, 23, 8, tzinfo=UTC), succeeded=2, retrying=1, failed=1)
    span = {"from": ago(days=9).isoformat(), "to": ago(days=8).isoformat(), "by": "ada" * 20}
    others = CronDefinition.objects.exclude(pk=definition.pk)
    paused, late = others[0], others[1]
    changes: list[tuple[CronDefinition, dict[str, Any]]] = [
        (
            definition,
            {
                "timezone_override": "Europe/Paris",
                "overridden_by": "ada",
                "overridden_at": ago(days=3),
                "next_slot_at": ago(hours=-3),
                "pauses": [{**span, "reason": "x" * 200, "ended_by": "bob"}],
            },
        ),
        (paused, {"paused_at": ago(hours=1), "unfired_slot_at": ago(minutes=50), **PAUSED}),
        (late, {"next_slot_at": ago(minutes=20)}),
    ]
    for row, columns in changes:
        CronDefinition.objects.filter(pk=row.pk).update(**columns)
    BackgroundFunction.objects.filter(key="testapp.noop").update(paused_at=ago(hours=1), **PAUSED)
    return {
        "definition": f"crondefinition/{definition.pk}/change/",
        "paused definition": f"crondefinition/{paused.pk}/change/",
        "late definition": f"crondefinition/{late.pk}/change/",
        "history of a definition": f"crondefinition/{definition.pk}/history/",
        "function": "backgroundfunction/testapp.weekly/change/",
        "paused function": "backgroundfunction/testapp.noop/change/",
    }


def _runs() -> dict[str, str]:
    slot = Run.objects.get(slot__isnull=False)
    runs = {
        "slot": slot,
        "failed run": _failed(slot),
        "running run": _running(),
        "retrying run": make_retrying(metadata={"tenant": "acme"}),
        "queued run": make_run(queued_at=ago(seconds=20), label="x" * 90),
        "scheduled run": make_run(state=State.SCHEDULED, run_after=ago(hours=-3)),
        "parked run": make_run(function_id="shop.gone", state=State.PARKED, reason="no_code"),
        "succeeded run": make_finished(result={"sent": [1, 2, 3]}, parent=_pruned()),
        "aborted run": make_finished(State.ABORTED, error_class="RunAborted"),
        "skipped run": make_finished(State.SKIPPED, reason="overlap", function_id="testapp.weekly"),
    }
    for number in range(3):
        make_finished(function_id=f"shop.function_number_{number}", finished_at=ago(seconds=number))
    _write_history(runs["failed run"])
    return {name: f"run/{run.pk}/change/" for name, run in runs.items()} | {
        "history of a run": f"run/{runs['failed run'].pk}/history/"
    }


def _failed(slot: Run) -> Run:
    run = make_finished(
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
    make_attempt(run, 1)
    make_attempt(run, 2, outcome=Outcome.FAILED, traceback=TRACEBACK + "z" * 300)
    return run


def _running() -> Run:
    run = make_run(
        state=State.RUNNING,
        function_id="testapp.recommend",
        started_at=ago(seconds=40),
        attempt=2,
        failures=1,
    )
    make_attempt(run, 1)
    words = [(10, "begun"), (20, "120 sent"), (30, "slow\nand slower"), (40, "x" * 300)]
    for number, (level, message) in enumerate(words, 1):
        LogLine.objects.create(
            run=run,
            attempt=2,
            number=number * 2,
            level=level,
            at=ago(seconds=40 - number),
            logger="shop.mails",
            message=message,
        )
    Progress.objects.create(
        run=run, attempt=2, done=120, total=300, message="sending mails", at=ago(seconds=3)
    )
    return run


def _pruned() -> Run:
    run = make_finished()
    prune(run)
    return run


def _write_history(run: Run) -> None:
    LogEntry.objects.create(
        user=User.objects.get(username="admin"),
        content_type=ContentType.objects.get_for_model(Run),
        object_id=str(run.pk),
        object_repr=str(run),
        action_flag=CHANGE,
        change_message="Enqueued again.",
    )


def _others() -> dict[str, str]:
    live = make_cluster()
    silent = make_cluster(host="worker-2.internal", beat_at=ago(hours=1), ticked_at=ago(hours=1))
    Queue.objects.create(name="mails", paused_at=ago(hours=1), **PAUSED)
    Queue.objects.create(name="default")
    make_run(queue="mails", queued_at=ago(minutes=5))
    return {
        "cluster": f"cluster/{live.pk}/change/",
        "silent cluster": f"cluster/{silent.pk}/change/",
        "queue": "queue/default/change/",
        "paused queue": "queue/mails/change/",
    }


def _alerts() -> dict[str, str]:
    """A database has alerts of channels, of which the settings of the tests have none."""
    failed = Run.objects.filter(state=State.FAILED, label__startswith=HOSTILE).get()
    alert = make_alert(failed, detail="d" * 300)
    alert.examples = [*alert.examples, {**alert.examples[0], "label": HOSTILE, "error": "e" * 300}]
    alert.save()
    make_delivery(alert, 1, sent_at=ago(minutes=18), attempts=1, answer="ok")
    make_delivery(alert, 2, given_up_at=ago(minutes=9), channel="c" * 100, answer="a" * 500)
    make_delivery(alert, 3)
    stalled = make_alert(
        event="queue_stalled",
        subject="mails",
        count=1,
        detail="Its oldest run waits for 12 minutes.",
        acknowledged_at=ago(minutes=1),
        acknowledged_by="ada" * 20,
    )
    over = make_alert(subject="shop." + "x" * 100, closed_at=ago(minutes=1), count=1)
    AlertChannel.objects.create(
        name="slack",
        failures=4,
        not_before=ago(minutes=-8),
        last_sent_at=ago(minutes=18),
        last_error_at=ago(minutes=2),
        last_error="HTTP 503: " + "z" * 300,
    )
    return {
        "alert": f"alert/{alert.pk}/change/",
        "acknowledged alert": f"alert/{stalled.pk}/change/",
        "closed alert": f"alert/{over.pk}/change/",
        "history of an alert": f"alert/{alert.pk}/history/",
        "channel": "alertchannel/slack/change/",
    }


# -- what is seen only after something was pressed -------------------------------------------------


def unfold(page: Page, verb: str) -> None:
    """Open the form of a verb."""
    page.locator("summary.button", has_text=verb).click()


def press(page: Page, name: str) -> None:
    """Press a button that sends a form, and wait for the page that answers it."""
    with page.expect_navigation():
        page.get_by_role("button", name=name, exact=True).click()


def fill(page: Page, label: str, text: str) -> None:
    """Write into a field."""
    page.get_by_label(label).fill(text)


def choose(page: Page, action: str, *, all_that_match: bool = False) -> None:
    """Choose an action for the rows of a list."""
    page.locator("#action-toggle").check()
    page.locator("select[name=action]").select_option(action)
    if all_that_match:  # what Django's script does where there are several pages
        page.locator("input[name=select_across]").evaluate("field => field.value = '1'")
    page.locator("button[name=index]").click()
    page.locator(".defer-question").wait_for()


def open_all(page: Page) -> None:
    """Open what is folded."""
    page.evaluate("document.querySelectorAll('#content details').forEach(e => e.open = true)")


def _questions(paths: dict[str, str]) -> dict[str, Visit]:
    definition, paused = paths["definition"], paths["paused definition"]
    override = partial(unfold, verb="Override")
    nonsense = partial(fill, label="Expression", text="x" * 60)
    weekdays = partial(fill, label="Expression", text="0 9 * * MON-FRI")
    past = "2020-01-01T10:00"
    every = partial(choose, all_that_match=True)
    return {
        "override": Visit(definition, (override,)),
        "override refused": Visit(definition, (override, nonsense, partial(press, name="Save"))),
        "override previewed": Visit(
            definition, (override, weekdays, partial(press, name="Preview"))
        ),
        "override typed": Visit(definition, (override, weekdays, _see_preview)),
        "pause": Visit(definition, (partial(unfold, verb="Pause"),)),
        "pause refused": Visit(
            definition,
            (
                partial(unfold, verb="Pause"),
                partial(fill, label="Or until", text=past),
                partial(press, name="Pause"),
            ),
        ),
        "resume": Visit(paused, (partial(unfold, verb="Resume"),)),
        "run now, done": Visit(definition, (partial(press, name="Run now"),)),
        "cancel refused": Visit("run/", (_cancel_finished,)),
        "abort": Visit(paths["running run"], (partial(unfold, verb="Abort"),)),
        "reschedule refused": Visit(
            paths["scheduled run"],
            (
                partial(unfold, verb="Reschedule"),
                partial(fill, label="Or at", text=past),
                partial(press, name="Reschedule"),
            ),
        ),
        "several paused": Visit("backgroundfunction/", (partial(choose, action="pause_selected"),)),
        "several resumed": Visit("crondefinition/", (partial(choose, action="resume_selected"),)),
        "several aborted": Visit("run/", (partial(choose, action="abort_selected"),)),
        "several rescheduled": Visit("run/", (partial(choose, action="reschedule_selected"),)),
        "all cancelled": Visit("run/?state=queued", (partial(every, action="cancel_selected"),)),
        "all paused": Visit(
            "backgroundfunction/?q=testapp", (partial(every, action="pause_selected"),)
        ),
        "all acknowledged": Visit("alert/", (partial(every, action="acknowledge_selected"),)),
        "failed run, opened": Visit(paths["failed run"], (open_all,)),
        "dashboard, opened": Visit("", (open_all,)),
    }


def _see_preview(page: Page) -> None:
    page.locator("details[open] .defer-preview tbody tr").first.wait_for()


def _cancel_finished(page: Page) -> None:
    page.goto(f"{ADMIN}run/?state=failed")
    page.locator("#action-toggle").check()
    page.locator("select[name=action]").select_option("cancel_selected")
    page.locator("button[name=index]").click()
    page.locator(".messagelist .error").wait_for()
