"""The runs of a function that ended last, read from its index: never more than so many rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django_defer.admin.latest import BAD, COLUMNS, GOOD
from django_defer.models import Run
from django_defer.states import State

if TYPE_CHECKING:
    from uuid import UUID

SHOWN: Final = 200  # runs that ended
LOOKED_AT: Final = 2000  # of the newest runs, and of those before the ones that run now
MOST_ACTIVE: Final = 1000  # runs in hand that are looked at

# Those that took as long as they say: what was cancelled or discarded may have waited for a retry.
TIMED: Final = sorted(str(state) for state in (GOOD | BAD) - {State.DISCARDED})

# A range of one function, since only its index has this order. Of "function = " the planner of
# PostgreSQL takes the primary key, if half the runs are of this function, though none is new.
_ENDED: Final = """
    SELECT {columns} FROM (
        SELECT {columns} FROM {run} WHERE function >= %s AND function <= %s{before}
        ORDER BY function, id DESC LIMIT {looked_at}
    ) AS newest
    WHERE state IN ({states}) AND started_at IS NOT NULL AND finished_at IS NOT NULL
    ORDER BY function, id DESC LIMIT {shown}
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """The runs that ended last, the newest first."""

    runs: tuple[Run, ...]
    are_hidden: bool = False  # none was found, but there are older ones than were looked at

    @property
    def bad(self) -> int:
        """How many of them did not succeed."""
        return sum(run.state in BAD for run in self.runs)


def ended_of(key: str) -> Ended:
    """Return the runs of the function that ended last, in three queries at most.

    Thousands that wait may be newer than any that ended: a large fan-out is worked off from its
    oldest. So the runs enqueued before the newest one in a worker's hands are looked at too.
    """
    found = {run.pk: run for run in _ended(key)}
    if len(found) < SHOWN:
        active = Run.objects.active().filter(function=key).order_by().values_list("pk", flat=True)
        if newest := max(active[:MOST_ACTIVE], default=None):
            found |= {run.pk: run for run in _ended(key, newest)}
    runs = tuple(found[pk] for pk in sorted(found, reverse=True)[:SHOWN])
    return Ended(runs, are_hidden=not runs and _are_more(key))


def _ended(key: str, before: UUID | None = None) -> list[Run]:
    sql = _ENDED.format(
        columns=", ".join(COLUMNS),
        run=Run._meta.db_table,
        before="" if before is None else " AND id <= %s",
        looked_at=LOOKED_AT,
        states=", ".join(f"'{state}'" for state in TIMED),
        shown=SHOWN,
    )
    return list(Run.objects.raw(sql, [key, key] if before is None else [key, key, before.hex]))


def _are_more(key: str) -> bool:
    runs = Run.objects.filter(function__gte=key, function__lte=key).order_by("function_id", "-id")
    return bool(runs.values_list("pk")[LOOKED_AT : LOOKED_AT + 1])
