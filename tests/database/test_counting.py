"""Counting up to a limit: right below it, and quick beyond it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from django_defer import counting
from django_defer.counting import count_each, sum_up, up_to_limit
from django_defer.run_facts import RETRYING, count_children
from django_defer.states import State
from tests import runs
from tests.runs import captured, database, fill, new_run

pytestmark = runs.in_transaction


@pytest.fixture
def at_most_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MOST_COUNTED", 2)


def test_it_counts_each_value_that_occurs() -> None:
    for queue in ("mail", "mail", "default"):
        new_run(queue=queue)
    new_run(queue="mail", state=State.SUCCEEDED)
    counts = count_each("queue", ["mail", "default", "no such"], "state = 'queued'")
    assert counts == {"mail": 2, "default": 1}


def test_it_asks_nothing_where_nothing_is_wanted() -> None:
    with captured() as queries:
        assert count_each("queue", [], "state = 'queued'") == {}
    assert len(queries) == 0


@pytest.mark.usefixtures("at_most_two")
def test_it_stops_at_the_limit_of_each_value() -> None:
    for queue in ("mail", "mail", "mail", "mail", "default"):
        new_run(queue=queue)
    counts = count_each("queue", ["mail", "default"], "state = 'queued'")
    assert counts == {"mail": 3, "default": 1}
    assert [up_to_limit(n) for n in counts.values()] == ["2+", "1"]
    assert sum_up(list(counts.values())) == "3+"
    assert sum_up([2, 1]) == "3"
    assert sum_up([]) == "0"


def test_children_that_wait_for_a_retry_are_counted_apart_from_the_delayed_ones() -> None:
    parent = new_run(state=State.SUCCEEDED)
    family: list[dict[str, Any]] = [{"failures": 1}, {"losses": 1}, {}]
    for columns in family:
        new_run(state=State.SCHEDULED, parent=parent, **columns)
    new_run(state=State.SUCCEEDED, parent=parent)
    assert count_children(parent.pk) == {"succeeded": 1, "scheduled": 1, RETRYING: 2}
    assert count_children(uuid4()) == {}


@pytest.mark.postgres
def test_many_children_are_counted_by_an_index_that_is_read_up_to_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent = new_run(state=State.SUCCEEDED)
    fill(State.SUCCEEDED, 60_000)
    fill(State.SUCCEEDED, 150, parent_id=f"'{parent.pk}'")
    fill(State.FAILED, 3, parent_id=f"'{parent.pk}'")
    monkeypatch.setattr(counting, "MOST_COUNTED", 100)
    with captured() as queries:
        assert count_children(parent.pk) == {"succeeded": 101, "failed": 3}
    (query,) = queries.captured_queries
    with database().cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query['sql']}")
        plan = cursor.fetchone()[0][0]["Plan"]
    assert "defer_run_parent" in str(plan)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 500
