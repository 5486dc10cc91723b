"""Attempts in a worker, one after the other: start, call, finish.

The start is a gate: 0 rows means that the claim was taken away and the function must not run.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from django.db import connections
from django.db.transaction import TransactionManagementError

from django_defer import attempts, endings
from django_defer.attempt_events import report_after_commit, report_late, report_refused, tell
from django_defer.attempt_facts import Started, Success
from django_defer.board import Board
from django_defer.chunk_writes import ChunkWrites
from django_defer.claims import Claim
from django_defer.conf import conf
from django_defer.connections import (
    Freshness,
    cancel_queries,
    clean_up_after_user_code,
    enter_atomic,
    persistently,
)
from django_defer.context import running
from django_defer.exceptions import Cancel, DeferError, RunAborted, UnreadablePayload
from django_defer.failures import Hopeless, delay_before_retry, describe
from django_defer.interrupts import Interrupts
from django_defer.mailbox import Inbox
from django_defer.outcomes import is_success_wanted
from django_defer.overlaps import end_waits
from django_defer.process import only_in_this_process
from django_defer.redaction import hider
from django_defer.registry import Function, registry
from django_defer.run_logs import Recorder, Scribe
from django_defer.states import State
from django_defer.stored_calls import read_call, write_result
from django_defer.surroundings import surrounded
from django_defer.wakeup import announce

_FINAL: Final = {State.FAILED: "run.failed", State.ABORTED: "run.aborted"}


class ClaimLost(DeferError):
    """The claim was taken away while the function ran: its transaction is rolled back."""


@dataclass(slots=True)
class Executor:
    """Executes claims one after the other in this process."""

    using: str
    worker: str
    inbox: Inbox | None
    board: Board | None
    interrupts: Interrupts
    freshness: Freshness
    scribe: Scribe | None = None
    ended: int = 0
    at: Claim | None = None
    writes: ChunkWrites = field(init=False)

    def __post_init__(self) -> None:
        self.writes = ChunkWrites(self.using, self.worker)

    def execute(self, *claims: Claim) -> None:
        """Make an attempt at each; return when all outcomes are in the database, for good.

        Leaves what is not begun when the cluster stops or it is wanted back; else asks for more.
        """
        for claim in claims:
            if self.is_to_leave_the_rest():
                break
            self.execute_one(claim)
        else:
            if self.inbox is not None:
                self.inbox.ask()
        success = self.writes.unwritten
        self.tell_success(success, written=self.persist(self.writes.finish))

    def execute_one(self, claim: Claim) -> None:
        """Make one attempt; a plain success is written with the next start, or at the end."""
        self.at = claim
        self.show(claim, 0.0)
        self.freshness.check()
        success = self.writes.unwritten
        written, started = self.persist(lambda: self.writes.start(claim))
        self.tell_success(success, written=written)
        if started is None:
            if not self.persist(lambda: attempts.discard_expired(self.using, claim)):
                report_refused(claim)
            else:
                self.let_next_slot_begin(None)
            return
        began = time.monotonic()
        with surrounded(started):
            tell("run.started", started, None)
            self.attempt(started)
        self.let_next_slot_begin(started)
        self.ended += 1
        if self.inbox is not None:
            self.inbox.spent += time.monotonic() - began
            # The supervisor replaces a process that leaves by a fresh one.
            self.inbox.leaving = self.ended >= int(conf.max_runs_per_worker)

    def attempt(self, started: Started) -> None:
        """Call the function and record how it went."""
        began = time.perf_counter()
        function = registry.find(started.function)
        try:
            if function is None:  # claims take known keys only, so this is a bug or a reload
                raise UnreadablePayload(f"This worker has no function {started.function!r}.")
            result = self.call(function, started)
            success = Success(started, result, time.perf_counter() - began)
            if not function.options.atomic:
                self.succeed(success)
                return
        except ClaimLost:
            self.tidy()
            report_late(started)
        except BaseException as error:  # noqa: BLE001 - SystemExit in a function is its failure
            self.tidy()
            self.record_failure(function, started, error, time.perf_counter() - began)
        else:
            self.tell_success(success, written=True)

    def succeed(self, success: Success) -> None:
        """Write the success, or leave it to the next start where nothing else goes with it."""
        started = success.started
        if started.definition_id is None and not is_success_wanted(
            started.function, success.seconds
        ):
            self.writes.unwritten = success
            return
        written = self.persist(
            lambda: (
                attempts.succeed(self.using, success) or self.was_written(started, State.SUCCEEDED)
            )
        )
        self.tell_success(success, written=written)

    def tell_success(self, success: Success | None, *, written: bool) -> None:
        """Say that it counts, or that it came too late to."""
        if success is None:
            return
        if written:
            tell("run.succeeded", success.started, success.seconds)
        else:
            report_late(success.started)

    def call(self, function: Function[Any, Any], started: Started) -> str:
        """Call the function and return its result; an atomic one's is written by then.

        The board shows a deadline from the call until both are done, so that the supervisor also
        ends what hangs in a commit's hooks.
        """
        args, kwargs = read_call(function, started.args)
        try:
            with running(started.as_current_run(), self.recorder(started)):
                if function.options.atomic:
                    result = self.call_atomically(function, started, args, kwargs)
                else:
                    result = self.body(function, started, args, kwargs)
        finally:
            self.show(started.claim, 0.0)
        self.tidy()
        return result

    def call_atomically(
        self, function: Function[Any, Any], started: Started, args: Any, kwargs: Any
    ) -> str:
        """Call the function and write its result in one transaction, or neither."""
        with only_in_this_process(), ExitStack() as stack:  # a commit's hooks may fork, too
            enter_atomic(stack, self.using)
            savepoints = list(connections[self.using].savepoint_ids)
            began = time.monotonic()
            result = self.body(function, started, args, kwargs)
            if connections[self.using].savepoint_ids != savepoints:
                raise TransactionManagementError("The function left a transaction open.")
            seconds = time.monotonic() - began
            if not attempts.succeed(self.using, Success(started, result, seconds)):
                raise ClaimLost
        return result

    def body(self, function: Function[Any, Any], started: Started, args: Any, kwargs: Any) -> str:
        """Call the function within its time limit; return what it returned, as JSON."""
        limit = function.options.max_duration.total_seconds()
        self.show(started.claim, time.monotonic() + limit)
        try:
            with only_in_this_process(), self.interrupts.limited(limit, self.is_to_abort):
                value = self.interrupts.call(function.function, *args, **kwargs)
        except BaseException:
            cancel_queries()  # before the transaction's end, which would need the connection
            raise
        return write_result(function, value)

    def record_failure(
        self,
        function: Function[Any, Any] | None,
        started: Started,
        error: BaseException,
        seconds: float,
    ) -> None:
        """Write the failed attempt, and when it is tried again."""
        if isinstance(error, (Cancel, RunAborted)):
            self.record_end(started, error, seconds)
            return
        hide = hider(started.function, started.args)
        cause = error.__cause__ or error if isinstance(error, Hopeless) else error
        failure = describe(cause, hide)
        retry_in = delay_before_retry(function, started, error)
        state = self.persist(
            lambda: (
                endings.fail(self.using, started, failure, retry_in)
                or attempts.state_written(self.using, started.claim)
            )
        )
        if state is None:
            report_late(started)
        elif state == State.SUCCEEDED:
            report_after_commit(started, error, failure if hide else None)
            tell("run.succeeded", started, seconds)
        else:
            text = f"{failure.error_class}: {failure.error_message}"
            if event := _FINAL.get(state):
                tell(event, started, seconds, error=text, exception=cause)
                return
            tell("run.retrying", started, seconds, error=text, retry_in=retry_in, exception=cause)
            if self.board is not None:
                self.board.supervisor_bell.ring()  # it may be due before the next look

    def record_end(self, started: Started, error: Cancel | RunAborted, seconds: float) -> None:
        """Write that the function cancelled its run, or that an operator aborted it."""
        failure = describe(error, hider(started.function, started.args))
        if isinstance(error, Cancel):
            end = partial(endings.cancel_running, self.using, started, failure.error_message)
            state, event = State.CANCELLED, "run.cancelled"
        else:
            end = partial(endings.abort_running, self.using, started, failure)
            state, event = State.ABORTED, "run.aborted"
        if self.persist(lambda: end() or self.was_written(started, state)):
            tell(event, started, seconds, error=failure.error_message)
        else:
            report_late(started)

    def let_next_slot_begin(self, started: Started | None) -> None:
        """Queue the run of a newer slot that waits for this one's end; None: look at all."""
        definitions = None
        if started is not None:
            if started.definition_id is None:
                return
            definitions = [started.definition_id]
        if self.persist(lambda: end_waits(self.using, definitions)):
            announce(self.using)

    def tidy(self) -> None:
        """Undo what the function may have left on the connections."""
        clean_up_after_user_code()

    def was_written(self, started: Started, state: State) -> bool:
        """Say whether an earlier try of the same write went through after all."""
        return attempts.state_written(self.using, started.claim) == state

    def is_to_leave_the_rest(self) -> bool:
        """Say whether what is not begun yet is to be left: it goes back to the queue."""
        if self.board is not None and (self.board.is_stopping or self.board.is_stale):
            return True
        inbox = self.inbox
        return inbox is not None and (inbox.leaving or inbox.is_recalled())

    def persist(self, action: Any) -> Any:
        """Write until the database takes it; give up only when the whole cluster ends."""
        return persistently(self.using, action, give_up=self.is_abandoned)

    def is_abandoned(self) -> bool:
        """Say whether nobody would notice any more what this worker does."""
        return self.board is not None and self.board.is_stale and self.board.is_stopping

    def is_to_abort(self) -> bool:
        """Say whether the supervisor wants the claim that this worker shows to end."""
        return self.inbox is not None and self.inbox.is_to_abort()

    def recorder(self, started: Started) -> Recorder | None:
        """Return what takes down the log lines and the progress of an attempt."""
        if self.scribe is None:
            return None
        claim = started.claim
        hide = partial(hider, started.function, started.args)
        return Recorder(self.scribe, claim.run_id, claim.attempt, hide)

    def show(self, claim: Claim, deadline: float) -> None:
        """Say on the board which claim this worker is at."""
        if self.inbox is not None:
            self.inbox.show(claim_id=claim.claim_id, attempt=claim.attempt, deadline=deadline)
