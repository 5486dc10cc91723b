"""How many rows there are: exactly where they are few, estimated where counting would take long.

No page counts the runs in a table of millions. PostgreSQL's planner keeps statistics and answers at
once; what it says is rounded, so that nobody takes it for a count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.db import connections
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from django.db.models import QuerySet

LEAST_BELIEVED: Final = 100  # rows; a planner that knows nothing expects one
_ROWS: Final = re.compile(r"rows=(\d+)")


@dataclass(frozen=True, slots=True)
class Count:
    """A number of rows, and how it is said."""

    n: int
    words: str
    is_exact: bool


def exactly(n: int) -> Count:
    """Return a number that is known."""
    return Count(n, f"{n:,}", is_exact=True)


def roughly(estimate: int) -> Count:
    """Return "about 4,900,000": two digits of an estimate."""
    unit = 10 ** max(0, len(str(estimate)) - 2)
    n = round(estimate / unit) * unit
    return Count(n, _("about %(n)s") % {"n": f"{n:,}"}, is_exact=False)


def at_least(n: int) -> Count:
    """Return "120 or more"."""
    words = _("%(n)s or more") % {"n": f"{n:,}"} if n else _("perhaps some")
    return Count(n, words, is_exact=False)


def count_up_to(most: int, rows: QuerySet[Any]) -> Count:
    """Return how many rows there are, exactly up to `most`."""
    seen = len(rows.order_by().values_list("pk", flat=True)[: most + 1])
    return exactly(seen) if seen <= most else estimated(rows, seen)


def estimated(rows: QuerySet[Any] | None, known: int) -> Count:
    """Return an estimate of rows of which so many are known, or how many are known."""
    estimate = (planned(rows) if rows is not None else None) or 0
    return roughly(estimate) if estimate > max(known, LEAST_BELIEVED) else at_least(known)


def planned(rows: QuerySet[Any]) -> int | None:
    """Return how many rows PostgreSQL's planner expects; None from another database."""
    if connections[rows.db].vendor != "postgresql":
        return None
    found = _ROWS.search(rows.order_by().values("pk").explain())
    return int(found[1]) if found else None
