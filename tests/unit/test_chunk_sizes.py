"""How many claims a worker gets at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_defer.chunk_sizes import BUDGET, OWN_SHARE, ChunkSizes
from tests.testapp.defer import add, leave_mark_atomically, noop, sleep_once

if TYPE_CHECKING:
    from collections.abc import Callable

NOOP, ADD = noop.key, add.key
MANY = [NOOP] * 1000


def sizes(most: int = 32, **seconds: float) -> ChunkSizes:
    """Return what has learned how long these take: noop, add."""
    sizes = ChunkSizes(most)
    for name, each in {"noop": 0.0001, **seconds}.items():
        sizes.learn([f"testapp.{name}"], each)
    return sizes


def test_quick_functions_come_in_chunks() -> None:
    assert sizes().size(MANY, 2, 2) == 32
    assert sizes(8).size(MANY, 2, 2) == 8


def test_a_chunk_is_expected_to_fit_into_the_budget() -> None:
    assert sizes(noop=BUDGET / 4.5 - OWN_SHARE).size(MANY, 2, 2) == 4
    assert sizes(noop=BUDGET / 3.5 - OWN_SHARE).size(MANY, 2, 2) == 2
    assert sizes(noop=BUDGET * 0.9).size(MANY, 2, 2) == 1
    assert sizes(noop=BUDGET * 10).size(MANY, 2, 2) == 1


@pytest.mark.parametrize(
    ("waiting", "idle", "fleet", "size"),
    [
        (0, 1, 1, 1),
        (1, 1, 1, 1),
        (2, 2, 2, 1),
        (3, 2, 2, 1),
        (4, 2, 2, 2),
        (7, 2, 2, 2),
        (40, 1, 10, 4),
    ],
)
def test_it_is_no_more_than_a_fair_share_of_what_waits(
    waiting: int, idle: int, fleet: int, size: int
) -> None:
    assert sizes().size([NOOP] * waiting, idle, fleet) == size


@given(
    waiting=st.lists(st.sampled_from([NOOP, ADD, "testapp.unknown"]), max_size=300),
    idle=st.integers(1, 5),
    others=st.integers(0, 20),
    seconds=st.floats(0.0001, 0.1),
)
def test_whatever_waits_no_worker_gets_more_than_its_share_nor_what_is_not_known(
    waiting: list[str], idle: int, others: int, seconds: float
) -> None:
    fleet = idle + others
    size = sizes(add=seconds).size(waiting, idle, fleet)
    assert 1 <= size <= 32
    if size > 1:
        assert size * fleet <= len(waiting)
        assert "testapp.unknown" not in waiting[: size * idle]


def test_a_function_that_nothing_is_known_of_comes_alone() -> None:
    assert ChunkSizes(32).size(MANY, 2, 2) == 1
    assert not ChunkSizes(32).is_of_use()
    assert sizes().size([NOOP, NOOP, NOOP, ADD, *MANY], 2, 2) == 1
    assert sizes().size([NOOP, NOOP, NOOP, NOOP, ADD, *MANY], 2, 2) == 2


@pytest.mark.parametrize(
    "function", [leave_mark_atomically, sleep_once], ids=["atomic", "not rerun"]
)
def test_what_must_not_be_in_doubt_comes_alone(function: Callable[..., object]) -> None:
    key = function.key  # type: ignore[attr-defined]
    learned = sizes()
    learned.learn([key], 0.001)
    assert learned.size([key] * 100, 2, 2) == 1
    assert learned.size([NOOP, NOOP, key, *MANY], 2, 2) == 1


def test_one_that_becomes_slow_comes_alone_at_once_and_in_chunks_again_later() -> None:
    learned = sizes()
    learned.learn([NOOP], 2.0)
    assert learned.size(MANY, 2, 2) == 1
    assert not learned.is_of_use()
    for _ in range(30):
        learned.learn([NOOP], 0.001)
    assert learned.size(MANY, 2, 2) > 1
    assert learned.is_of_use()


def test_a_chunk_teaches_what_one_run_takes() -> None:
    learned = ChunkSizes(32)
    learned.learn([NOOP] * 10, 10 * (BUDGET / 8.5 - OWN_SHARE))
    assert learned.size(MANY, 2, 2) == 8


def test_they_can_be_turned_off() -> None:
    assert sizes(1).size(MANY, 2, 2) == 1
    assert not sizes(1).is_of_use()
