"""The statements behind `history`: which runs of a span are read, and what is asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.utils.translation import gettext_lazy as _

from django_defer.clock import as_text
from django_defer.ids import EPOCH, first_uuid7_of
from django_defer.models import Run

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

MOST_RUNS: Final = 30_000  # runs that are read, more or less, for one span
MOST_FAILED: Final = 5_000  # failed runs that are looked at, the newest

# How to write the seconds between two instants, and the columns that a statement may name.
_SECONDS: Final = {
    "postgresql": "CAST(extract(epoch FROM {later} - {earlier}) AS double precision)",
    "sqlite": "((julianday({later}) - julianday({earlier})) * 86400.0)",
}
_BEYOND: Final = "SELECT id FROM {run} WHERE id >= %s ORDER BY id DESC LIMIT 1 OFFSET {most}"
_ESTIMATE: Final = "SELECT reltuples FROM pg_class WHERE oid = CAST(%s AS regclass)"
_ALL: Final = "(SELECT * FROM {run} WHERE id >= %s)"
# The same pages each time, so that the numbers do not flicker and the pages are in memory.
_SAMPLE: Final = (
    "(SELECT * FROM {run} TABLESAMPLE SYSTEM ({percent}) REPEATABLE (7) WHERE id >= %s)"
)
_PLACE: Final = "CAST(floor({since_start} / {width}) AS integer)"
# One reading of the runs, three questions: when they ended, what each function did, and the least
# waits and durations that so many percent of all do not exceed.
_RUNS: Final = """
    WITH recent AS (
        SELECT function, state, failures, started_at, {place} AS place,
               {waited} AS waited, {took} AS took
        FROM {source} AS runs
    ), times AS (
        SELECT waited, took FROM recent
        WHERE state IN ('succeeded', 'failed', 'aborted') AND waited IS NOT NULL
    )
    SELECT 'part', CAST(place AS varchar), count(*), 0.0, 0.0, 0.0
    FROM recent WHERE state = 'succeeded' AND place IS NOT NULL GROUP BY place
    UNION ALL
    SELECT 'function', function, count(*), sum(failures), coalesce(sum(took), 0), 0.0
    FROM recent WHERE started_at IS NOT NULL GROUP BY function
    UNION ALL
    SELECT 'percentiles', '', {percentiles}
"""
_PERCENTILES: Final = {
    "postgresql": """
        percentile_disc(0.5) WITHIN GROUP (ORDER BY waited),
        percentile_disc(0.95) WITHIN GROUP (ORDER BY waited),
        percentile_disc(0.5) WITHIN GROUP (ORDER BY took),
        percentile_disc(0.95) WITHIN GROUP (ORDER BY took)
        FROM times
    """,
    "sqlite": """
        min(CASE WHEN waited_share >= 0.5 THEN waited END),
        min(CASE WHEN waited_share >= 0.95 THEN waited END),
        min(CASE WHEN took_share >= 0.5 THEN took END),
        min(CASE WHEN took_share >= 0.95 THEN took END)
        FROM (SELECT waited, took, cume_dist() OVER (ORDER BY waited) AS waited_share,
                     cume_dist() OVER (ORDER BY took) AS took_share FROM times) AS shares
    """,
}
_FAILED: Final = """
    SELECT {place}, function, count(*)
    FROM (SELECT function, finished_at FROM {run}
          WHERE state = 'failed' ORDER BY id DESC LIMIT {most}) AS recent
    WHERE finished_at >= %s GROUP BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Span:
    """A span that ends now, in equal parts."""

    name: str
    label: Any
    length: timedelta
    width: timedelta
    is_sampled: bool = True  # when there are too many runs; a short span would get too few

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return self.length // self.width


SPANS: Final = {
    span.name: span
    for span in (
        Span("hour", _("last hour"), timedelta(hours=1), timedelta(minutes=1), False),
        Span("day", _("last day"), timedelta(days=1), timedelta(minutes=30)),
        Span("week", _("last week"), timedelta(days=7), timedelta(hours=3)),
    )
}


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which of the runs that were enqueued in the span were read, and for how many each stands.

    All of them, the newest (those enqueued at `since` and later), or a sample: then `weight` is
    more than 1, and counts are estimates.
    """

    kind: str  # "all", "newest" or "sample"
    since: datetime
    weight: float = 1.0


class Statements:
    """The statements of one span on one database."""

    def __init__(self, span: Span, now: datetime, connection: BaseDatabaseWrapper) -> None:
        self.span = span
        self.connection = connection
        self.run = connection.ops.quote_name(Run._meta.db_table)
        self.begin = now - span.length
        pk = Run._meta.pk
        self.first_id: Any = pk.get_db_prep_value(first_uuid7_of(self.begin), connection)
        self.instant: Any = as_text(self.begin) if connection.vendor == "sqlite" else self.begin
        self.coverage = self._coverage()

    def runs(self) -> list[Any]:
        """Return rows: what they are about, a name, and up to four numbers."""
        statement = _RUNS.format(
            place=self._place,
            waited=self.seconds("started_at", "coalesce(queued_at, enqueued_at)"),
            took=self.seconds("finished_at", "started_at"),
            source=self._source,
            percentiles=_PERCENTILES[self.connection.vendor],
        )
        return self.rows(statement, self.instant, self.first_id)

    def failed(self) -> list[Any]:
        """Return how many runs failed in which part and of which function."""
        statement = _FAILED.format(place=self._place, run=self.run, most=MOST_FAILED)
        return self.rows(statement, self.instant, self.instant)

    def rows(self, statement: str, *values: Any) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values)
            found: list[Any] = cursor.fetchall()
        return found

    def seconds(self, later: str, earlier: str) -> str:
        return _SECONDS[self.connection.vendor].format(later=later, earlier=earlier)

    @property
    def _place(self) -> str:
        """The SQL of the part in which a run ended; takes `instant`."""
        placeholder = "CAST(%s AS timestamptz)" if self._is_postgres else "%s"
        since_start = self.seconds("finished_at", placeholder)
        return _PLACE.format(since_start=since_start, width=self.span.width.total_seconds())

    @property
    def _source(self) -> str:
        """The SQL of the runs that are read; takes `first_id`."""
        table = _SAMPLE if self.coverage.kind == "sample" else _ALL
        return table.format(run=self.run, percent=100 / self.coverage.weight)

    @property
    def _is_postgres(self) -> bool:
        return self.connection.vendor == "postgresql"

    def _coverage(self) -> Coverage:
        beyond = self.rows(_BEYOND.format(run=self.run, most=MOST_RUNS), self.first_id)
        if not beyond:
            return Coverage("all", self.begin)
        if self.span.is_sampled and self._is_postgres:
            [(estimate,)] = self.rows(_ESTIMATE, self.run)  # -1 if it was never analysed
            if estimate > MOST_RUNS:
                return Coverage("sample", self.begin, estimate / MOST_RUNS)
        [(self.first_id,)] = beyond
        since = EPOCH + timedelta(milliseconds=UUID(str(self.first_id)).int >> 80)
        return Coverage("newest", min(max(since, self.begin), self.begin + self.span.length))
