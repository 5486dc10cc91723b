"""One attempt at a run, in a worker: start, call, finish.

`work` is what django-q2's worker calls with a list of claims; ids are all it gets. The start is
a gate: 0 rows means that the claim was taken away and the function must not run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from django.db import connections
from django.db.transaction import TransactionManagementError

from django_defer import attempts
from django_defer.attempt_events import report_after_commit, report_late, report_refused, tell
from django_defer.attempt_facts import Started
from django_defer.board import Board
from django_defer.claims import Claim
from django_defer.conf import conf
from django_defer.connections import (
    Freshness,
    cancel_queries,
    clean_up_after_user_code,
    enter_atomic,
    persistently,
)
from django_defer.context import CurrentRun, running
from django_defer.exceptions import Cancel, DeferError, RunAborted, UnreadablePayload
from django_defer.failures import Hopeless, delay_before_retry, describe
from django_defer.interrupts import Interrupts
from django_defer.mailbox import Inbox
from django_defer.models import Run
from django_defer.overlaps import end_waits
from django_defer.process import only_in_this_process
from django_defer.redaction import hider
from django_defer.registry import Function, registry
from django_defer.run_logs import Recorder, Scribe
from django_defer.states import ACTIVE, State
from django_defer.stored_calls import read_call, write_result
from django_defer.surroundings import surrounded
from django_defer.wakeup import announce

logger = logging.getLogger(__name__)

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

    def execute(self, claim: Claim) -> None:
        """Make one attempt; return when its outcome is in the database."""
        self.show(claim, 0.0)
        self.freshness.check()
        started = self.persist(lambda: attempts.start(self.using, claim, self.worker))
        if started is None:
            if not self.persist(lambda: attempts.discard_expired(self.using, claim)):
                report_refused(claim)
            else:
                self.let_next_slot_begin(None)
            return
        with surrounded(started):
            tell("run.started", started, None)
            self.attempt(started)
        self.let_next_slot_begin(started)
        self.ended += 1
        if self.inbox is not None and self.ended >= int(conf.max_runs_per_worker):
            self.inbox.leaving = True  # the supervisor replaces this process by a fresh one

    def attempt(self, started: Started) -> None:
        """Call the function and record how it went."""
        began = time.perf_counter()
        function = registry.find(started.function)
        try:
            if function is None:  # claims take known keys only, so this is a bug or a reload
                raise UnreadablePayload(f"This worker has no function {started.function!r}.")
            committed = self.call(function, started)
        except ClaimLost:
            self.tidy()
            report_late(started)
        except BaseException as error:  # noqa: BLE001 - SystemExit in a function is its failure
            self.tidy()
            self.record_failure(function, started, error, time.perf_counter() - began)
        else:
            if committed:
                tell("run.succeeded", started, time.perf_counter() - began)
            else:
                report_late(started)

    def call(self, function: Function[Any, Any], started: Started) -> bool:
        """Call the function and write its result; an atomic one in the same transaction.

        The board shows a deadline from the call until both are done, so that the supervisor also
        ends what hangs in a commit's hooks.
        """
        args, kwargs = read_call(function, started.args)
        try:
            with running(_current(started), self.recorder(started)):
                if function.options.atomic:
                    self.call_atomically(function, started, args, kwargs)
                else:
                    result = self.body(function, started, args, kwargs)
        finally:
            self.show(started.claim, 0.0)
        self.tidy()
        if function.options.atomic:
            return True
        return bool(
            self.persist(
                lambda: (
                    attempts.succeed(self.using, started, result)
                    or self.was_written(started, State.SUCCEEDED)
                )
            )
        )

    def call_atomically(
        self, function: Function[Any, Any], started: Started, args: Any, kwargs: Any
    ) -> None:
        """Call the function and write its result in one transaction, or neither."""
        with only_in_this_process(), ExitStack() as stack:  # a commit's hooks may fork, too
            enter_atomic(stack, self.using)
            savepoints = list(connections[self.using].savepoint_ids)
            result = self.body(function, started, args, kwargs)
            if connections[self.using].savepoint_ids != savepoints:
                raise TransactionManagementError("The function left a transaction open.")
            if not attempts.succeed(self.using, started, result):
                raise ClaimLost

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
                attempts.fail(self.using, started, failure, retry_in) or self.state_written(started)
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
            end = partial(attempts.cancel_running, self.using, started, failure.error_message)
            state, event = State.CANCELLED, "run.cancelled"
        else:
            end = partial(attempts.abort_running, self.using, started, failure)
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

    def state_written(self, started: Started) -> State | None:
        """Return the state that an earlier write of this attempt, which went through, led to."""
        claim = started.claim
        runs = Run.objects.using(self.using).filter(pk=claim.run_id, claim_id=claim.claim_id)
        state = runs.exclude(state__in=ACTIVE).values_list("state", flat=True).first()
        return None if state is None else State(state)

    def was_written(self, started: Started, state: State) -> bool:
        """Say whether an earlier try of the same write went through after all."""
        return self.state_written(started) == state

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
        claim, hide = started.claim, hider(started.function, started.args)
        return Recorder(self.scribe, claim.run_id, claim.attempt, hide)

    def show(self, claim: Claim, deadline: float) -> None:
        """Say on the board which claim this worker is at."""
        if self.inbox is not None:
            self.inbox.show(claim_id=claim.claim_id, attempt=claim.attempt, deadline=deadline)


def _current(started: Started) -> CurrentRun:
    return CurrentRun(
        id=started.claim.run_id,
        function=started.function,
        attempt=started.claim.attempt,
        is_last_attempt=started.failures + 1 >= started.max_attempts,
        root_id=started.root_id,
        slot=started.slot,
        missed_slots=started.missed_slots,
        started_at=started.started_at,
        metadata=started.metadata,
    )


_executor: Executor | None = None


def install(executor: Executor) -> None:
    """Make `executor` the one that `work` uses in this process."""
    global _executor
    _executor = executor


def work(claims: Sequence[Sequence[Any]]) -> None:
    """Execute a list of claims (django-q2's worker calls this by name)."""
    if _executor is None:
        raise DeferError("django_defer.executor.work runs in a worker of defer_worker only.")
    for data in claims:
        board = _executor.board
        if board is not None and (board.is_stopping or board.is_stale):
            return  # what is not started goes back to the queue
        try:
            _executor.execute(Claim.from_list(data))
        except Exception as error:
            logger.exception(
                "run.unrecorded run=%s: this worker ends, so that the run is taken back",
                data[0],
                extra={"event": "run.unrecorded", "run_id": data[0]},
            )
            raise SystemExit(1) from error
