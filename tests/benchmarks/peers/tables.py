"""A queue in PostgreSQL as seen from outside of it: its tables, emptied and counted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import psycopg
from psycopg import sql

from tests.benchmarks.arena import count


@cache
def connection() -> psycopg.Connection:
    """Return this process's connection to the peer's database, in autocommit."""
    return psycopg.connect(autocommit=True)


@dataclass(frozen=True)
class Tables:
    """The tables that a round fills, and the queries that count."""

    names: tuple[str, ...]
    unfinished: str
    failed: str

    def clear(self) -> None:
        """Empty them."""
        tables = sql.SQL(", ").join(map(sql.Identifier, self.names))
        connection().execute(sql.SQL("TRUNCATE {} CASCADE").format(tables))

    def count_unfinished(self) -> int:
        """Return how many are not finished, durably."""
        return count(connection(), self.unfinished)

    def count_failed(self) -> int:
        """Return how many did not succeed."""
        return count(connection(), self.failed)


def settle() -> None:
    """Let nobody pay for another's writes: fresh statistics, and a checkpoint now."""
    connection().execute("VACUUM ANALYZE")
    connection().execute("CHECKPOINT")
