"""Reading runs in the order of their ids, a page at a time, out of a table of millions.

A page begins behind a run (its id is the cursor), not at a number of rows: it stays where it is
while new runs arrive, and the thousandth page costs what the first one does.

Where an index has the matches in that order, a page reads what it shows. Elsewhere it looks through
the next LOOKED_THROUGH runs only. If that does not fill it, either an index finds the matches in
some other order, and they are sorted; or the page ends there, and says how far it looked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Coalesce

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet

LOOKED_THROUGH: Final = 20_000  # runs a page; those of one function lie far apart
LAST: Final = 2**128 - 1


class Reach(Enum):
    """How what a filter keeps is found."""

    ORDERED = auto()  # by an index, in the order of the list
    INDEXED = auto()  # by an index, in some other order
    SCANNED = auto()  # by looking at one run after the other

    @classmethod
    def of(cls, each: Iterable[Reach]) -> Reach:
        """Return how what several filters keep together is found."""
        reaches = set(each)
        if reaches <= {cls.ORDERED}:
            return cls.ORDERED
        return cls.INDEXED if cls.INDEXED in reaches else cls.SCANNED


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of the list, and the run where looking for more ended (None: all were seen)."""

    rows: list[Any]
    end: UUID | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """The rows of a list, and how they are found."""

    rows: QuerySet[Any]
    in_order: QuerySet[Any]  # more than these: what is kept by the filters that are ORDERED
    reach: Reach

    def older(self, most: int, before: UUID | None = None) -> Part:
        """Return the newest rows, of those before a run if one is given, newest first."""
        rows, in_order = self.rows, self.in_order
        if before is not None:
            rows, in_order = rows.filter(pk__lt=before), in_order.filter(pk__lt=before)
        return self._read(rows, in_order, most, is_down=True)

    def newer(self, most: int, after: UUID) -> Part:
        """Return the oldest rows after a run, oldest first."""
        rows, in_order = self.rows.filter(pk__gt=after), self.in_order.filter(pk__gt=after)
        return self._read(rows, in_order, most, is_down=False)

    def _read(
        self, rows: QuerySet[Any], in_order: QuerySet[Any], most: int, *, is_down: bool
    ) -> Part:
        order = "-pk" if is_down else "pk"
        if self.reach is Reach.ORDERED:
            return Part(list(rows.order_by(order)[:most]))
        ids = in_order.order_by(order).values_list("pk", flat=True)
        end = ids[LOOKED_THROUGH - 1 : LOOKED_THROUGH].first()
        near = rows if end is None else rows.filter(**{"pk__gte" if is_down else "pk__lte": end})
        found = list(near.order_by(order)[:most])
        if end is None or len(found) >= most:
            return Part(found)
        if self.reach is Reach.INDEXED:
            return Part(list(rows.order_by(_unindexed(is_down=is_down))[:most]))
        return Part(found, end)


def _unindexed(*, is_down: bool) -> Any:
    """Return an order that is that of the ids, and that no index has.

    With an index in the order that is asked for, PostgreSQL reads it until it has found enough. It
    expects that soon, and reads all of the table where the matches are few and old.
    """
    value = Coalesce(F("pk"), F("pk"))
    return value.desc() if is_down else value.asc()


def cursor_in(text: str | None) -> UUID | None:
    """Return the id that an address names, None unless it can be that of a run."""
    try:
        cursor = UUID(text or "")
    except ValueError:
        return None
    return cursor if cursor.version == 7 else None


def just_before(cursor: UUID) -> UUID:
    """Return the id before this one: what comes after that begins with this one."""
    return UUID(int=max(0, cursor.int - 1))


def just_after(cursor: UUID) -> UUID:
    """Return the id after this one: what comes before that begins with this one."""
    return UUID(int=min(LAST, cursor.int + 1))
