"""When an idle pusher looks again: what was notified, and what was throttled away after it."""

from __future__ import annotations

import socket
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from django_defer.board import Board, Doing
from django_defer.broker import RunBroker
from django_defer.wakeup import WINDOW

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def broker() -> Iterator[RunBroker]:
    """Return a broker whose connection listens, and hears nothing."""
    ours, theirs = socket.socketpair()
    broker = RunBroker("default", uuid4(), ["default"], ["shop.f"], Board(1))
    broker._session = SimpleNamespace(fileno=ours.fileno)
    with ours, theirs:
        yield broker


def test_after_a_notification_it_looks_again_a_window_later(broker: RunBroker) -> None:
    before = time.monotonic()
    broker._on_notification(None)
    broker._wait_for_notification()
    assert time.monotonic() - before >= WINDOW
    assert broker._look_again_at is None


def test_a_worker_that_is_done_meanwhile_makes_that_no_later(broker: RunBroker) -> None:
    broker._look_again_at = again = time.monotonic() + 30
    broker.board.pusher_bell.ring()
    broker._wait_for_notification()
    assert broker._look_again_at == again > time.monotonic() + 20


def test_what_is_notified_meanwhile_is_looked_at_at_once(broker: RunBroker) -> None:
    ours, theirs = socket.socketpair()
    broker._session = SimpleNamespace(fileno=ours.fileno)
    broker._look_again_at = again = time.monotonic() + 30
    with ours, theirs:
        theirs.send(b"!")
        broker._wait_for_notification()
    assert broker._look_again_at == again > time.monotonic() + 20


@pytest.mark.parametrize("why", ["stale", "no keys"])
def test_it_sleeps_where_it_claims_nothing_whatever_is_notified(
    broker: RunBroker, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.board.set_generation(0, 1)
    broker.board.write(0, generation=1, doing=Doing.IDLE, done=0)
    if why == "stale":
        broker.board.stale_after = -1.0
    else:
        broker.keys = []
    listened: list[object] = []
    monkeypatch.setattr(broker, "_select", lambda seconds, *sockets: listened.extend(sockets))
    assert broker.board.idle_slots() == [0]
    assert broker.dequeue() == broker.dequeue() == []
    assert listened == []
