"""The supervisor forks a child when something is to be sent, and lives with whatever it does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, ProgrammingError

from django_defer import alerter
from django_defer.alerter import Alerter
from tests.alerts import LOG
from tests.runs import DATABASE, DATABASES, captured, defer_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db(databases=DATABASES)


class FakeProcess:
    """A child that lives until it is told otherwise."""

    def __init__(self) -> None:
        self.exitcode: int | None = None
        self.was_killed = False

    def is_alive(self) -> bool:
        return self.exitcode is None

    def join(self, timeout: float | None = None) -> None:
        """Return at once."""

    def kill(self) -> None:
        self.was_killed, self.exitcode = True, -9


class Watched(Alerter):
    """Counts its children instead of forking them."""

    def __init__(self, *, is_oldest: bool = True) -> None:
        super().__init__(DATABASE, None, lambda now: is_oldest)  # type: ignore[arg-type]
        self.children: list[FakeProcess] = []

    def _fork(self, now: float) -> None:
        self._born = self._worked_at = now
        self._due_since = None
        self.process = FakeProcess()
        self.children.append(self.process)


class Clock:
    """The monotonic clock, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def due(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what the next looks find: an answer, or an error to raise; the last one stays."""
    answers: list[Any] = [True]

    def is_work_due(using: str, now: object) -> bool:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    monkeypatch.setattr(alerter, "is_work_due", is_work_due)
    return answers


@pytest.fixture(autouse=True)
def _one_channel() -> Iterator[None]:
    with defer_settings(ALERTS=LOG):
        yield


def steps(watched: Watched, clock: Clock, seconds: float) -> None:
    for _ in range(int(seconds * 2)):
        watched.step()
        clock.now += 0.5


def test_a_child_is_forked_when_something_is_due(clock: Clock, due: list[Any]) -> None:
    watched = Watched()
    steps(watched, clock, 5)
    assert len(watched.children) == 1
    watched.children[0].exitcode = 0
    steps(watched, clock, 5)
    assert len(watched.children) == 2


def test_it_is_forked_from_time_to_time_where_nothing_is_due(clock: Clock, due: list[Any]) -> None:
    due[:] = [False]
    watched = Watched()
    steps(watched, clock, 29)
    assert not watched.children
    steps(watched, clock, 4)
    assert len(watched.children) == 1


def test_the_database_is_asked_every_two_seconds(clock: Clock) -> None:
    watched = Watched()
    watched.step()
    with captured() as queries:
        steps(watched, clock, 20)
    assert 9 <= len(queries.captured_queries) <= 11


def test_without_channels_nothing_is_asked(clock: Clock) -> None:
    watched = Watched()
    with defer_settings(ALERTS=()), captured() as queries:
        steps(watched, clock, 100)
    assert not watched.children
    assert not queries.captured_queries


def test_a_younger_cluster_leaves_it_to_the_oldest_for_a_while(
    clock: Clock, due: list[Any]
) -> None:
    watched = Watched(is_oldest=False)
    steps(watched, clock, 14)
    assert not watched.children
    steps(watched, clock, 4)
    assert len(watched.children) == 1


def test_what_the_oldest_does_meanwhile_is_not_done_again(clock: Clock, due: list[Any]) -> None:
    due[:] = [True, True, True, False, True, True, True, False]
    watched = Watched(is_oldest=False)
    steps(watched, clock, 29)
    assert not watched.children


def test_a_child_that_hangs_is_killed(clock: Clock, due: list[Any]) -> None:
    watched = Watched()
    steps(watched, clock, 59)
    assert [each.was_killed for each in watched.children] == [False]
    steps(watched, clock, 5)
    assert [each.was_killed for each in watched.children] == [True, False]


def test_a_child_that_died_is_replaced_after_a_while(
    clock: Clock, due: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched()
    watched.step()
    watched.children[0].exitcode = -9
    steps(watched, clock, 9)
    assert len(watched.children) == 1
    steps(watched, clock, 3)
    assert len(watched.children) == 2
    assert "alerter.died exit_code=-9" in caplog.text


@pytest.mark.parametrize("error", [OperationalError("gone"), ProgrammingError("no such table")])
def test_an_error_of_the_database_is_no_error_of_the_supervisor(
    clock: Clock, due: list[Any], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerter, "drop", lambda using: None)  # the test's own transaction
    due[:] = [error, True]
    watched = Watched()
    watched.step()
    assert not watched.children
    steps(watched, clock, 35)
    assert len(watched.children) == 1


def test_a_stop_gives_the_child_a_moment(clock: Clock, due: list[Any]) -> None:
    watched = Watched()
    watched.stop()
    watched.step()
    watched.stop()
    assert watched.children[0].was_killed
    assert watched.process is None


def test_a_database_that_is_away_postpones(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def work(*arguments: Any, **options: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(alerter, "work", work)
    monkeypatch.setattr(alerter, "drop", lambda using: None)
    with caplog.at_level("INFO", "django_defer"):
        alerter.send_alerts(DATABASE)
    assert "alerts.postponed gone" in caplog.text
