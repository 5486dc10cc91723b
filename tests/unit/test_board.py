"""The board: what each process of a cluster may write, and what the others read of it."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from django_defer import board as board_module
from django_defer.board import STALE_AFTER, Board, Cell, Doing
from django_defer.conf import MOST_CLAIMS

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def board() -> Board:
    return Board(3)


def show(board: Board, slot: int, doing: Doing, *, generation: int = 1, done: int = 0) -> None:
    board.write(slot, generation=generation, doing=doing, done=done)


def read(board: Board, slot: int = 0) -> Cell:
    cell = board.read(slot)
    assert cell is not None
    return cell


def is_awake(board: Board) -> bool:
    return bool(select.select([board.pusher_bell.fd], [], [], 0)[0])


def noted(board: Board, slot: int) -> dict[int, list[UUID]]:
    return dict(board.chunks(slot))


def test_a_worker_is_read_as_it_wrote_itself(board: Board) -> None:
    claim = uuid4()
    board.write(1, generation=7, doing=Doing.BUSY, done=3, claim_id=claim, attempt=2, deadline=12.5)
    assert board.read(1) == Cell(
        generation=7,
        pid=os.getpid(),
        doing=Doing.BUSY,
        asks=False,
        done=3,
        claim_id=claim,
        attempt=2,
        deadline=12.5,
    )


def test_nobody_has_written_yet(board: Board) -> None:
    cell = read(board)
    assert (cell.doing, cell.pid, cell.claim_id) == (Doing.STARTING, 0, None)
    assert board.idle_slots() == []


def test_slots_do_not_overlap(board: Board) -> None:
    for slot in range(board.slots):
        board.set_generation(slot, 10 + slot)
        board.give(slot, 20 + slot)
        show(board, slot, Doing.IDLE, generation=30 + slot, done=40 + slot)
    for slot in range(board.slots):
        assert board.generation(slot) == 10 + slot
        assert board.given(slot) == 20 + slot
        assert (read(board, slot).generation, read(board, slot).done) == (30 + slot, 40 + slot)
    assert not board.is_stopping


def test_a_claim_to_abort_is_written_for_one_slot_and_read_whole(board: Board) -> None:
    claim = uuid4()
    show(board, 1, Doing.BUSY, generation=3)
    board.abort(1, claim)
    assert [board.claim_to_abort(slot) == claim for slot in range(board.slots)] == [
        False,
        True,
        False,
    ]
    assert read(board, 1).generation == 3
    for slot in (0, 2):
        assert (read(board, slot).pid, board.given(slot)) == (0, 0)
    later = uuid4()
    board.abort(1, later)
    assert board.claim_to_abort(1) == later


def test_a_child_and_its_parent_see_the_same_board(board: Board) -> None:
    child = os.fork()
    if not child:
        show(board, 2, Doing.IDLE)
        os._exit(0)
    os.waitpid(child, 0)
    assert read(board, 2).pid == child


def test_a_worker_that_was_killed_while_writing_is_unreadable_until_the_next_writes(
    board: Board,
) -> None:
    show(board, 0, Doing.IDLE)
    board._numbers[board._at(0, board_module._SEQUENCE) // 4] += 1
    assert board.read(0) is None
    assert board.idle_slots() == []
    show(board, 0, Doing.BUSY, generation=2)
    assert read(board).generation == 2


def test_no_reader_ever_sees_half_of_what_is_being_written(board: Board) -> None:
    """One process writes all the time while another reads: a torn read would show within ms."""
    claims = [UUID(int=0x01010101010101010101010101010101 * n) for n in (1, 2)]
    writer = os.fork()
    if not writer:
        while True:
            for number, claim in enumerate(claims, start=1):
                board.beat()
                board.set_generation(0, 0x01010101 * number)
                board.write(0, generation=number, doing=Doing.BUSY, done=number, claim_id=claim)
    try:
        until = time.monotonic() + 0.5
        seen = set()
        while time.monotonic() < until:
            assert not board.is_stale
            assert not board.is_stopping
            assert board.generation(0) in (0, 0x01010101, 0x02020202)
            cell = board.read(0)
            if cell is not None and cell.pid:
                assert cell.claim_id == claims[cell.generation - 1]
                assert cell.done == cell.generation
                seen.add(cell.generation)
        assert seen == {1, 2}
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)


def test_a_worker_is_idle_when_it_says_so_and_has_taken_all_it_was_given(board: Board) -> None:
    board.set_generation(0, 1)
    show(board, 0, Doing.IDLE)
    assert board.idle_slots() == [0]
    board.give(0, 1)
    assert board.idle_slots() == []
    show(board, 0, Doing.BUSY, done=1)
    assert board.idle_slots() == []
    show(board, 0, Doing.IDLE, done=1)
    assert board.idle_slots() == [0]


def test_what_a_dead_worker_wrote_does_not_make_its_successor_idle(board: Board) -> None:
    board.set_generation(0, 1)
    show(board, 0, Doing.IDLE)
    board.set_generation(0, 2)
    assert board.idle_slots() == []
    show(board, 0, Doing.IDLE, generation=2)
    assert board.idle_slots() == [0]


def test_a_ticket_is_higher_than_what_was_noted_and_than_what_was_taken(board: Board) -> None:
    assert board.next_ticket(0) == 1
    board.give(0, 4)
    assert board.next_ticket(0) == 5
    show(board, 0, Doing.BUSY, done=6)  # it took one that the pusher died without noting
    assert board.next_ticket(0) == 7


def test_a_beat_keeps_the_board_from_going_stale(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = time.monotonic()
    clock = [start]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    board.beat()
    clock[0] = start + STALE_AFTER - 1
    assert not board.is_stale
    clock[0] = start + STALE_AFTER + 1
    assert board.is_stale
    board.beat()
    assert not board.is_stale


def test_a_stop_outlives_later_beats_and_wakes_the_pusher(board: Board) -> None:
    board.stop()
    assert is_awake(board)
    board.beat()
    assert board.is_stopping


def test_waking_is_remembered_until_it_was_drained(board: Board) -> None:
    assert not is_awake(board)
    board.pusher_bell.ring()
    board.pusher_bell.ring()
    assert is_awake(board)
    board.pusher_bell.answer()
    assert not is_awake(board)
    board.pusher_bell.answer()


def test_waking_a_pusher_that_never_looks_blocks_nobody(board: Board) -> None:
    for _ in range(70_000):  # more than a pipe holds
        board.pusher_bell.ring()
    assert is_awake(board)


# -- chunks ----------------------------------------------------------------------------------------


def test_the_claims_of_a_chunk_are_at_hand_until_it_is_over(board: Board) -> None:
    chunk = [uuid4() for _ in range(MOST_CLAIMS)]
    for slot in range(board.slots):
        show(board, slot, Doing.IDLE)
    board.give(1, 7, chunk)
    assert noted(board, 1)[7] == chunk
    assert board.claims_at_hand() == set(chunk)  # on its way
    board.write(1, generation=1, doing=Doing.BUSY, done=7, claim_id=chunk[0])
    assert board.claims_at_hand() == set(chunk)
    show(board, 1, Doing.IDLE, done=7)
    assert board.claims_at_hand() == set()


def test_once_the_cluster_stops_only_what_was_begun_is_at_hand(board: Board) -> None:
    chunk = [uuid4() for _ in range(3)]
    for slot in range(board.slots):
        show(board, slot, Doing.IDLE)
    board.give(1, 7, chunk)
    board.write(1, generation=1, doing=Doing.BUSY, done=7, claim_id=chunk[1])
    board.stop()
    assert board.claims_at_hand() == set(chunk[:2])  # the first may be over, and forgotten


def test_what_is_wanted_back_is_at_hand_no_more(board: Board) -> None:
    chunks = [[uuid4() for _ in range(3)] for _ in range(board.slots)]
    for slot, chunk in enumerate(chunks):
        board.give(slot, 7, chunk)
        board.write(slot, generation=1, doing=Doing.BUSY, done=7, claim_id=chunk[1])
    board.recall(0, 7)
    assert board.claims_at_hand() == {*chunks[0][:2], *chunks[1], *chunks[2]}
    board.recall_all()
    assert board.claims_at_hand() == {claim for chunk in chunks for claim in chunk[:2]}


def test_of_a_chunk_that_is_wanted_back_before_it_was_begun_nothing_is_at_hand(
    board: Board,
) -> None:
    former = uuid4()
    for slot in range(board.slots):
        board.give(slot, 7, [uuid4(), uuid4()])
        board.write(slot, generation=1, doing=Doing.BUSY, done=6, claim_id=former)
    board.recall_all()
    assert board.claims_at_hand() == {former}


def test_a_worker_that_asks_for_more_gets_it_once(board: Board) -> None:
    board.set_generation(0, 1)
    board.give(0, 1)
    board.write(0, generation=1, doing=Doing.BUSY, done=1)
    assert board.idle_slots() == []
    board.write(0, generation=1, doing=Doing.BUSY, done=1, asks=True)
    assert board.idle_slots() == [0]
    board.give(0, 2)
    assert board.idle_slots() == []


def test_who_waits_already_comes_before_who_asks(board: Board) -> None:
    for slot, (doing, asks) in enumerate(
        [(Doing.BUSY, True), (Doing.BUSY, False), (Doing.IDLE, False)]
    ):
        board.set_generation(slot, 1)
        board.write(slot, generation=1, doing=doing, done=0, asks=asks)
    assert board.idle_slots() == [2, 0]


@pytest.mark.parametrize("stops", [False, True])
def test_while_the_end_of_a_chunk_is_written_it_is_at_hand_beside_the_next(
    board: Board, stops: bool
) -> None:
    chunks = [[uuid4() for _ in range(3)] for _ in range(3)]
    for slot in range(board.slots):
        show(board, slot, Doing.IDLE)
    board.give(0, 1, chunks[0])
    board.write(0, generation=1, doing=Doing.BUSY, done=1, asks=True, claim_id=chunks[0][-1])
    board.give(0, 2, chunks[1])
    if stops:
        board.stop()
    assert board.claims_at_hand() == {*chunks[0], *([] if stops else chunks[1])}
    board.write(0, generation=1, doing=Doing.BUSY, done=2, claim_id=chunks[1][0])
    assert board.claims_at_hand() == set(chunks[1][: 1 if stops else 3])
    board.give(0, 3, chunks[2])
    assert board.claims_at_hand() == {
        *chunks[1][: 1 if stops else 3],
        *([] if stops else chunks[2]),
    }
    show(board, 0, Doing.IDLE, done=3)
    assert board.claims_at_hand() == set()


def test_the_chunks_of_slots_do_not_overlap(board: Board) -> None:
    chunks = [[uuid4() for _ in range(MOST_CLAIMS)] for _ in range(board.slots)]
    for slot, chunk in enumerate(chunks):
        board.give(slot, slot + 1, chunk)
        board.recall(slot, slot + 100)
        show(board, slot, Doing.IDLE, generation=slot + 10)
    for slot, chunk in enumerate(chunks):
        assert noted(board, slot) == {0: [], slot + 1: chunk}
        assert board.is_recalled(slot, slot + 100)
        assert not board.is_recalled(slot, slot + 1)
        assert read(board, slot).generation == slot + 10


def test_a_list_that_its_writer_died_over_is_no_list(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    class Dying(list[UUID]):
        def __iter__(self) -> Iterator[UUID]:
            raise Killed

    before = [uuid4()]
    board.give(0, 1, before)
    with pytest.raises(Killed):
        board.give(0, 2, Dying([uuid4()]))
    assert noted(board, 0) == {0: [], 1: before}
    chunk = [uuid4()]
    board.give(0, 2, chunk)
    assert noted(board, 0) == {1: before, 2: chunk}


def test_the_fleet_is_never_smaller_than_the_cluster(board: Board) -> None:
    assert board.fleet == board.slots
    board.set_fleet(40)
    assert board.fleet == 40
    assert not board.is_stopping
    assert not board.is_stale
