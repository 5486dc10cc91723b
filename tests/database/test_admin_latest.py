"""The latest runs of a function in the admin: marks that are links, successes and durations."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from django_defer.admin.latest import JUDGED, MARKS, Latest, latest_of
from django_defer.clock import database_now
from django_defer.models import BackgroundFunction
from django_defer.states import State
from tests import runs
from tests.admin_pages import read, words
from tests.runs import DATABASE, NOOP, captured, new_run, plan_of

if TYPE_CHECKING:
    from django.test import Client

pytestmark = runs.in_transaction


def ended(state: State, seconds: float = 1, **columns: Any) -> Any:
    now = database_now(DATABASE)
    return new_run(
        state=state, started_at=now - timedelta(seconds=seconds), finished_at=now, **columns
    )


def latest(key: str = NOOP) -> Latest:
    return latest_of([key]).get(key, Latest())


def test_the_newest_of_each_function_come_first_and_no_more_than_are_judged() -> None:
    made = [new_run() for _ in range(JUDGED + 2)]
    other = new_run("shop.other")
    found = latest_of([NOOP, "shop.other", "shop.none"])
    assert [run.pk for run in found[NOOP].runs] == [run.pk for run in reversed(made[2:])]
    assert [run.pk for run in found["shop.other"].runs] == [other.pk]
    assert "shop.none" not in found
    assert latest_of([]) == {}


def test_it_is_one_query_for_any_number_of_functions() -> None:
    with captured() as queries:
        latest_of([f"shop.f{n}" for n in range(50)])
    assert len(queries) == 1


@pytest.mark.postgres
def test_each_is_read_from_the_index_of_its_function() -> None:
    runs.fill(State.SUCCEEDED, 5000)  # most runs there are
    runs.fill(State.SUCCEEDED, 500, function="'shop.third'")
    with captured() as queries:
        latest_of([NOOP, "shop.other"])
    plan = plan_of(queries.captured_queries[0]["sql"])
    assert plan.count("defer_run_function") == 2
    assert "Sort" not in plan


def test_what_nobody_is_to_blame_for_does_not_count() -> None:
    for state in State:
        new_run(state=state)
    assert latest().share == (1, 4)  # beside it failed, aborted and discarded


def test_durations_are_those_of_the_successes() -> None:
    assert latest().duration(50) is None
    for seconds in range(1, 21):
        ended(State.SUCCEEDED, seconds)
    ended(State.FAILED, 1000)
    assert latest().duration(50) == timedelta(seconds=10)
    assert latest().duration(95) == timedelta(seconds=19)


def test_the_list_shows_a_mark_a_run_each_a_link_and_the_last_failure(admin_client: Client) -> None:
    BackgroundFunction.objects.create(key=NOOP)
    failed = ended(State.FAILED, error_class="shop.errors.CardDeclined")
    good = [ended(State.SUCCEEDED) for _ in range(MARKS + 3)]
    page = read(admin_client, "backgroundfunction")
    assert page.count('class="defer-mark ') == MARKS
    assert page.count("defer-mark--succeeded") == MARKS
    assert f"/run/{good[-1].pk}/change/" in page
    assert f"/run/{good[0].pk}/change/" not in page
    assert f"/run/{failed.pk}/change/" in page  # as the last failure
    assert "CardDeclined" in page
    assert "93 % of 16" in page


def test_the_page_says_it_in_words(admin_client: Client) -> None:
    row = BackgroundFunction.objects.create(key=NOOP)
    text = words(admin_client, "backgroundfunction", row)
    assert "Succeeded" not in text
    ended(State.SUCCEEDED, 2)
    text = words(admin_client, "backgroundfunction", row)
    assert "Succeeded 100 % of 1" in text
