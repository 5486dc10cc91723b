"""Idempotency keys: one unfinished run a key."""

from __future__ import annotations

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from django_defer import InvalidOption
from django_defer.models import Run
from django_defer.states import FINISHED, UNFINISHED, State
from tests import runs
from tests.runs import DATABASE, fresh, new_run
from tests.testapp.defer import add, noop

pytestmark = runs.in_transaction

KEY = "order-17"


def test_while_a_run_with_the_key_is_unfinished_it_is_returned() -> None:
    first = noop.using(key=KEY)(1)
    second = noop.using(key=KEY, label="again")(2)
    assert second == first
    assert Run.objects.count() == 1
    assert (second.key, second.label, second.args) == (KEY, "", first.args)
    assert second.enqueued_at == first.enqueued_at
    assert not second._state.adding


@pytest.mark.parametrize("state", sorted(UNFINISHED))
def test_in_whatever_state_it_is(state: State) -> None:
    first = new_run(state=state, key=KEY)
    assert noop.using(key=KEY)() == first
    assert fresh(first).state == state


def test_a_run_that_has_ended_has_given_its_key_back() -> None:
    first = noop.using(key=KEY)()
    first.cancel()
    assert fresh(first).key is None
    second = noop.using(key=KEY)()
    assert second != first
    assert second.key == KEY
    assert Run.objects.count() == 2
    assert {fresh(first).state} <= FINISHED


def test_without_a_key_each_call_is_a_run() -> None:
    assert noop() != noop()


def test_a_key_of_another_function_is_an_error_that_says_what_to_write() -> None:
    noop.using(key=KEY)()
    with pytest.raises(InvalidOption, match=r'such as "testapp\.add:order-17"'):
        add.using(key=KEY)(1)
    assert Run.objects.count() == 1


def test_many_runs_cannot_share_a_key() -> None:
    with pytest.raises(InvalidOption, match=r"names one run, and \.map\(\) makes many"):
        noop.using(key=KEY).map([1, 2])


def test_a_run_that_is_new_is_announced_and_an_earlier_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    announced: list[str] = []
    monkeypatch.setattr("django_defer.enqueue.announce", announced.append)
    noop.using(key=KEY)()
    noop.using(key=KEY)()
    assert announced == [DATABASE]


def test_a_rollback_gives_the_key_back() -> None:
    with transaction.atomic(using=DATABASE):
        noop.using(key=KEY)()
        transaction.set_rollback(True, using=DATABASE)
    assert noop.using(key=KEY)(5).key == KEY


def test_one_that_ends_between_the_two_statements_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = new_run(key=KEY)
    bulk_create = type(Run.objects.all()).bulk_create
    calls = 0

    def end_it_first(self: object, *args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        made = bulk_create(self, *args, **kwargs)  # type: ignore[arg-type]
        if calls == 1:
            first.cancel()
        return made

    monkeypatch.setattr(type(Run.objects.all()), "bulk_create", end_it_first)
    again = noop.using(key=KEY)()
    assert again != first
    assert calls == 2


def test_it_works_from_async_code() -> None:
    async def twice() -> list[Run]:
        return [await noop.using(key=KEY).aenqueue(), await noop.using(key=KEY).aenqueue()]

    first, second = async_to_sync(twice)()
    assert first == second
