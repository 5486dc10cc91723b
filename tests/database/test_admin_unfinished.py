"""The numbers of unfinished runs beside each function: exact up to a limit, and said to be more."""

from __future__ import annotations

import pytest

from django_defer.admin import unfinished as module
from django_defer.admin.unfinished import Unfinished, unfinished_of
from django_defer.states import State
from tests.runs import DATABASES, captured, new_run

pytestmark = pytest.mark.django_db(databases=DATABASES)


def test_each_function_has_its_own_numbers_in_one_query() -> None:
    for state in (State.QUEUED, State.QUEUED, State.RUNNING, State.SUCCEEDED):
        new_run("shop.a", state=state)
    new_run("shop.b", state=State.PARKED)
    with captured() as queries:
        found = unfinished_of(["shop.a", "shop.b", "shop.c"])
    assert len(queries) == 1
    assert found["shop.a"].counts == {State.QUEUED: 2, State.RUNNING: 1}
    assert (found["shop.a"].waiting, found["shop.a"].active) == ("2", "1")
    assert (found["shop.b"].waiting, found["shop.b"].active) == ("1", "")
    assert found["shop.c"] == Unfinished()


def test_more_than_are_looked_at_are_said_to_be_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LOOKED_AT", 3)
    for _ in range(6):
        new_run("shop.a", state=State.QUEUED)
    new_run("shop.a", state=State.RUNNING)
    found = unfinished_of(["shop.a", "shop.b"])
    assert (found["shop.a"].waiting, found["shop.a"].active) == ("4+", "1")
    assert found["shop.b"].waiting == "0+"  # there may be some among those that were not looked at


def test_of_no_function_nothing_is_asked() -> None:
    with captured() as queries:
        assert unfinished_of([]) == {}
    assert len(queries) == 0
