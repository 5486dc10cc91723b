"""Instants: what goes in comes out, sorts and compares, in any zone and with USE_TZ or without.

`test_databases` executes this file again with other settings.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.db import connections

from django_defer.clock import (
    LONGEST_OFFSET,
    SQLITE_FORMAT,
    DatabaseNow,
    InstantField,
    as_text,
    database_now,
)
from django_defer.models import Cluster, Run
from tests import runs
from tests.runs import DATABASE, fresh, new_cluster, new_run

pytestmark = runs.in_transaction

NEW_YORK = ZoneInfo("America/New_York")
# 05:30 and 06:30 UTC are both 01:30 in New York, before and after the clocks go back.
FIRST_PASS = datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
SECOND_PASS = FIRST_PASS + timedelta(hours=1)

INSTANTS = [
    datetime(2026, 3, 8, 7, 30, tzinfo=UTC),  # in the hour that New York skips, if read as local
    datetime(2026, 3, 8, 2, 30, tzinfo=UTC),  # skipped there as wall time
    FIRST_PASS,
    SECOND_PASS,
    datetime(2026, 11, 1, 1, 30, tzinfo=UTC),
    datetime(2026, 7, 1, 12, 0, 0, 1, tzinfo=UTC),
    datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
]


@pytest.mark.parametrize("instant", INSTANTS, ids=str)
def test_an_instant_comes_back_as_the_same_aware_utc_datetime(instant: datetime) -> None:
    run = new_run(run_after=instant)
    assert run.run_after == instant
    assert run.run_after.tzinfo is UTC
    assert run.run_after.microsecond == instant.microsecond
    (value,) = Run.objects.values_list("run_after", flat=True)
    assert value == instant


@pytest.mark.parametrize("pass_", [0, 1])
def test_a_repeated_hour_of_another_zone_is_stored_as_what_it_means(pass_: int) -> None:
    local = datetime(2026, 11, 1, 1, 30, fold=pass_, tzinfo=NEW_YORK)
    assert new_run(run_after=local).run_after == (FIRST_PASS, SECOND_PASS)[pass_]


def test_text_is_read_with_its_zone() -> None:
    run = new_run()
    Run.objects.filter(pk=run.pk).update(run_after="2026-11-01 01:30:00-05:00")
    assert fresh(run).run_after == SECOND_PASS


@pytest.mark.parametrize("naive", [datetime(2026, 11, 1, 1, 30), "2026-11-01 01:30"])  # noqa: DTZ001
def test_an_instant_without_a_zone_is_refused(naive: Any) -> None:
    with pytest.raises(ValueError, match=r"run_after needs an aware datetime, not"):
        new_run(run_after=naive)
    with pytest.raises(ValueError, match="aware datetime"):
        Run.objects.filter(run_after__lt=naive).exists()


def test_rows_sort_by_time_also_in_the_repeated_hour() -> None:
    for instant in reversed(INSTANTS):
        new_run(run_after=instant)
    ordered = list(Run.objects.order_by("run_after").values_list("run_after", flat=True))
    assert ordered == sorted(INSTANTS)


@pytest.mark.parametrize("zone", [UTC, NEW_YORK, timezone(timedelta(hours=5, minutes=45))])
def test_comparisons_mean_the_instant_whatever_its_zone(zone: Any) -> None:
    first, second = new_run(run_after=FIRST_PASS), new_run(run_after=SECOND_PASS)
    between = (FIRST_PASS + timedelta(minutes=30)).astimezone(zone)
    assert Run.objects.get(run_after__lt=between) == first
    assert Run.objects.get(run_after__gte=between) == second
    assert Run.objects.get(run_after=SECOND_PASS.astimezone(zone)) == second
    assert Run.objects.get(run_after__in=[FIRST_PASS.astimezone(zone)]) == first
    window = (between - timedelta(minutes=45), between)
    assert Run.objects.get(run_after__range=window) == first


def test_a_comparison_with_a_moment_is_exact_to_the_microsecond() -> None:
    run = new_run(run_after=FIRST_PASS)
    just_before = FIRST_PASS - timedelta(microseconds=1)
    assert not Run.objects.filter(run_after__lte=just_before).exists()
    assert Run.objects.filter(run_after__gt=just_before).get() == run


def test_null_stays_null() -> None:
    assert new_run().started_at is None


@pytest.mark.sqlite
def test_sqlite_keeps_utc_text_with_six_decimals_that_sorts_as_time() -> None:
    new_run(run_after=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    columns = "CAST(run_after AS TEXT), CAST(enqueued_at AS TEXT)"
    with connections[DATABASE].cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM django_defer_run")
        stored, defaulted = cursor.fetchone()
    assert stored == "2026-01-02 03:04:05.000000"
    assert len(defaulted) == len(stored)
    default = datetime.strptime(defaulted, SQLITE_FORMAT).replace(tzinfo=UTC)
    assert default == Run.objects.get().enqueued_at
    texts = [as_text(instant) for instant in sorted(INSTANTS)]
    assert all(first < second for first, second in pairwise(texts))


@pytest.mark.postgres
def test_postgres_keeps_a_timestamptz() -> None:
    new_run(run_after=SECOND_PASS)
    with connections[DATABASE].cursor() as cursor:
        columns = "pg_typeof(run_after)::text, extract(epoch FROM run_after)"
        cursor.execute(f"SELECT {columns} FROM django_defer_run")
        assert cursor.fetchone() == ("timestamp with time zone", SECOND_PASS.timestamp())


def use_zone(name: str | None) -> None:
    """Set the option TIME_ZONE of the database, on a connection that is open already."""
    connection = connections[DATABASE]
    connection.settings_dict["TIME_ZONE"] = name
    for cached in ("timezone", "timezone_name"):
        connection.__dict__.pop(cached, None)
    connection.ensure_timezone()


if settings.USE_TZ:  # without it Django refuses that option

    def test_the_option_time_zone_of_the_database_changes_nothing() -> None:
        before = connections[DATABASE].settings_dict["TIME_ZONE"]
        use_zone("America/New_York")
        try:
            assert [new_run(run_after=instant).run_after for instant in INSTANTS] == INSTANTS
            assert abs(database_now(DATABASE) - datetime.now(UTC)) < timedelta(minutes=1)
            assert abs(new_run().enqueued_at - datetime.now(UTC)) < timedelta(minutes=1)
            assert Run.objects.filter(run_after=SECOND_PASS).count() == 1
        finally:
            use_zone(before)


# -- the database's clock ----------------------------------------------------------------------


def test_the_clock_of_the_database_is_an_aware_utc_datetime() -> None:
    now = database_now(DATABASE)
    assert now.tzinfo is UTC
    assert abs(now - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_clock_moves_on_inside_a_transaction() -> None:
    assert connections[DATABASE].in_atomic_block
    with connections[DATABASE].cursor() as cursor:
        before = database_now(DATABASE)
        if runs.is_postgres():
            cursor.execute("SELECT pg_sleep(0.01)")
        else:
            while database_now(DATABASE) == before:
                pass
    assert database_now(DATABASE) > before


def test_defaults_come_back_from_the_insert_without_a_query() -> None:
    run = Run(function_id="testapp.noop")
    run.save(using=DATABASE)
    with runs.captured() as queries:
        assert run.enqueued_at.tzinfo is UTC
        assert abs(run.enqueued_at - datetime.now(UTC)) < timedelta(minutes=1)
        assert abs(run.run_after - run.enqueued_at) < timedelta(seconds=1)
    assert not queries.captured_queries
    assert fresh(run).enqueued_at == run.enqueued_at


@pytest.mark.parametrize(
    "offset",
    [timedelta(milliseconds=250), timedelta(seconds=90), timedelta(days=400), -timedelta(hours=2)],
)
def test_an_offset_is_added_by_the_database(offset: timedelta) -> None:
    before = database_now(DATABASE)
    run = new_run(run_after=DatabaseNow(offset))
    after = database_now(DATABASE)
    slack = timedelta(milliseconds=1)  # SQLite's clock knows no less
    assert before + offset - slack <= run.run_after <= after + offset + slack


def test_an_offset_works_in_an_update_and_in_a_filter() -> None:
    cluster = new_cluster()
    Cluster.objects.update(beat_at=DatabaseNow(timedelta(minutes=5)))
    assert Cluster.objects.get(beat_at__gt=DatabaseNow(timedelta(minutes=4))) == cluster
    assert not Cluster.objects.filter(beat_at__gt=DatabaseNow(timedelta(minutes=6))).exists()


def test_an_offset_that_leaves_the_calendar_counts_as_a_hundred_years() -> None:
    run = new_run(run_after=DatabaseNow(timedelta.max))
    century = database_now(DATABASE) + LONGEST_OFFSET
    assert abs(run.run_after - century) < timedelta(minutes=1)


def test_two_defaults_are_the_same_to_migrations() -> None:
    assert DatabaseNow() == DatabaseNow()
    assert DatabaseNow().deconstruct() == ("django_defer.clock.DatabaseNow", (), {})
    assert repr(DatabaseNow(timedelta(seconds=1))) == "DatabaseNow(datetime.timedelta(seconds=1))"


def test_a_date_is_refused_too() -> None:
    field = InstantField(name="moment")
    with pytest.raises(ValueError, match="aware datetime"):
        field.get_prep_value(date(2026, 1, 1))


def test_another_database_is_refused_with_a_sentence() -> None:
    class Oracle:
        vendor = "oracle"

    other: Any = Oracle()
    with pytest.raises(NotImplementedError, match="does not support oracle"):
        DatabaseNow().as_sql(None, other)
