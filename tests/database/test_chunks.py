"""Several claims at once: what a worker writes of them, and when the rest goes back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from django.db import OperationalError, connections

from django_defer import attempts, chunk_writes
from django_defer.board import Board, Doing
from django_defer.broker import RunBroker
from django_defer.chunk_watch import PATIENCE
from django_defer.claims import Claim
from django_defer.mailbox import Inbox, Mailbox
from django_defer.models import Attempt, Run
from django_defer.registry import registry
from django_defer.signals import run_succeeded
from django_defer.statements import execute
from django_defer.states import State
from tests import runs
from tests.runs import DATABASE, NOOP, claim_for, defer_settings, fresh, new_cluster, new_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django_defer.executor import Executor
    from tests.runs import Define

pytestmark = runs.committing


def chunk(function: Any, count: int) -> tuple[list[Run], list[Claim]]:
    """Enqueue calls with 0, 1, 2…; return their runs, claimed by one worker at once."""
    made = [function(number) for number in range(count)]
    claims = claim_for(new_cluster(), *["0.1"] * count, keys=(function.key,))
    assert [mine.run_id for _, mine in claims] == [run.pk for run in made]
    return made, [mine for _, mine in claims]


def states(made: list[Run]) -> list[str]:
    return [fresh(run).state for run in made]


@pytest.fixture
def said() -> Iterator[list[int]]:
    """What was said to have succeeded: the results, as they were in the database by then."""
    results: list[int] = []

    def receive(sender: object, event: Any, **kwargs: object) -> None:
        assert not runs.database().in_atomic_block
        results.append(Run.objects.get(pk=event.run_id, state=State.SUCCEEDED).get_result())

    run_succeeded.connect(receive)
    yield results
    run_succeeded.disconnect(receive)


@pytest.fixture
def called() -> list[int]:
    return []


@pytest.fixture
def count_up(define: Define, called: list[int]) -> Any:
    """A function that notes its argument and returns it."""

    def count_up(number: int) -> int:
        called.append(number)
        return number

    return define(count_up)


def after(number: int, do: Callable[[], object], called: list[int], define: Define) -> Any:
    """Return a function that notes its argument, and does this when it is `number`."""

    def step(at: int) -> int:
        called.append(at)
        if at == number:
            do()
        return at

    return define(step, retry=False)


# -- what is written -------------------------------------------------------------------------------


def test_all_of_it_is_executed_in_order_and_said(
    executor: Executor, count_up: Any, called: list[int], said: list[int]
) -> None:
    made, claims = chunk(count_up, 5)
    executor.execute(*claims)
    assert called == said == [0, 1, 2, 3, 4]
    for run in map(fresh, made):
        assert (run.state, run.attempt, run.worker) == (State.SUCCEEDED, 1, "0.1")
        assert run.started_at is not None
        assert run.finished_at is not None
        assert run.started_at <= run.finished_at
    assert executor.ended == 5


@pytest.mark.postgres
def test_each_success_goes_with_the_next_start_and_one_commit_waits_for_the_disk(
    executor: Executor, count_up: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, claims = chunk(count_up, 4)
    sent = noted(monkeypatch, attempts)
    executor.execute(*claims)
    assert [("'succeeded'" in sql, "'running', started_at" in sql) for sql in sent] == [
        (False, True),
        (True, True),
        (True, True),
        (True, True),
        (True, False),
    ]
    assert ["synchronous_commit" in sql for sql in sent] == [True, True, True, True, False]


def noted(monkeypatch: pytest.MonkeyPatch, module: Any) -> list[str]:
    """Return the list in which each statement that the module sends is noted."""
    sent: list[str] = []

    def noting(using: str, sql: str, values: Any, **how: Any) -> Any:
        sent.append(sql)
        return execute(using, sql, values, **how)

    monkeypatch.setattr(module, "execute", noting)
    return sent


def test_while_one_runs_those_before_it_have_succeeded(
    executor: Executor, define: Define, called: list[int]
) -> None:
    seen: list[list[str]] = []
    function = after(2, lambda: seen.append(states(made)), called, define)
    made, claims = chunk(function, 4)
    executor.execute(*claims)
    assert seen == [[State.SUCCEEDED, State.SUCCEEDED, State.RUNNING, State.CLAIMED]]


def test_a_failure_in_the_middle_ends_that_run_alone(
    executor: Executor, define: Define, called: list[int], said: list[int]
) -> None:
    def fail() -> None:
        raise ValueError("no")

    made, claims = chunk(after(1, fail, called, define), 3)
    executor.execute(*claims)
    assert called == [0, 1, 2]
    assert said == [0, 2]
    assert states(made) == [State.SUCCEEDED, State.FAILED, State.SUCCEEDED]


def test_a_time_limit_in_the_middle_ends_that_run_alone(executor: Executor, define: Define) -> None:
    def wait(number: int) -> int:
        while number == 1:
            pass
        return number

    made, claims = chunk(define(wait, retry=False, max_duration=0.05), 3)
    executor.execute(*claims)
    assert states(made) == [State.SUCCEEDED, State.FAILED, State.SUCCEEDED]
    assert Attempt.objects.get().outcome == "timed_out"


@pytest.mark.parametrize("where", [0, 1, 3])
def test_what_was_cancelled_meanwhile_is_not_begun(
    executor: Executor, count_up: Any, called: list[int], said: list[int], where: int
) -> None:
    made, claims = chunk(count_up, 4)
    made[where].cancel()
    executor.execute(*claims)
    expected = [number for number in range(4) if number != where]
    assert called == said == expected
    assert fresh(made[where]).state == State.CANCELLED


def test_a_success_whose_claim_was_taken_away_does_not_count(
    executor: Executor, define: Define, called: list[int], said: list[int]
) -> None:
    def take_away() -> None:
        Run.objects.filter(pk=made[1].pk).update(claim_id=uuid4())

    made, claims = chunk(after(1, take_away, called, define), 3)
    executor.execute(*claims)
    assert called == [0, 1, 2]
    assert said == [0, 2]
    assert states(made) == [State.SUCCEEDED, State.RUNNING, State.SUCCEEDED]


def crash(made: list[Run], *, also_the_start: Run | None = None) -> None:
    """Forget what a database forgets that crashes, and be cut off from it."""
    forget(made + ([also_the_start] if also_the_start else []))
    connections[DATABASE].close()


def forget(made: list[Run]) -> None:
    """Take back the commits that did not wait for the disk."""
    lost = {"state": State.CLAIMED, "started_at": None, "finished_at": None, "result": None}
    Run.objects.filter(pk__in=[run.pk for run in made]).update(**lost)


@pytest.mark.postgres
@pytest.mark.parametrize("where", [1, 2, 3])
def test_what_a_crash_of_the_database_took_back_is_written_again(
    executor: Executor, define: Define, called: list[int], where: int
) -> None:
    def fall() -> None:
        crash(made[:where], also_the_start=made[where])

    made, claims = chunk(after(where, fall, called, define), 4)
    executor.execute(*claims)
    assert called == [0, 1, 2, 3]
    assert [fresh(run).get_result(5) for run in made] == [0, 1, 2, 3]


@pytest.mark.postgres
def test_behind_a_pooler_it_is_written_again_though_nobody_noticed_the_crash(
    executor: Executor, define: Define, called: list[int]
) -> None:
    def fall() -> None:
        forget(made[:2])

    made, claims = chunk(after(2, fall, called, define), 4)
    with defer_settings(PREPARE_STATEMENTS=False):
        executor.execute(*claims)
    assert called == [0, 1, 2, 3]
    assert [fresh(run).get_result(5) for run in made] == [0, 1, 2, 3]


@pytest.mark.postgres
def test_also_when_the_last_one_failed_or_was_not_begun(
    executor: Executor, define: Define, called: list[int]
) -> None:
    def fall() -> None:
        crash(made[:2], also_the_start=made[2])
        raise ValueError("the last one")

    made, claims = chunk(after(2, fall, called, define), 3)
    executor.execute(*claims)
    assert states(made) == [State.SUCCEEDED, State.SUCCEEDED, State.FAILED]
    made, claims = chunk(after(1, lambda: crash(made[:1]), called, define), 3)
    made[2].cancel()
    executor.execute(*claims)
    assert states(made) == [State.SUCCEEDED, State.SUCCEEDED, State.CANCELLED]


@pytest.mark.postgres
def test_what_was_written_is_made_durable_when_the_last_one_fails(
    executor: Executor, define: Define, called: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ValueError("no")

    sent = noted(monkeypatch, chunk_writes)
    executor.execute(*chunk(after(2, fail, called, define), 3)[1])
    assert sent == [chunk_writes._WAIT_FOR_DISK]


@pytest.mark.postgres
def test_what_was_written_is_made_durable_when_the_last_commit_writes_nothing(
    executor: Executor, define: Define, called: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_away() -> None:
        Run.objects.filter(pk=made[1].pk).update(claim_id=uuid4())
        made[2].cancel()

    made, claims = chunk(after(1, take_away, called, define), 3)
    sent = noted(monkeypatch, chunk_writes)
    executor.execute(*claims)
    assert sent == [chunk_writes._WAIT_FOR_DISK]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_statement_whose_answer_is_lost_is_repeated(
    executor: Executor,
    count_up: Any,
    called: list[int],
    said: list[int],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    """The database did it, and the connection broke before it could say so."""
    left = [number]

    def breaking(using: str, sql: str, values: Any, **how: Any) -> Any:
        rows = execute(using, sql, values, **how)
        left[0] -= 1
        if left[0] == 0 and not runs.database().in_atomic_block:
            raise OperationalError("the connection is gone")
        return rows

    monkeypatch.setattr(attempts, "execute", breaking)
    monkeypatch.setattr("django_defer.connections.time.sleep", lambda seconds: None)
    made, claims = chunk(count_up, 3)
    executor.execute(*claims)
    assert called == said == [0, 1, 2]
    assert states(made) == [State.SUCCEEDED] * 3


# -- what is left ----------------------------------------------------------------------------------


def in_a_cluster(executor: Executor) -> Board:
    """Put the executor into slot 0 of a cluster, and give it what has ticket 1."""
    board = Board(1)
    board.set_generation(0, 1)
    mailbox = Mailbox()
    inbox = Inbox(board, 0, 1, mailbox)
    mailbox.send({"ticket": 1})
    board.give(0, 1)
    inbox.get()
    mailbox.close()
    executor.board, executor.inbox = board, inbox
    return board


@pytest.mark.parametrize("leaves", [False, True])
def test_a_worker_asks_for_more_before_it_writes_how_the_last_run_went(
    executor: Executor,
    count_up: Any,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    leaves: bool,
) -> None:
    settings.DEFER = {**settings.DEFER, "MAX_RUNS_PER_WORKER": 2 if leaves else 3}
    board = in_a_cluster(executor)
    made, claims = chunk(count_up, 2)
    free = []
    finish = executor.writes.finish

    def look_and_finish() -> bool:
        free.append((board.idle_slots(), [run.state for run in map(fresh, made)]))
        return finish()

    monkeypatch.setattr(executor.writes, "finish", look_and_finish)
    assert board.idle_slots() == []
    executor.execute(*claims)
    assert free == [([] if leaves else [0], [State.SUCCEEDED, State.RUNNING])]
    assert states(made) == [State.SUCCEEDED] * 2


@pytest.mark.parametrize("way", ["recall", "stop"])
def test_what_is_wanted_back_is_not_begun(
    executor: Executor,
    define: Define,
    called: list[int],
    said: list[int],
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    board = in_a_cluster(executor)
    asked: list[Inbox] = []
    monkeypatch.setattr(Inbox, "ask", asked.append)
    leave = {"recall": lambda: board.recall(0, 1), "stop": board.stop}[way]
    made, claims = chunk(after(1, leave, called, define), 4)
    executor.execute(*claims)
    assert called == said == [0, 1]
    assert states(made) == [State.SUCCEEDED] * 2 + [State.CLAIMED] * 2
    assert asked == []


def test_what_came_with_another_ticket_is_not_meant(
    executor: Executor, count_up: Any, called: list[int]
) -> None:
    in_a_cluster(executor).recall(0, 2)
    executor.execute(*chunk(count_up, 3)[1])
    assert called == [0, 1, 2]


# -- who gets how many -----------------------------------------------------------------------------


class Pusher:
    """A broker with a board whose workers are idle."""

    def __init__(self, workers: int = 2) -> None:
        self.board = Board(workers)
        self.cluster = new_cluster()
        self.broker = RunBroker(DATABASE, self.cluster.pk, ["default"], registry.keys(), self.board)
        for slot in range(workers):
            self.board.set_generation(slot, 1)
            self.idle(slot)

    def idle(self, slot: int) -> None:
        given = self.board.given(slot)
        self.board.write(slot, generation=1, doing=Doing.IDLE, done=given)

    def claim(self) -> dict[int, list[list[Any]]]:
        """Let it claim, and hand over; return what each slot got."""
        got: dict[int, list[list[Any]]] = {}
        for _, task in self.broker.dequeue():
            (claims,) = task["args"]
            slot = task["slot"]
            ids = [Claim.from_list(each).claim_id for each in claims]
            self.board.give(slot, self.board.given(slot) + 1, ids)
            got[slot] = claims
        return got

    def at(self, slot: int, claim: list[Any]) -> None:
        mine = Claim.from_list(claim)
        done = self.board.given(slot)
        self.board.write(slot, generation=1, doing=Doing.BUSY, done=done, claim_id=mine.claim_id)

    def learn(self, seconds: float = 0.0001) -> None:
        """Let it know that the function is quick, and think that many wait."""
        self.broker._sizes.learn([NOOP], seconds)
        self.broker._front("default").was_full = True


def fill(count: int, **columns: Any) -> list[Run]:
    return [new_run(**columns) for _ in range(count)]


def numbers(got: dict[int, list[list[Any]]]) -> list[int]:
    return [len(claims) for _, claims in sorted(got.items())]


def test_the_first_claims_are_single_and_then_come_chunks() -> None:
    pusher = Pusher()
    fill(100)
    assert numbers(pusher.claim()) == [1, 1]
    for slot in range(2):
        pusher.idle(slot)
    assert min(numbers(pusher.claim())) > 1


def test_what_waits_is_looked_at_only_where_the_last_claim_found_enough() -> None:
    pusher = Pusher()
    pusher.learn()
    fill(1)
    pusher.broker._front("default").was_full = False
    with runs.captured() as queries:
        assert numbers(pusher.claim()) == [1]
    looks = [text for text in runs.statements(queries) if text.startswith("SELECT function")]
    assert looks == []
    fill(9)
    for slot in range(2):
        pusher.idle(slot)
    assert numbers(pusher.claim()) == [1, 1]
    for slot in range(2):
        pusher.idle(slot)
    assert numbers(pusher.claim()) == [2, 2]


def test_a_chunk_has_a_limit() -> None:
    pusher = Pusher()
    pusher.learn()
    fill(140)
    assert numbers(pusher.claim()) == [64, 64]


def test_the_order_holds_across_the_chunks_of_several_workers() -> None:
    pusher = Pusher()
    low, high = fill(6), fill(2, priority=5)
    pusher.learn()
    got = pusher.claim()
    wanted = [run.pk.hex for run in [*high, *low]]
    assert [claim[0] for claim in got[0]] == wanted[0::2]
    assert [claim[0] for claim in got[1]] == wanted[1::2]


@pytest.mark.parametrize(("waiting", "fleet", "got"), [(3, 2, 1), (4, 2, 2), (40, 10, 4)])
def test_no_worker_gets_more_than_its_share_among_those_of_all_clusters(
    waiting: int, fleet: int, got: int
) -> None:
    pusher = Pusher()
    pusher.learn()
    pusher.board.set_fleet(fleet)
    fill(waiting)
    assert numbers(pusher.claim()) == [got, got]


def test_a_busy_worker_gets_nothing_more_though_much_waits() -> None:
    pusher = Pusher()
    pusher.learn()
    fill(100)
    got = pusher.claim()
    pusher.at(0, got[0][5])
    pusher.idle(1)
    assert set(pusher.claim()) == {1}


def test_without_chunks_each_worker_gets_one() -> None:
    with defer_settings(CHUNK_SIZE=1):
        pusher = Pusher()
        pusher.learn()
        fill(100)
        assert numbers(pusher.claim()) == [1, 1]


def test_what_waits_behind_a_long_run_goes_to_another_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pusher = Pusher()
    pusher.learn()
    fill(8)
    got = pusher.claim()
    assert numbers(got) == [4, 4]
    pusher.at(0, got[0][1])
    pusher.at(1, got[1][0])
    pusher.broker._take_back()
    monkeypatch.setattr("django_defer.chunk_watch.time.monotonic", _later(PATIENCE + 0.01))
    pusher.idle(1)
    again = pusher.claim()
    back = {claim[0] for claim in got[0][2:]}
    assert {claim[0] for claim in again[1]} <= back
    taken = Run.objects.filter(pk__in=[claim[0] for claim in got[0][2:]])
    assert set(taken.values_list("attempt", flat=True)) <= {0, 1}
    assert all(claim[2] == 1 for claim in again[1])  # it is their first attempt, still
    assert pusher.board.is_recalled(0, 1)


def test_what_an_error_kept_from_going_back_does_so_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> int:
        raise OperationalError("away")

    pusher = Pusher(1)
    pusher.learn()
    fill(4)
    got = pusher.claim()
    pusher.at(0, got[0][0])
    pusher.broker._take_back()
    monkeypatch.setattr("django_defer.chunk_watch.time.monotonic", _later(PATIENCE + 0.01))
    with monkeypatch.context() as away:
        away.setattr("django_defer.broker.release", fail)
        with pytest.raises(OperationalError):
            pusher.broker._take_back()
    assert Run.objects.filter(state=State.CLAIMED).count() == 4
    pusher.broker._take_back()
    assert Run.objects.filter(state=State.QUEUED, attempt=0).count() == 3


def _later(seconds: float) -> Callable[[], float]:
    monotonic = time.monotonic
    return lambda: monotonic() + seconds
