"""How many runs of each function have not ended, up to a limit that is said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from django.db import connections

from django_defer.conf import conf
from django_defer.models import Run
from django_defer.states import ACTIVE, UNFINISHED, State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

MOST_LOOKED_AT: Final = 50_000  # runs of each state, of all functions together

# A state at a time: each has a partial index, which a query for all of them would not use. `total`
# tells whether there are more than were looked at.
_COUNT: Final = """
    SELECT * FROM (
        SELECT function, CAST('{state}' AS varchar) AS state, count(*) AS n,
            sum(count(*)) OVER () AS total
        FROM ({runs}) AS found
        GROUP BY function
    ) AS counted WHERE function IN ({keys}) OR total > {most}
"""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The unfinished runs of a function by state. Of the states in `more` there may be others."""

    counts: dict[State, int] = field(default_factory=dict)
    more: frozenset[State] = frozenset()

    def show(self, states: Iterable[State]) -> str:
        """Return how many are in these states, "20+" if there may be others, "" for none."""
        states = set(states)
        n = sum(self.counts.get(state, 0) for state in states)
        return f"{n:,}+" if states & self.more else f"{n:,}" if n else ""

    @property
    def waiting(self) -> str:
        """How many wait, as text."""
        return self.show(UNFINISHED - ACTIVE)

    @property
    def active(self) -> str:
        """How many are in a worker's hands, as text."""
        return self.show(ACTIVE)


def unfinished_of(keys: Collection[str]) -> dict[str, Unfinished]:
    """Count for each of these functions; all in one query."""
    if not keys:
        return {}
    using, statements, parameters = str(conf.database), [], []
    for state in sorted(UNFINISHED):
        runs = Run.objects.in_state(state).order_by().values("function")[: MOST_LOOKED_AT + 1]
        sql, values = runs.query.get_compiler(using).as_sql()
        marks = ", ".join(["%s"] * len(keys))
        statements.append(
            _COUNT.format(state=state.value, runs=sql, keys=marks, most=MOST_LOOKED_AT)
        )
        parameters += [*values, *keys]
    with connections[using].cursor() as cursor:
        cursor.execute(" UNION ALL ".join(statements), parameters)
        rows = cursor.fetchall()
    more = frozenset(State(state) for _key, state, _n, total in rows if total > MOST_LOOKED_AT)
    counts: dict[str, dict[State, int]] = {key: {} for key in keys}
    for key, state, n, _total in rows:
        if key in counts:
            counts[key][State(state)] = n
    return {key: Unfinished(by_state, more) for key, by_state in counts.items()}
