"""What each page of the admin asks: a bounded number of queries, and no count of all runs.

The plain lists, the dashboard and the health view have tests of their own beside what they show.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from django_defer import pauses
from django_defer.clock import DatabaseNow
from django_defer.models import BackgroundFunction, Cluster, CronDefinition, LogLine, Run
from django_defer.states import State
from tests import runs
from tests.admin_rows import (
    ago,
    make_attempt,
    make_cluster,
    make_finished,
    make_retrying,
    make_run,
    make_slot,
)
from tests.runs import captured, new_definition, statements

if TYPE_CHECKING:
    from django.test import Client

pytestmark = runs.in_transaction

KEY: Final = "shop.busy"
LISTS: Final = ("", "backgroundfunction/", "crondefinition/", "run/", "cluster/", "queue/")
SEARCHES: Final = (
    *(f"state={state}" for state in (*State, "retrying")),
    *(f"enqueued={span}" for span in ("hour", "today", "day", "week")),
    *(f"trouble={kind}" for kind in ("attempts", "failures", "losses")),
    *(f"origin={origin}" for origin in ("slot", "run", "rerun", "call")),
    f"function={KEY}",
    "queue=default",
    "error=ValueError",
    "q=shop",
    "q=order:1",
    "q=0123456789ab",
    "q=01234567",
    "q=did not answer",
)


class World:
    """Rows of every kind; `grow` adds more of each, to the same function, definition and runs."""

    def __init__(self) -> None:
        self.definition = new_definition(KEY, "0 * * * *", ago(minutes=-5))
        self.cluster = make_cluster()
        pauses.pause_queue("mail")
        self.parent = make_slot(self.definition, ago(hours=1), succeeded=1, retrying=1, failed=1)
        self.failed = make_finished(State.FAILED, function_id=KEY, failures=1)
        self.running = make_run(
            state=State.RUNNING, attempt=1, started_at=ago(minutes=1), cluster=self.cluster.pk
        )
        self.queued = make_run(function_id=KEY, queued_at=ago(minutes=1))
        self._lines = 0
        self.grow()

    def grow(self, number: int = 1) -> None:
        """Add so many of each."""
        for n in range(number):
            relatives: dict[str, Any] = {"parent": self.parent, "root": self.parent}
            make_retrying(function_id=KEY, definition=self.definition, **relatives)
            make_finished(function_id=KEY, label="order", metadata={"order": "1"}, **relatives)
            make_finished(State.FAILED, function_id=KEY, error_class="ValueError", **relatives)
            make_finished(function_id=KEY, rerun_of=self.failed, slot=ago(days=n + 2))
            make_run(function_id=KEY, state=State.RUNNING, attempt=1, cluster=self.cluster.pk)
            make_run(function_id=KEY, queued_at=ago(minutes=1))
            make_run(function_id=KEY, state=State.PARKED, reason="no_code")
            make_attempt(self.failed, n + 2)
            make_cluster()
            self._lines += 1
            LogLine.objects.create(
                run=self.running,
                attempt=1,
                number=self._lines,
                level=20,
                at=DatabaseNow(),
                message="line",
            )
            other = f"shop.other_{self._lines}"
            row = new_definition(other, "0 8 * * *", ago(hours=-1), last_slot_at=ago(hours=1))
            last = make_finished(function_id=other, definition=row, slot=ago(hours=1))
            CronDefinition.objects.filter(pk=row.pk).update(last_run=last)


Ask = Callable[["Client", World], Any]


def page(kind: type, row: str) -> Ask:
    """Ask for the page of this row of the world."""

    def ask(client: Client, world: World) -> Any:
        found = getattr(world, row)
        pk = KEY if kind is BackgroundFunction else found.pk
        return client.get(reverse(f"admin:django_defer_{kind.__name__.lower()}_change", args=[pk]))

    return ask


def listed(path: str) -> Ask:
    return lambda client, world: client.get(f"/admin/django_defer/{path}")


def question(verb: str, query: str) -> Ask:
    """Choose a verb for all that matches."""
    posted = {"action": f"{verb}_selected", "select_across": "1", "_selected_action": "all"}
    return lambda client, world: client.post(f"/admin/django_defer/run/?{query}", posted)


def override(client: Client, world: World) -> Any:
    url = reverse("admin:django_defer_crondefinition_override", args=[world.definition.pk])
    return client.post(url, {"expression": "0 9 * * *", "timezone": "UTC", "preview": "1"})


def explain(row: str) -> Ask:
    def ask(client: Client, world: World) -> None:
        name = KEY if row == "definition" else str(getattr(world, row).pk)
        call_command("defer_explain", name, stdout=StringIO())

    return ask


def status(client: Client, world: World) -> None:
    with suppress(CommandError):  # there may be trouble
        call_command("defer_status", stdout=StringIO())


# What is asked, and how many queries it may take; two of each are for the session and the person.
OF_RUNS: Final = ("runs, ", "all ")  # they look further where a page is not full
ASKED: Final[dict[str, tuple[Ask, int]]] = {
    "admin index": (lambda client, world: client.get("/admin/"), 3),
    "a function": (page(BackgroundFunction, "definition"), 10),
    "a definition": (page(CronDefinition, "definition"), 8),
    "a definition to be overridden": (override, 4),
    "a cluster": (page(Cluster, "cluster"), 4),
    "a run of a slot with children": (page(Run, "parent"), 13),
    "a failed run with attempts": (page(Run, "failed"), 13),
    "a running run with log lines": (page(Run, "running"), 13),
    "a run that waits": (page(Run, "queued"), 14),
    "all failed runs, to be run again": (question("rerun", "state=failed"), 19),
    "all queued runs, to be cancelled": (question("cancel", "state=queued"), 19),
    "all runs of a function, to be run again": (question("rerun", f"function={KEY}"), 19),
    "defer_status": (status, 14),
    "defer_explain of a definition": (explain("definition"), 12),
    "defer_explain of a failed run": (explain("failed"), 12),
    "defer_explain of a run that waits": (explain("queued"), 12),
    **{f"runs, {query}": (listed(f"run/?{query}"), 17) for query in SEARCHES},
}


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("name", ASKED)
def test_it_takes_a_bounded_number_of_queries_however_many_rows_there_are(
    admin_client: Client, world: World, name: str
) -> None:
    ask, most = ASKED[name]

    def count() -> int:
        with captured() as queries:
            response = ask(admin_client, world)
        assert response is None or response.status_code == 200
        return len(statements(queries))

    few = count()
    world.grow(15)
    many = count()
    assert max(few, many) <= most
    if not name.startswith(OF_RUNS):
        assert many <= few


@pytest.mark.parametrize("verb", ["rerun", "cancel"])
def test_a_question_about_all_that_match_does_not_read_them_from_the_oldest_on(
    admin_client: Client, world: World, verb: str
) -> None:
    with captured() as queries:
        question(verb, "state=queued")(admin_client, world)
    asked = [sql for sql in statements(queries) if "= 'queued'" in sql]
    assert len(asked) >= 3  # the list, two examples, the newest
    for sql in asked:
        assert not re.search(r'ORDER BY ("\w+"\.)?("id"|1)( ASC)?( LIMIT|\)|$)', sql), sql


# -- counting --------------------------------------------------------------------------------------

# A count may be of the runs in hand, of which there are as many as workers; of those enqueued since
# a moment; of what a LIMIT cuts off.
BOUNDED: Final = re.compile(
    r"LIMIT \d+|\bIN \('claimed', 'running'\)|id >= ", re.IGNORECASE | re.DOTALL
)
COUNT: Final = re.compile(r"\bcount\s*\(", re.IGNORECASE)


def unbounded_counts(queries: Any) -> list[str]:
    """Return the recorded statements that count runs, however many there are."""
    return [
        sql
        for sql in statements(queries)
        if COUNT.search(sql) and "django_defer_run" in sql and not BOUNDED.search(sql)
    ]


def test_this_file_knows_a_count_of_all_runs(world: World) -> None:
    with captured() as queries:
        Run.objects.count()
        Run.objects.filter(function=KEY).count_by_state()
    assert len(unbounded_counts(queries)) == 2
    with captured() as queries:
        Run.objects.all()[:10].count()
        Run.objects.filter(function=KEY).exists()
    assert unbounded_counts(queries) == []


@pytest.mark.parametrize("name", [*ASKED, *LISTS])
def test_it_never_counts_runs_without_a_bound(
    admin_client: Client, world: World, name: str
) -> None:
    ask = ASKED[name][0] if name in ASKED else listed(name)
    with captured() as queries:
        ask(admin_client, world)
    assert queries.captured_queries
    assert unbounded_counts(queries) == []
