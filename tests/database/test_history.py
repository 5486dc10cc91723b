"""Numbers over time: what ended when, percentiles, functions, and what is left out or estimated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from django_defer import history_statements
from django_defer.history import Percentiles, history
from django_defer.history_statements import SPANS
from django_defer.ids import first_uuid7_of
from django_defer.models import Run
from django_defer.states import State
from tests.runs import captured, database, fill, in_transaction, new_run, statements

pytestmark = in_transaction

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR = SPANS["hour"]


def ended(
    ago: timedelta,
    state: State = State.SUCCEEDED,
    *,
    function: str = "testapp.noop",
    enqueued: timedelta | None = None,
    waited: float = 1,
    took: float = 2,
    **columns: Any,
) -> Run:
    """Insert a run that ended so long ago, with an id of the time at which it was enqueued."""
    finished_at = NOW - ago
    started_at = finished_at - timedelta(seconds=took)
    enqueued_at = NOW - enqueued if enqueued else started_at - timedelta(seconds=waited)
    first = first_uuid7_of(enqueued_at)
    return new_run(
        function,
        state,
        id=type(first)(int=first.int + Run.objects.count() + 1),
        enqueued_at=enqueued_at,
        queued_at=started_at - timedelta(seconds=waited),
        started_at=started_at,
        finished_at=finished_at,
        **columns,
    )


def minutes(n: float) -> timedelta:
    return timedelta(minutes=n)


def test_runs_are_counted_in_the_minute_in_which_they_ended() -> None:
    for ago in (0.5, 0.6, 10.5, 59.5):
        ended(minutes(ago), took=0.1, waited=0.1)
    parts = history(HOUR, NOW).parts
    assert [place for place, part in enumerate(parts) if part.succeeded] == [0, 49, 59]
    assert parts[59].succeeded == 2
    assert parts[59].begins_at == NOW - minutes(1)
    assert parts[59].ends_at == NOW


def test_a_span_without_runs_is_zeros_and_has_no_percentiles() -> None:
    found = history(HOUR, NOW)
    assert [(part.succeeded, part.failed) for part in found.parts] == [(0, 0)] * 60
    assert found.percentiles == Percentiles()
    assert found.functions == {}
    assert found.a_minute == 0


@pytest.mark.parametrize(("name", "parts"), [("hour", 60), ("day", 48), ("week", 56)])
def test_each_span_is_covered_to_its_beginning(name: str, parts: int) -> None:
    span = SPANS[name]
    ended(span.length - span.width / 2, took=0.1, waited=0.1)
    found = history(span, NOW)
    assert len(found.parts) == parts
    assert found.parts[0].succeeded == 1


def test_what_was_enqueued_before_the_span_is_left_out_unless_it_failed_in_it() -> None:
    before = timedelta(days=1)
    ended(minutes(5), enqueued=before)
    ended(minutes(5), State.FAILED, enqueued=before, function="shop.late")
    found = history(HOUR, NOW)
    assert (found.succeeded, found.failed) == (0, 1)
    assert found.parts[55].failed == 1
    assert found.functions["shop.late"].failed == 1


def test_a_failure_before_the_span_is_not_of_the_span() -> None:
    ended(minutes(61), State.FAILED)
    assert history(HOUR, NOW).failed == 0


def test_percentiles_are_values_that_occurred() -> None:
    for n in range(1, 101):
        ended(minutes(20), waited=n, took=n / 10)
    found = history(HOUR, NOW).percentiles
    spans = [found.waited_half, found.waited_most, found.took_half, found.took_most]
    expected = [50, 95, 5, 9.5]
    for span, seconds in zip(spans, expected, strict=True):
        assert span is not None
        assert span.total_seconds() == pytest.approx(seconds, abs=0.001)


def test_functions_are_ranked_by_failures_and_by_time() -> None:
    ended(minutes(5), function="shop.slow", took=100)
    ended(minutes(5), function="shop.quick", took=1)
    ended(minutes(5), State.FAILED, function="shop.broken", failures=3, took=1)
    ended(minutes(5), function="shop.shaky", failures=2, took=3)
    found = history(HOUR, NOW)
    assert [each.key for each in found.most_busy(2)] == ["shop.slow", "shop.shaky"]
    assert found.functions["shop.slow"].seconds == pytest.approx(100, abs=0.01)
    failing = [(each.key, each.failed, each.failed_attempts) for each in found.most_failing(10)]
    assert failing == [("shop.broken", 1, 3), ("shop.shaky", 0, 2)]


def test_what_waits_and_what_never_started_is_no_run_that_took_time() -> None:
    ended(minutes(5))
    new_run(function="shop.waits", state=State.QUEUED, id=first_uuid7_of(NOW - minutes(3)))
    ended(minutes(4), State.SKIPPED, function="shop.skipped")
    Run.objects.filter(state=State.SKIPPED).update(started_at=None)
    assert set(history(HOUR, NOW).functions) == {"testapp.noop"}


def test_the_number_of_statements_does_not_grow() -> None:
    ended(minutes(5))
    with captured() as few:
        history(HOUR, NOW)
    for n in range(40):
        ended(minutes(n), State.FAILED if n % 2 else State.SUCCEEDED, function=f"shop.f{n}")
    with captured() as many:
        history(SPANS["week"], NOW)
    assert len(statements(few)) == len(statements(many)) == 3


def test_of_more_runs_than_are_read_the_newest_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_statements, "MOST_RUNS", 3)
    for n in range(1, 6):
        ended(minutes(n))
    found = history(HOUR, NOW)
    assert found.coverage.kind == "newest"
    assert found.coverage.since == NOW - minutes(4) - timedelta(seconds=3)
    assert found.succeeded == 4  # and the one at which it noticed
    assert found.parts[55].succeeded == 0
    assert found.a_minute == pytest.approx(4 / 4.05)


@pytest.mark.postgres
def test_of_more_runs_than_are_read_a_sample_stands_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(
        State.SUCCEEDED,
        20_000,
        id="gen_random_uuid()",  # version 4: most of these sort after the span's first id
        started_at="timestamptz '2026-11-25 11:30:10+00'",
        finished_at="timestamptz '2026-11-25 11:30:12+00'",
        failures="1",
    )
    day = SPANS["day"]
    in_span = Run.objects.filter(pk__gte=first_uuid7_of(NOW - day.length)).count()
    monkeypatch.setattr(history_statements, "MOST_RUNS", 5_000)
    found = history(day, NOW)
    assert found.coverage.kind == "sample"
    assert found.coverage.weight == pytest.approx(4, rel=0.01)
    assert found.succeeded == pytest.approx(in_span, rel=0.3)
    assert found.parts[47].succeeded == found.succeeded
    assert found.functions["testapp.noop"].seconds == pytest.approx(2 * in_span, rel=0.3)
    assert found.functions["testapp.noop"].failed_attempts == found.functions["testapp.noop"].runs


@pytest.mark.postgres
def test_a_table_that_was_never_analysed_gives_its_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_statements, "MOST_RUNS", 3)
    for n in range(1, 6):
        ended(minutes(n))
    with database().cursor() as cursor:
        cursor.execute(
            "UPDATE pg_class SET reltuples = -1 WHERE oid = 'django_defer_run'::regclass"
        )
    assert history(SPANS["day"], NOW).coverage.kind == "newest"
