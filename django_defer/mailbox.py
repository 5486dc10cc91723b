"""Mailboxes: how the pusher hands claims to workers. One a slot, no locks, whole messages.

django-q2's worker reads `get()` in a loop and its pusher calls `put()`. A multiprocessing queue
keeps its lock when its reader is killed, which freezes a cluster; a datagram socket has none,
and outlives the worker: what a dead worker didn't read, its successor reads (and its claims,
released meanwhile, are refused at the start).
"""

from __future__ import annotations

import json
import socket
from typing import Any, Final
from uuid import UUID

from django_defer.board import Board, Doing
from django_defer.signals import RunEvent, run_succeeded

STOP: Final = "STOP"  # what ends the loop of django-q2's worker


class Mailbox:
    """A slot's message pipe. `send` may be called by pusher and supervisor."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._writer.setblocking(False)

    def send(self, message: dict[str, Any]) -> None:
        """Send one message, whole."""
        self._writer.send(json.dumps(message, separators=(",", ":")).encode())

    def receive(self, *, wait: bool) -> dict[str, Any] | None:
        """Return the next message; None when there is none and `wait` is off."""
        try:
            return dict(json.loads(self._reader.recv(65536, 0 if wait else socket.MSG_DONTWAIT)))
        except BlockingIOError:
            return None

    def close(self) -> None:
        """Close both ends."""
        self._reader.close()
        self._writer.close()


class Outbox:
    """What django-q2's pusher believes to be the task queue: sorts tasks into mailboxes."""

    def __init__(self, board: Board, mailboxes: list[Mailbox]) -> None:
        self._board = board
        self._mailboxes = mailboxes

    def put(self, task: dict[str, Any]) -> None:
        """Give the task to the worker whose slot it names. Sent first, noted second: what is
        noted was sent, even when the pusher is killed between the two."""
        slot = int(task["slot"])
        ticket = self._board.next_ticket(slot)
        claims = [UUID(claim_id) for _, claim_id, _ in task["args"][0]]
        self._mailboxes[slot].send({**task, "ticket": ticket})
        self._board.give(slot, ticket, claims)


class Inbox:
    """What django-q2's worker believes to be the task queue: its own mailbox and its cell."""

    def __init__(
        self,
        board: Board,
        slot: int,
        generation: int,
        mailbox: Mailbox,
        **more: Any,
    ) -> None:
        """`more` is what the task of each message has, besides what was sent."""
        self._more = more
        self._board = board
        self._slot = slot
        self._generation = generation
        self._mailbox = mailbox
        self._done = 0
        self._shown: dict[str, Any] = {}
        self.spent = 0.0  # seconds that the attempts of the last task took
        self.leaving = False

    def get(self) -> Any:
        """Return the next task, or "STOP" when told to or `leaving`.

        Says on the board that it is idle while it waits.
        """
        if self.leaving:
            return STOP
        given = self._board.given(self._slot)
        message = self._mailbox.receive(wait=False) if given > self._done else None
        if message is None:  # nothing was left, so everything up to `given` has been taken
            self._done = max(self._done, given)
            self._show(Doing.IDLE)
            self._board.pusher_bell.ring()
            message = self._mailbox.receive(wait=True)
        self._show(Doing.BUSY)
        if message is None or "stop" in message:
            return STOP
        self._done = max(self._done, int(message["ticket"]))
        self.spent = 0.0
        return {**message, **self._more}

    def show(self, *, claim_id: UUID, **what: Any) -> None:
        """Write this worker's cell while it is busy: claim_id, attempt, deadline."""
        self._shown = {"claim_id": claim_id, **what}
        self._show(Doing.BUSY, **self._shown)

    def ask(self) -> None:
        """Ask for the next task, if there is to be one, while the end of this one is written.

        Not where a receiver will be told of that end: it might take long, and the task wait.
        """
        if self.leaving or run_succeeded.has_listeners(RunEvent):
            return
        self._show(Doing.BUSY, asks=True, **self._shown)
        self._board.pusher_bell.ring()

    def is_to_abort(self) -> bool:
        """Say whether the supervisor wants the claim shown last to end."""
        return self._board.claim_to_abort(self._slot) == self._shown.get("claim_id")

    def is_recalled(self) -> bool:
        """Say whether the pusher wants back what is not begun yet of the task taken last."""
        return self._done > 0 and self._board.is_recalled(self._slot, self._done)

    def _show(self, doing: Doing, **what: Any) -> None:
        self._board.write(
            self._slot,
            generation=self._generation,
            doing=doing,
            done=self._done,
            spent=self.spent,
            **what,
        )
