"""Public signals: after the commit, harmless when a receiver fails, and one log line each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from django_defer import sentry, signals
from django_defer.attempt_facts import Failure
from django_defer.clock import database_now
from django_defer.endings import MAX_LOSSES
from django_defer.models import Run
from django_defer.reap import SILENT, reap, take_back
from django_defer.seats import WENT_ON
from django_defer.signals import _SIGNALS, RunEvent, emit
from django_defer.states import Outcome, State
from tests import runs
from tests.runs import DATABASE, captured, committing, fresh, new_cluster, new_run, rolled_back

RESERVED = set(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime"}


@pytest.fixture
def heard() -> Iterator[list[RunEvent]]:
    """Collect every event that is sent."""
    events: list[RunEvent] = []

    def receive(sender: object, event: RunEvent, **kwargs: object) -> None:
        events.append(event)

    for signal, _ in _SIGNALS.values():
        signal.connect(receive)
    yield events
    for signal, _ in _SIGNALS.values():
        signal.disconnect(receive)


def facts(**more: Any) -> dict[str, Any]:
    return {"run_id": uuid4(), "function": "shop.compute", "attempt": 2, **more}


def test_a_signal_is_named_like_its_event() -> None:
    for name, (signal, _) in _SIGNALS.items():
        assert getattr(signals, name.replace(".", "_")) is signal


def test_a_receiver_gets_what_happened(heard: list[RunEvent]) -> None:
    given = facts(seconds=1.5, error="ValueError: no", retry_in=timedelta(seconds=30))
    emit("run.retrying", **given)
    assert heard == [RunEvent(name="run.retrying", **given)]


def test_a_receiver_that_raises_is_logged_and_stops_nobody(
    heard: list[RunEvent], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**kwargs: object) -> None:
        raise KeyError("careless")

    signals.run_failed.connect(fail)
    try:
        emit("run.failed", **facts())
    finally:
        signals.run_failed.disconnect(fail)
    assert len(heard) == 1
    (line,) = [text for text in caplog.messages if text.startswith("signal.receiver_failed")]
    assert "run.failed" in line
    assert "KeyError('careless')" in line


@pytest.mark.parametrize("broken", ["is_event_wanted", "receive"])
def test_a_listener_of_ours_that_raises_is_logged_and_stops_nobody(
    broken: str,
    heard: list[RunEvent],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*args: object) -> None:
        raise KeyError("careless")

    monkeypatch.setattr(sentry, "is_event_wanted", lambda name, function: True)
    monkeypatch.setattr(sentry, "receive", lambda event: None)
    monkeypatch.setattr(sentry, broken, fail)
    emit("run.failed", **facts())
    assert len(heard) == 1
    (line,) = [text for text in caplog.messages if text.startswith("signal.receiver_failed")]
    assert "django_defer.sentry" in line


@pytest.mark.parametrize("name", _SIGNALS)
def test_every_event_is_one_log_line_with_its_name_and_no_reserved_key(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "django_defer")
    given = facts(seconds=0.25, error="ValueError: 100% wrong", retry_in=timedelta(seconds=3))
    emit(name, **given)
    (record,) = caplog.records
    assert record.name == "django_defer.runs"
    assert record.getMessage() == (
        f"{name} shop.compute run={given['run_id']} attempt=2 in 0.250s again in 3.0s: "
        "ValueError: 100% wrong"
    )
    extra = {"event": name, "run_id": str(given["run_id"]), "function": "shop.compute"}
    assert record.__dict__.items() >= {**extra, "attempt": 2}.items()
    assert not RESERVED & {*extra, "attempt"}


def test_what_is_unknown_is_left_out_of_the_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "django_defer")
    given = facts()
    emit("run.started", **given)
    assert caplog.messages == [f"run.started shop.compute run={given['run_id']} attempt=2"]


def test_a_level_that_is_switched_off_costs_no_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "django_defer")
    emit("run.started", **facts())
    assert caplog.messages == []


# -- after the commit --------------------------------------------------------------------------


def lost_in_transaction() -> Run:
    cluster = new_cluster(beat_at=runs.LONG_AGO)
    return new_run(state=State.RUNNING, cluster=cluster.pk)


@committing
def test_a_loss_is_told_after_its_commit(heard: list[RunEvent]) -> None:
    run = lost_in_transaction()
    states: list[str] = []

    def look(**kwargs: object) -> None:
        assert not runs.database().in_atomic_block
        states.append(str(fresh(run).state))

    signals.run_lost.connect(look)
    try:
        reap(DATABASE, database_now(DATABASE), timedelta(seconds=30))
    finally:
        signals.run_lost.disconnect(look)
    assert states == [State.SCHEDULED]
    assert [(event.name, event.run_id) for event in heard] == [("run.lost", run.pk)]


@committing
def test_a_loss_that_was_rolled_back_is_not_told(heard: list[RunEvent]) -> None:
    lost_in_transaction()
    with rolled_back():
        reap(DATABASE, database_now(DATABASE), timedelta(seconds=30))
    assert heard == []


@committing
@pytest.mark.parametrize(
    ("failure", "columns", "names"),
    [
        (SILENT, {}, ["run.lost"]),
        (SILENT, {"losses": MAX_LOSSES - 1}, ["run.lost", "run.failed"]),
        (SILENT, {"rerun_if_lost": False}, ["run.lost", "run.failed"]),
        (Failure(outcome=Outcome.TIMED_OUT), {}, ["run.retrying"]),
        (Failure(outcome=Outcome.TIMED_OUT), {"max_attempts": 1}, ["run.failed"]),
        (SILENT, {"abort_requested_at": runs.LONG_AGO}, ["run.aborted"]),
        (WENT_ON, {"abort_requested_at": runs.LONG_AGO}, ["run.aborted"]),
    ],
)
def test_what_follows_from_the_end_of_a_worker_is_told(
    heard: list[RunEvent], failure: Failure, columns: dict[str, Any], names: list[str]
) -> None:
    run = new_run(state=State.RUNNING, **columns)
    assert run.cluster is not None
    take_back(DATABASE, run.cluster, None, failure)
    assert [event.name for event in heard] == names
    assert {event.run_id for event in heard} == {run.pk}


@committing
def test_a_run_that_somebody_else_moved_is_not_told(heard: list[RunEvent]) -> None:
    run = new_run(state=State.SUCCEEDED)
    assert run.cluster is not None
    with captured():
        assert take_back(DATABASE, run.cluster, None, SILENT) == (0, 0)
    assert heard == []


def test_the_signature_of_a_receiver_is_what_the_docs_say() -> None:
    receivers: list[Callable[..., None]] = []

    def receive(sender: type[RunEvent], event: RunEvent, **kwargs: object) -> None:
        assert sender is RunEvent
        assert set(kwargs) == {"signal"}
        receivers.append(receive)

    signals.run_succeeded.connect(receive)
    try:
        emit("run.succeeded", **facts())
    finally:
        signals.run_succeeded.disconnect(receive)
    assert receivers
