"""What is slow is done a tenth of the time at most; what is quick, whenever it is asked for."""

from __future__ import annotations

import pytest

from django_defer.pacing import Pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_what_is_quick_needs_no_rest(clock: list[float]) -> None:
    pace = Pace(quick=0.01)

    def quick() -> str:
        clock[0] += 0.0099
        return "done"

    assert pace.is_due
    assert pace.timed(quick) == "done"
    assert pace.is_due


def test_what_is_slow_rests_nine_times_as_long(clock: list[float]) -> None:
    pace = Pace(quick=0.01)

    def slow() -> None:
        clock[0] += 0.5

    pace.timed(slow)
    assert not pace.is_due
    assert pace.seconds_until_due() == pytest.approx(4.5)
    clock[0] += 4.6
    assert pace.is_due


def test_no_rest_is_longer_than_that(clock: list[float]) -> None:
    pace = Pace(longest=2)

    def slow() -> None:
        clock[0] += 5

    pace.timed(slow)
    assert pace.seconds_until_due() == pytest.approx(2)


def test_what_fails_rests_too(clock: list[float]) -> None:
    pace = Pace()

    def fail() -> None:
        clock[0] += 1
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        pace.timed(fail)
    assert pace.seconds_until_due() == pytest.approx(9)


def test_what_is_quick_has_the_shortest_rest_and_what_is_slow_its_own(clock: list[float]) -> None:
    pace = Pace(quick=0.01, shortest=1.5)

    def take(seconds: float) -> None:
        clock[0] += seconds

    pace.timed(lambda: take(0.001))
    assert pace.seconds_until_due() == pytest.approx(1.5)
    pace.timed(lambda: take(0.5))
    assert pace.seconds_until_due() == pytest.approx(4.5)
