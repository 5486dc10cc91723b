"""What the pusher has given: how long it took, and what goes back."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from django_defer import chunk_watch
from django_defer.board import Board, Doing
from django_defer.chunk_watch import PATIENCE, ChunkWatch
from django_defer.claims import Claim

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    from collections.abc import Sequence


class World:
    """A clock, a board with one worker, and a pusher that watches it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("django_defer.chunk_watch.time.monotonic", lambda: self.now)
        self.board = Board(1)
        self.board.set_generation(0, 1)
        self.learned: list[tuple[list[str], float]] = []
        self.watch = ChunkWatch(
            self.board,
            lambda functions, took: self.learned.append((list(functions), round(took, 9))),
        )
        self.ticket = 0
        self.done()

    def learn(self, functions: Sequence[str], seconds: float) -> None:
        self.learned.append((list(functions), seconds))

    def give(self, count: int) -> list[Claim]:
        claims = [Claim(uuid4(), uuid4(), 1, function=f"shop.f{n}") for n in range(count)]
        self.watch.give(0, "0.1", claims)
        self.ticket += 1
        self.board.give(0, self.ticket, [each.claim_id for each in claims])
        return claims

    def at(self, claim: Claim, generation: int = 1) -> None:
        self.board.write(
            0, generation=generation, doing=Doing.BUSY, done=self.ticket, claim_id=claim.claim_id
        )

    def ask(self, claim: Claim, spent: float) -> None:
        self.board.write(
            0,
            generation=1,
            doing=Doing.BUSY,
            done=self.ticket,
            asks=True,
            claim_id=claim.claim_id,
            spent=spent,
        )

    def done(self, spent: float = 0.0) -> None:
        self.board.write(0, generation=1, doing=Doing.IDLE, done=self.ticket, spent=spent)

    def look(self, seconds: float = 0) -> list[tuple[str, list[Claim]]]:
        self.now += seconds
        return list(self.watch.look())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_what_waits_behind_a_run_that_takes_long_goes_back_once(world: World) -> None:
    claims = world.give(4)
    world.at(claims[1])
    assert world.look() == []
    assert world.look(PATIENCE) == []
    assert not world.board.is_recalled(0, world.ticket)
    assert world.look(0.001) == [("0.1", claims[2:])]
    assert world.board.is_recalled(0, world.ticket)
    assert world.look(1) == []


def test_each_run_has_the_time_for_itself(world: World) -> None:
    claims = world.give(4)
    for claim in claims:
        world.at(claim)
        assert world.look(PATIENCE) == []
        assert world.look(PATIENCE * 0.9) == []


def test_behind_the_last_run_nothing_waits(world: World) -> None:
    claims = world.give(2)
    world.at(claims[1])
    assert world.look() == world.look(10) == []


def test_a_worker_that_has_not_begun_is_not_held_up(world: World) -> None:
    world.give(3)
    assert world.look() == world.look(10) == []


def test_what_it_took_is_learned_when_the_worker_is_idle(world: World) -> None:
    claims = world.give(3)
    world.at(claims[2])
    world.look()
    world.done(spent=0.03)
    world.look()
    assert world.learned == [(["shop.f0", "shop.f1", "shop.f2"], 0.03)]
    world.look(1)
    assert len(world.learned) == 1


def test_it_is_learned_when_the_worker_asks_for_more(world: World) -> None:
    claims = world.give(2)
    world.ask(claims[1], spent=0.02)
    world.look()
    world.give(1)
    world.look()
    assert world.learned == [(["shop.f0", "shop.f1"], 0.02)]


def test_behind_an_end_that_cannot_be_written_nothing_waits(world: World) -> None:
    """The database may be away for this worker alone: a lock that somebody holds on the row."""
    first = world.give(1)
    world.ask(first[0], spent=0.02)
    world.look()
    assert world.watch.seconds_until_look() is None
    claims = world.give(1)
    assert world.watch.seconds_until_look() == chunk_watch.LOOK_EVERY
    assert world.look() == []
    assert world.look(PATIENCE) == []
    assert world.look(0.001) == [("0.1", claims)]
    assert world.board.is_recalled(0, world.ticket)
    assert world.watch.seconds_until_look() is None
    world.done()
    world.look()
    assert world.learned == [(["shop.f0"], 0.02)]


def test_only_what_was_not_taken_back_is_learned_of(world: World) -> None:
    claims = world.give(3)
    world.at(claims[0])
    world.look()
    world.look(1)
    world.done(spent=2)
    world.look()
    assert world.learned == [(["shop.f0"], 2)]


def test_the_successor_of_a_dead_worker_is_at_nothing_of_it(world: World) -> None:
    claims = world.give(3)
    world.at(claims[0], generation=2)
    assert world.look() == world.look(10) == []
    assert world.learned == []


def test_it_looks_often_only_while_something_could_be_held_up(world: World) -> None:
    assert world.watch.seconds_until_look() is None
    claims = world.give(1)
    assert world.watch.seconds_until_look() is None
    world.at(claims[0])
    world.done()
    world.look()
    world.give(2)
    assert world.watch.seconds_until_look() == chunk_watch.LOOK_EVERY
    world.done()
    world.look()
    assert world.watch.seconds_until_look() is None
