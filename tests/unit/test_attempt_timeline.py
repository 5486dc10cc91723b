"""A run's life as a bar: parts in their order, to scale, and none too short to be seen."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from django_defer.admin.attempt_timeline import LEAST, WIDTH, _widths, timeline
from django_defer.models import Attempt, Run
from django_defer.states import Outcome, State

BEGIN = datetime(2026, 5, 4, 8, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def run(state: State, **columns: Any) -> Run:
    return Run(function_id="shop.compute", state=state, enqueued_at=BEGIN, **columns)


def attempt(number: int, outcome: str, started: float, finished: float) -> Attempt:
    return Attempt(number=number, outcome=outcome, started_at=at(started), finished_at=at(finished))


def drawn(svg: str) -> list[tuple[str, float]]:
    found = re.findall(r'defer-part--(\w+)" x="[\d.]+" y="0" width="([\d.]+)"', svg)
    return [(kind, float(width)) for kind, width in found]


def legend(svg: str) -> list[str]:
    return [text.replace("\xa0", " ") for text in re.findall(r"</span> ([^<]+)</li>", svg)]


def test_parts_follow_each_other_to_scale() -> None:
    attempts = [
        attempt(1, Outcome.RETRIED, 10, 20),
        attempt(2, Outcome.SUCCEEDED, 60, 100),
    ]
    svg = timeline(run(State.SUCCEEDED), attempts, at(500))
    assert drawn(svg) == [
        ("waiting", 100),
        ("retried", 100),
        ("pause", 400),
        ("succeeded", 400),
    ]
    assert legend(svg) == [
        "waiting: 10.0 s",
        "attempt 1, retried: 10.0 s",
        "until the next attempt: 40.0 s",
        "attempt 2, succeeded: 40.0 s",
    ]


def test_what_goes_on_ends_now() -> None:
    running = run(State.RUNNING, attempt=2, started_at=at(30))
    svg = timeline(running, [attempt(1, Outcome.LOST, 10, 20)], at(40))
    assert [kind for kind, _ in drawn(svg)] == ["waiting", "lost", "pause", "running"]
    waits = run(State.SCHEDULED, failures=1)
    svg = timeline(waits, [attempt(1, Outcome.RETRIED, 10, 20)], at(40))
    assert drawn(svg)[-1] == ("pause", 500)


def test_a_run_that_never_began_has_none() -> None:
    assert timeline(run(State.QUEUED), [], at(10)) == ""
    assert timeline(run(State.CANCELLED), [], at(10)) == ""


def test_hostile_words_stay_text_and_no_class() -> None:
    svg = timeline(run(State.FAILED), [attempt(1, '"><script>', 1, 2)], at(3))
    assert "<script>" not in svg
    assert [kind for kind, _ in drawn(svg)] == ["waiting", "unknown"]


@pytest.mark.parametrize("seconds", [[1, 1e6], [1e6, 1, 1, 1e5], [1.0] * 600, [5.0]])
def test_every_part_can_be_seen_and_all_fit(seconds: list[float]) -> None:
    widths = _widths(seconds)
    assert sum(widths) == pytest.approx(WIDTH)
    assert min(widths) >= min(LEAST, WIDTH / len(seconds)) - 1e-9
