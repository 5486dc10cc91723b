"""The hint to idle clusters: after the commit, throttled, and never an error of the caller's."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from django.db import transaction

from django_defer import wakeup
from django_defer.wakeup import CHANNEL, WINDOW, announce
from tests.runs import (
    DATABASE,
    captured,
    committing,
    database,
    defer_settings,
    fresh,
    rolled_back,
    statements,
)
from tests.testapp.defer import add

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.test.utils import CaptureQueriesContext

    from django_defer.models import Run

pytestmark = committing

on_postgres = pytest.mark.postgres


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        self.now += 2 * WINDOW  # so that nothing is throttled, unless a test holds it
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(wakeup, "time", clock)
    monkeypatch.setattr(wakeup, "_last_sent", 0.0)
    monkeypatch.setattr(wakeup, "_has_warned", False)
    return clock


class Sent:
    """The notifications that have reached the database so far."""

    def __init__(self, queries: CaptureQueriesContext) -> None:
        self.queries = queries

    def __len__(self) -> int:
        return sum(text == f"NOTIFY {CHANNEL}" for text in statements(self.queries))


@pytest.fixture
def sent() -> Iterator[Sent]:
    with captured() as queries:
        yield Sent(queries)


@on_postgres
def test_outside_a_transaction_it_is_sent_at_once(sent: Sent) -> None:
    announce(DATABASE)
    assert len(sent) == 1


@on_postgres
def test_in_a_transaction_it_is_sent_once_and_after_the_commit(sent: Sent) -> None:
    with transaction.atomic(using=DATABASE):
        for _ in range(3):
            announce(DATABASE)
        assert len(database().run_on_commit) == 1
        assert len(sent) == 0
    assert len(sent) == 1


@on_postgres
def test_what_is_rolled_back_is_not_announced(sent: Sent) -> None:
    with rolled_back():
        announce(DATABASE)
    assert len(sent) == 0


@on_postgres
def test_within_the_window_it_is_sent_once(
    sent: Sent, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    moments = iter([1000.0, 1000.0 + WINDOW / 2, 1000.0 + WINDOW * 1.5])
    monkeypatch.setattr(clock, "monotonic", lambda: next(moments))
    announce(DATABASE)
    assert len(sent) == 1
    announce(DATABASE)
    assert len(sent) == 1
    announce(DATABASE)
    assert len(sent) == 2


@on_postgres
def test_an_inner_block_announces_again_only_what_the_outer_one_has_not(sent: Sent) -> None:
    with transaction.atomic(using=DATABASE):
        announce(DATABASE)
        with transaction.atomic(using=DATABASE):
            announce(DATABASE)
            assert len(database().run_on_commit) == 1  # rolled back only together with it
    assert len(sent) == 1


@on_postgres
def test_an_inner_block_that_is_rolled_back_takes_only_its_own_hint_with_it(sent: Sent) -> None:
    with transaction.atomic(using=DATABASE):
        with rolled_back():
            announce(DATABASE)
        announce(DATABASE)
    assert len(sent) == 1


@on_postgres
def test_an_inner_block_that_is_rolled_back_leaves_the_hint_of_one_that_was_not(
    sent: Sent,
) -> None:
    with transaction.atomic(using=DATABASE):
        with transaction.atomic(using=DATABASE):
            announce(DATABASE)
        with rolled_back():
            announce(DATABASE)
    assert len(sent) == 1


@on_postgres
def test_an_inner_block_that_ended_may_be_rolled_back_without_the_hint_of_the_next(
    sent: Sent,
) -> None:
    with transaction.atomic(using=DATABASE):
        with rolled_back():
            with transaction.atomic(using=DATABASE):
                announce(DATABASE)
            announce(DATABASE)
        announce(DATABASE)
    assert len(sent) == 1


@on_postgres
def test_behind_a_callback_of_somebody_else_it_is_sent_once_all_the_same(
    sent: Sent, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(clock, "monotonic", lambda: 1000.0)
    with transaction.atomic(using=DATABASE):
        announce(DATABASE)
        transaction.on_commit(lambda: None, using=DATABASE)
        announce(DATABASE)
    assert len(sent) == 1


@on_postgres
@pytest.mark.parametrize("in_block", [False, True])
def test_a_hint_that_fails_is_a_warning_once_and_no_error_of_the_caller(
    in_block: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wakeup, "CHANNEL", "no channel")  # a syntax error
    caplog.set_level(logging.WARNING)
    made: list[Run] = []
    for number in range(2):
        if in_block:
            with transaction.atomic(using=DATABASE):
                made.append(add(number))
        else:
            made.append(add(number))
    assert [fresh(run).state for run in made] == ["queued", "queued"]
    (record,) = caplog.records
    assert record.__dict__["event"] == "wakeup.failed"
    assert record.levelno == logging.WARNING


@on_postgres
def test_without_the_setting_nothing_is_sent(sent: Sent) -> None:
    with defer_settings(LISTEN=False):
        announce(DATABASE)
        with transaction.atomic(using=DATABASE):
            announce(DATABASE)
            assert not database().run_on_commit
    assert len(sent) == 0


@pytest.mark.sqlite
def test_on_sqlite_nothing_is_sent() -> None:
    with captured() as queries:
        announce(DATABASE)
        with transaction.atomic(using=DATABASE):
            announce(DATABASE)
            assert not database().run_on_commit
    assert statements(queries, besides=("BEGIN", "COMMIT")) == []
