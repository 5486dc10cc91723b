"""The chart of a function's durations: its points, what is said in words, what is read for it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from django_defer.admin import ended
from django_defer.admin.ended import SHOWN, ended_of
from django_defer.clock import database_now
from django_defer.models import BackgroundFunction, Run
from django_defer.states import State
from tests import runs
from tests.admin_pages import read, words
from tests.runs import DATABASE, NOOP, captured, new_run, plan_of

if TYPE_CHECKING:
    from django.test import Client

pytestmark = runs.in_transaction

HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture
def function() -> BackgroundFunction:
    return BackgroundFunction.objects.create(key=NOOP, options={"max_duration": "5m"})


def end(state: State = State.SUCCEEDED, seconds: float = 1, **columns: Any) -> Run:
    now = database_now(DATABASE)
    began = now - timedelta(seconds=seconds)
    return new_run(state=state, **{"started_at": began, "finished_at": now} | columns)


def page_of(client: Client, function: BackgroundFunction) -> str:
    return read(client, "backgroundfunction", function)


def section_of(page: str) -> str:
    return page.partition("<h2>Durations</h2>")[2].partition("</section>")[0]


def said(client: Client, function: BackgroundFunction) -> str:
    return words(client, "backgroundfunction", function).partition(" Durations ")[2]


def test_each_run_that_ended_is_a_point_that_leads_to_it(
    admin_client: Client, function: BackgroundFunction
) -> None:
    ids = [end(seconds=n).pk for n in (1, 2, 3)]
    section = section_of(page_of(admin_client, function))
    svg = section.partition("<svg")[2].partition("</svg>")[0]
    assert [svg.count(f"/run/{each}/change/") for each in ids] == [1, 1, 1]
    table = section.partition("<table")[2]
    assert [table.count(f"/run/{each}/change/") for each in ids] == [1, 1, 1]
    assert "style=" not in section


def test_what_did_not_succeed_has_another_shape_and_is_counted(
    admin_client: Client, function: BackgroundFunction
) -> None:
    end()
    end(State.FAILED)
    end(State.ABORTED)
    points = section_of(page_of(admin_client, function)).partition("<figcaption")[0]
    assert points.count('<circle class="defer-point') == 1
    assert points.count('<path class="defer-point') == 2
    assert "2 did not succeed." in said(admin_client, function)


def test_half_and_most_of_the_successes_are_said_in_words(
    admin_client: Client, function: BackgroundFunction
) -> None:
    for seconds in range(1, 21):
        end(seconds=seconds)
    end(State.FAILED, 290)
    text = said(admin_client, function)
    assert "The latest 21 runs that ended, the first of them at " in text
    assert "Half of the successes took at most 10.0 s, 95 % of them at most 19.0 s" in text
    assert ", the longest 20.0 s." in text
    assert "1 did not succeed." in text


def test_a_function_without_an_end_says_so(
    admin_client: Client, function: BackgroundFunction
) -> None:
    new_run()
    page = section_of(page_of(admin_client, function))
    assert "No run of it has ended yet." in page
    assert "<svg" not in page


def test_without_a_success_nothing_is_said_of_successes(
    admin_client: Client, function: BackgroundFunction
) -> None:
    end(State.FAILED)
    text = said(admin_client, function)
    assert "1 did not succeed." in text
    assert "Half of the successes" not in text


@pytest.mark.parametrize(("seconds", "is_drawn"), [(200, True), (400, True), (10, False)])
def test_the_limit_is_a_line_where_it_is_in_range(
    admin_client: Client, function: BackgroundFunction, seconds: float, *, is_drawn: bool
) -> None:
    end(seconds=seconds)
    page = section_of(page_of(admin_client, function))
    assert ('class="defer-limit"' in page) == is_drawn
    assert "The limit, max_duration, is 5m" in page
    assert ("far above what is drawn" in page) != is_drawn


@pytest.mark.parametrize("options", [{}, {"max_duration": HOSTILE}, {"max_duration": None}])
def test_a_limit_that_cannot_be_read_is_left_out(admin_client: Client, options: Any) -> None:
    function = BackgroundFunction.objects.create(key=NOOP, options=options)
    end()
    assert "The limit" not in section_of(page_of(admin_client, function))


def test_runs_that_never_started_or_waited_for_a_retry_are_no_points() -> None:
    end(State.CANCELLED)
    end(State.DISCARDED)
    end(started_at=None)
    new_run(state=State.RUNNING)
    assert ended_of(NOOP).runs == ()


def test_text_of_runs_is_escaped(admin_client: Client, function: BackgroundFunction) -> None:
    end(State.FAILED, label=HOSTILE, error_class=HOSTILE, error_message=HOSTILE)
    page = page_of(admin_client, function)
    assert "&lt;script&gt;alert(1)" in section_of(page)
    assert "<script>alert" not in page


def test_points_stand_where_their_time_and_duration_say(
    admin_client: Client, function: BackgroundFunction
) -> None:
    now = database_now(DATABASE)
    for minutes, seconds in ((20, 0), (10, 5), (0, 10)):
        at = now - timedelta(minutes=minutes)
        end(started_at=at - timedelta(seconds=seconds), finished_at=at)
    page = section_of(page_of(admin_client, function)).partition("<figcaption")[0]
    found = re.findall(r'<circle class="defer-point[^"]*" cx="([\d.]+)%" cy="([\d.]+)%"', page)
    assert found == [("0", "100"), ("50", "50"), ("100", "0")]


# -- what is read ----------------------------------------------------------------------------------


def test_no_more_than_the_newest_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended, "SHOWN", 3)
    made = [end() for _ in range(5)]
    assert [run.pk for run in ended_of(NOOP).runs] == [run.pk for run in reversed(made[2:])]


def test_those_behind_many_that_wait_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large fan-out: what ends now was enqueued long before the newest."""
    monkeypatch.setattr(ended, "LOOKED_AT", 4)
    made = [end() for _ in range(2)]
    new_run(state=State.RUNNING)
    for _ in range(10):
        new_run()
    assert [run.pk for run in ended_of(NOOP).runs] == [run.pk for run in reversed(made)]


def test_it_is_said_when_not_all_were_looked_at(
    admin_client: Client, function: BackgroundFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    end()
    for _ in range(10):
        new_run()
    assert "No run of it has ended yet." not in section_of(page_of(admin_client, function))
    monkeypatch.setattr(ended, "LOOKED_AT", 4)
    text = said(admin_client, function)
    assert "None of the newest 4 runs has ended." in text


@pytest.mark.postgres
def test_a_large_table_is_not_read() -> None:
    """The worst there is: what ended is behind a backlog, and other functions are about."""
    ids = "lpad(to_hex({} + n), 32, '{}0000000')::uuid"
    times = {"started_at": "now()", "finished_at": "now()"}
    runs.fill(State.SUCCEEDED, 30_000, id=ids.format(0, "0"), **times)
    runs.fill(State.SUCCEEDED, 10_000, id=ids.format(50_000, "0"), function="'shop.other'", **times)
    runs.fill(State.QUEUED, 10_000, id=ids.format(0, "f"))
    new_run(state=State.RUNNING)
    with captured() as queries:
        assert len(ended_of(NOOP).runs) == SHOWN
    assert len(queries) == 3
    plans = [plan_of(query["sql"]) for query in queries.captured_queries]
    assert not [plan for plan in plans if "Seq Scan" in plan]
    assert ["defer_run_function" in plan and "Sort" not in plan for plan in plans] == [
        True,
        False,
        True,
    ]


@pytest.mark.postgres
def test_a_function_with_few_runs_beside_many_is_read_from_its_index() -> None:
    runs.fill(State.SUCCEEDED, 30_000, function="'shop.other'")
    end()
    with captured() as queries:
        assert len(ended_of(NOOP).runs) == 1
    assert all("Seq Scan" not in plan_of(query["sql"]) for query in queries.captured_queries)
