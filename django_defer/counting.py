"""Counting runs up to a limit: how long it takes doesn't depend on how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.db import connections

from django_defer.conf import conf
from django_defer.models import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_COUNTED: Final = 10_000  # of each value

# One look at an index for each value, which ends at the limit. Each is written out: what a planner
# knows of a value tells it to use the index for those that hardly occur.
_COUNT: Final = """
    SELECT CAST(%s AS varchar), count(*) FROM (
        SELECT 1 FROM {run} WHERE {column} = %s AND {condition} LIMIT {limit}
    ) AS found
"""


def count_each(column: str, values: Sequence[str], condition: str, *params: Any) -> dict[str, int]:
    """Count the runs that have each of these values in a column, MOST_COUNTED + 1 at most.

    `column` and `condition` are SQL of our own. Together they have to be what an index is for.
    """
    if not values:
        return {}
    connection = connections[str(conf.database)]
    one = _COUNT.format(
        run=connection.ops.quote_name(Run._meta.db_table),
        column=column,
        condition=condition,
        limit=MOST_COUNTED + 1,
    )
    with connection.cursor() as cursor:
        all_of_them = [each for value in values for each in (value, value, *params)]
        cursor.execute(" UNION ALL ".join([one] * len(values)), all_of_them)
        return {value: n for value, n in cursor.fetchall() if n}


def up_to_limit(count: int) -> str:
    """Return a count as text, "10,000+" of more than that."""
    return f"{MOST_COUNTED:,}+" if count > MOST_COUNTED else f"{count:,}"


def sum_up(counts: Sequence[int]) -> str:
    """Return the sum of such counts as text."""
    total = sum(min(count, MOST_COUNTED) for count in counts)
    return f"{total:,}+" if max(counts, default=0) > MOST_COUNTED else f"{total:,}"
