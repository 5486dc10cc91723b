"""A time limit or an abort that arrives while a worker is not in the function does nothing.

Both signals are raised before and after each step of ours: reading the queue, start, reading the
arguments, storing the result, finish and what follows it.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from django_defer import RunAborted, TimeLimitExceeded, attempts, endings
from django_defer import executor as executor_module
from django_defer.board import Board
from django_defer.chunk_writes import ChunkWrites
from django_defer.connections import Freshness
from django_defer.executor import Executor
from django_defer.interrupts import Interrupts
from django_defer.mailbox import Inbox, Mailbox
from django_defer.states import State
from tests import runs
from tests.runs import DATABASE, claim_for, fresh, new_cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.runs import Define

pytestmark = runs.committing

SIGNALS = (signal.SIGALRM, signal.SIGUSR1)


class EagerInbox(Inbox):
    """A worker's inbox; what it shows is to be aborted as long as `aborts` is set."""

    aborts = False

    def is_to_abort(self) -> bool:
        """Say yes while a signal is injected, as if the supervisor had just asked for it."""
        return self.aborts


@pytest.fixture
def inbox() -> Iterator[EagerInbox]:
    mailbox, board = Mailbox(), Board(1)
    board.set_generation(0, 1)
    yield EagerInbox(board, 0, 1, mailbox)
    mailbox.close()


@pytest.fixture
def executor(inbox: EagerInbox) -> Iterator[Executor]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield Executor(
        using=DATABASE,
        worker="0.1",
        inbox=inbox,
        board=None,
        interrupts=Interrupts(),
        freshness=Freshness(),
    )
    for number, handler in before.items():
        signal.signal(number, handler)


# Each a step of ours, by where it is found.
POINTS: dict[str, tuple[Any, str]] = {
    "the board is written": (EagerInbox, "show"),
    "the connection is tested": (Freshness, "check"),
    "the start": (attempts, "start"),
    "the arguments are read": (executor_module, "read_call"),
    "the timer is set": (signal, "setitimer"),
    "the result is stored": (executor_module, "write_result"),
    "the finish": (ChunkWrites, "finish"),
    "the finish of an atomic one": (attempts, "succeed"),
    "a failure is described": (executor_module, "describe"),
    "a failure is written": (endings, "fail"),
    "leftovers are removed": (executor_module, "clean_up_after_user_code"),
    "it is told": (executor_module, "tell"),
    "the next slot's run may begin": (Executor, "let_next_slot_begin"),
}
ONLY_IF_IT_RETURNS = {"the result is stored"}
ONLY_IF_IT_FAILS = {"a failure is described", "a failure is written"}


@pytest.fixture(params=POINTS, ids=str)
def injected(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, inbox: EagerInbox
) -> list[str]:
    """Raise both signals before and after this step; return how often they were."""
    owner, name = POINTS[request.param]
    step: Callable[..., Any] = getattr(owner, name)
    hits: list[str] = []

    def inject() -> None:
        inbox.aborts = True
        for number in SIGNALS:
            signal.raise_signal(number)
        inbox.aborts = False
        hits.append(name)

    def between_signals(*args: Any, **kwargs: Any) -> Any:
        inject()
        value = step(*args, **kwargs)
        inject()
        return value

    monkeypatch.setattr(owner, name, between_signals)
    return hits


@pytest.mark.parametrize("atomic", [False, True], ids=["plain", "atomic"])
@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
def test_signals_outside_of_the_function_change_nothing(
    executor: Executor,
    define: Define,
    injected: list[str],
    request: pytest.FixtureRequest,
    fails: bool,
    atomic: bool,
) -> None:
    def function() -> str:
        if fails:
            raise ValueError("its own error")
        return "done"

    run = define(function, retry=False, atomic=atomic)()
    ((_, claim),) = claim_for(new_cluster(), keys=(str(run.function_id),))
    executor.execute(claim)
    run = fresh(run)
    if fails:
        assert (run.state, run.error) == (State.FAILED, "ValueError: its own error")
    else:
        assert (run.state, run.result) == (State.SUCCEEDED, "done")
    point = request.node.callspec.params["injected"]
    if point == "the finish of an atomic one":
        assert bool(injected) == (atomic and not fails)
    else:
        assert bool(injected) == (point not in (ONLY_IF_IT_RETURNS if fails else ONLY_IF_IT_FAILS))


def test_signals_while_it_reads_its_queue_change_nothing(
    inbox: EagerInbox, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = Mailbox.receive
    waits: list[bool] = []

    def interrupted(mailbox: Mailbox, *, wait: bool) -> Any:
        inbox.aborts = True
        for number in SIGNALS:
            signal.raise_signal(number)
        inbox.aborts = False
        waits.append(wait)
        return receive(mailbox, wait=wait)

    monkeypatch.setattr(Mailbox, "receive", interrupted)
    inbox._mailbox.send({"ticket": 1, "what": "a task"})
    assert inbox.get()["what"] == "a task"
    assert waits == [True]


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGALRM, TimeLimitExceeded), (signal.SIGUSR1, RunAborted)]
)
def test_the_same_signals_inside_of_the_function_end_it(
    executor: Executor,
    inbox: EagerInbox,
    define: Define,
    number: signal.Signals,
    error: type[BaseException],
) -> None:
    seen: list[BaseException] = []

    def function() -> None:
        inbox.aborts = True
        try:
            signal.raise_signal(number)
        except BaseException as raised:
            seen.append(raised)
            raise

    run = define(function, retry=False)()
    ((_, claim),) = claim_for(new_cluster(), keys=(str(run.function_id),))
    executor.execute(claim)
    assert [type(each) for each in seen] == [error]
    assert fresh(run).state == (State.ABORTED if error is RunAborted else State.FAILED)
