"""The way of a claim from the pusher to a worker, and what is left when one of them dies."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from django_defer.board import Board, Doing
from django_defer.mailbox import STOP, Inbox, Mailbox, Outbox
from django_defer.signals import run_succeeded

if TYPE_CHECKING:
    from collections.abc import Iterator


class Cluster:
    """A board, the mailboxes of two slots, a pusher's outbox, and workers that come and go."""

    def __init__(self) -> None:
        self.board = Board(2)
        self.mailboxes = [Mailbox(), Mailbox()]
        self.outbox = Outbox(self.board, self.mailboxes)

    def worker(self, generation: int = 1, slot: int = 0) -> Inbox:
        self.board.set_generation(slot, generation)
        return Inbox(self.board, slot, generation, self.mailboxes[slot])

    def put(self, name: str, slot: int = 0) -> None:
        self.outbox.put({"slot": slot, "name": name, "args": ([],)})

    def put_and_die_before_noting(self, name: str, slot: int = 0) -> None:
        note, self.board.give = self.board.give, lambda *args: None  # type: ignore[method-assign]
        try:
            self.put(name, slot)
        finally:
            self.board.give = note  # type: ignore[method-assign]

    def is_idle(self, slot: int = 0) -> bool:
        return slot in self.board.idle_slots()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    for mailbox in cluster.mailboxes:
        mailbox.close()


class Reader(threading.Thread):
    """Waits in `get()`, as a worker with nothing to do."""

    def __init__(self, inbox: Inbox) -> None:
        super().__init__(daemon=True)
        self.inbox = inbox
        self.got: Any = None
        self.start()

    def run(self) -> None:
        self.got = self.inbox.get()

    def result(self) -> Any:
        self.join(5)
        assert not self.is_alive(), "it still waits"
        return self.got


def wait_until(condition: Any) -> None:
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_a_message_goes_to_the_slot_that_it_names_and_arrives_whole(cluster: Cluster) -> None:
    first, second = cluster.worker(slot=0), cluster.worker(slot=1)
    long = "x" * 5000
    cluster.put("for the second", slot=1)
    cluster.put(long, slot=0)
    assert second.get()["name"] == "for the second"
    assert first.get()["name"] == long


def test_a_worker_is_idle_while_it_waits_and_busy_as_soon_as_it_has_a_task(
    cluster: Cluster,
) -> None:
    reader = Reader(cluster.worker())
    wait_until(cluster.is_idle)
    cluster.put("a")
    assert reader.result()["name"] == "a"
    assert not cluster.is_idle()
    cell = cluster.board.read(0)
    assert cell is not None
    assert cell.doing is Doing.BUSY


def test_a_worker_that_becomes_idle_wakes_the_pusher(cluster: Cluster) -> None:
    reader = Reader(cluster.worker())
    assert select.select([cluster.board.pusher_bell.fd], [], [], 5)[0]
    assert cluster.is_idle()
    cluster.put("a")
    reader.result()


def test_a_worker_that_asks_gets_the_next_task_without_waiting(cluster: Cluster) -> None:
    inbox, claim = cluster.worker(), uuid4()
    cluster.put("a")
    inbox.get()
    inbox.show(claim_id=claim, attempt=2, deadline=0.0)
    cluster.board.pusher_bell.answer()
    inbox.ask()
    assert select.select([cluster.board.pusher_bell.fd], [], [], 5)[0]
    assert cluster.is_idle()
    cell = cluster.board.read(0)
    assert cell is not None
    assert (cell.doing, cell.claim_id, cell.attempt) == (Doing.BUSY, claim, 2)
    cluster.put("b")
    assert not cluster.is_idle()
    cluster.board.pusher_bell.answer()
    assert inbox.get()["name"] == "b"
    assert not select.select([cluster.board.pusher_bell.fd], [], [], 0)[0]
    assert not cluster.is_idle()


@pytest.mark.parametrize("why", ["it leaves", "somebody is told of the success", ""])
def test_who_leaves_or_has_a_receiver_to_tell_asks_for_nothing(
    cluster: Cluster, request: pytest.FixtureRequest, why: str
) -> None:
    def receive(sender: object, **kwargs: object) -> None:
        """Take long."""

    inbox = cluster.worker()
    cluster.put("a")
    inbox.get()
    inbox.leaving = why == "it leaves"
    if why == "somebody is told of the success":
        run_succeeded.connect(receive)
        request.addfinalizer(lambda: run_succeeded.disconnect(receive))
    inbox.ask()
    assert cluster.is_idle() is not bool(why)


def test_a_worker_with_a_message_that_it_has_not_read_is_not_idle(cluster: Cluster) -> None:
    reader = Reader(cluster.worker())
    wait_until(cluster.is_idle)
    cluster.put("a")
    reader.result()
    inbox = reader.inbox
    cluster.put("b")
    assert not cluster.is_idle()
    assert inbox.get()["name"] == "b"
    reader = Reader(inbox)
    wait_until(cluster.is_idle)
    cluster.put("c")
    assert reader.result()["name"] == "c"


def test_a_message_whose_pusher_died_before_noting_it_is_read_and_not_waited_for(
    cluster: Cluster,
) -> None:
    inbox = cluster.worker()
    cluster.put_and_die_before_noting("a")
    assert inbox.get()["name"] == "a"
    reader = Reader(inbox)
    wait_until(cluster.is_idle)  # the pusher's successor finds it idle
    cluster.put("b")
    assert reader.result()["name"] == "b"
    reader = Reader(inbox)
    wait_until(cluster.is_idle)
    cluster.put("c")
    reader.result()


def test_nothing_is_noted_that_was_not_sent(cluster: Cluster) -> None:
    cluster.mailboxes[0].close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        cluster.put("a")
    assert cluster.board.given(0) == 0


def test_a_message_that_a_dead_worker_left_is_read_by_its_successor(cluster: Cluster) -> None:
    cluster.worker(generation=1)
    cluster.put("a")
    successor = cluster.worker(generation=2)
    assert not cluster.is_idle()
    assert successor.get()["name"] == "a"
    reader = Reader(successor)
    wait_until(cluster.is_idle)
    cluster.put("b")
    assert reader.result()["name"] == "b"


def test_a_successor_does_not_wait_for_what_the_dead_worker_had_read(cluster: Cluster) -> None:
    dead = cluster.worker(generation=1)
    cluster.put("a")
    dead.get()
    reader = Reader(cluster.worker(generation=2))
    wait_until(cluster.is_idle)
    cluster.put("b")
    assert reader.result()["name"] == "b"


def test_a_worker_killed_while_it_waits_leaves_no_lock_behind(cluster: Cluster) -> None:
    child = os.fork()
    if not child:
        cluster.worker(generation=1).get()
        os._exit(0)
    cluster.board.set_generation(0, 1)
    wait_until(cluster.is_idle)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    cluster.put("a")
    assert cluster.worker(generation=2).get()["name"] == "a"


def test_a_full_mailbox_does_not_block_the_pusher(cluster: Cluster) -> None:
    with pytest.raises(BlockingIOError):  # noqa: PT012 - how many fit is the system's affair
        for _ in range(100_000):
            cluster.put("a")
    assert cluster.board.given(0) > 0


def test_a_stop_ends_the_loop(cluster: Cluster) -> None:
    inbox = cluster.worker()
    cluster.mailboxes[0].send({"stop": True})
    assert inbox.get() == STOP


def test_a_worker_that_leaves_takes_nothing_more(cluster: Cluster) -> None:
    inbox = cluster.worker()
    cluster.put("a")
    inbox.leaving = True
    assert inbox.get() == STOP
    assert cluster.worker(generation=2).get()["name"] == "a"


def test_a_worker_shows_what_it_is_at(cluster: Cluster) -> None:
    claim = uuid4()
    inbox = cluster.worker(generation=4)
    cluster.put("a")
    inbox.get()
    inbox.show(claim_id=claim, attempt=3, deadline=9.0)
    cell = cluster.board.read(0)
    assert cell is not None
    assert (cell.generation, cell.claim_id, cell.attempt, cell.deadline) == (4, claim, 3, 9.0)
    assert cell.done == 1


def test_a_worker_is_to_abort_the_very_claim_that_it_shows(cluster: Cluster) -> None:
    claim, half = uuid4(), uuid4()
    inbox, beside = cluster.worker(), cluster.worker(slot=1)
    assert not inbox.is_to_abort()
    inbox.show(claim_id=claim, attempt=1, deadline=9.0)
    beside.show(claim_id=claim, attempt=1, deadline=9.0)
    assert not inbox.is_to_abort()
    cluster.board.abort(0, UUID(bytes=claim.bytes[:8] + half.bytes[8:]))  # as if half written
    assert not inbox.is_to_abort()
    cluster.board.abort(0, claim)
    assert inbox.is_to_abort()
    assert not beside.is_to_abort()
    inbox.show(claim_id=uuid4(), attempt=1, deadline=9.0)
    assert not inbox.is_to_abort()
