"""Insert many runs at once: on PostgreSQL a column travels as one array, or once if all are alike.

Django's INSERT has a parameter for each of the 36 columns of each run. For a thousand runs that
takes longer than everything else that is done for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models.expressions import DatabaseDefault

from django_defer.models import Run

if TYPE_CHECKING:
    from uuid import UUID


def insert(using: str, runs: list[Run]) -> set[UUID]:
    """Insert the runs that break no unique constraint; return their ids."""
    if not runs:
        return set()
    if connections[using].vendor != "postgresql":
        rows = Run.objects.using(using)
        rows.bulk_create(runs, ignore_conflicts=True)
        return set(rows.filter(pk__in=[run.pk for run in runs]).values_list("pk", flat=True))
    made = _insert_arrays(using, runs)
    for run in runs:
        run._state.adding, run._state.db = run.pk not in made, using
    return made


def _insert_arrays(using: str, runs: list[Run]) -> set[UUID]:
    connection = connections[using]
    same: dict[str, tuple[str, Any]] = {}
    arrays: dict[str, tuple[str, Any]] = {}
    for field in Run._meta.concrete_fields:
        values = [getattr(run, field.attname) for run in runs]
        first = values[0]
        if isinstance(first, DatabaseDefault):  # then it is for all of them
            continue
        column = connection.ops.quote_name(str(field.column))
        kind = str(field.db_type(connection)).partition("(")[0]  # a length would cut in silence
        alike = all(value == first for value in values) and not field.primary_key
        if isinstance(first, dict | list):  # [1] == [True]
            alike = False
        if not alike:
            prepared: Any = [field.get_db_prep_save(value, connection) for value in values]
            arrays[column] = (f"%s::{kind}[]", prepared)
        else:
            same[column] = (f"%s::{kind}", field.get_db_prep_save(first, connection))
    sql = (
        f"INSERT INTO {Run._meta.db_table} ({', '.join([*same, *arrays])}) "  # noqa: S608
        f"SELECT {', '.join([kind for kind, _ in same.values()] + list(arrays))} "
        f"FROM unnest({', '.join(kind for kind, _ in arrays.values())}) "
        f"AS each ({', '.join(arrays)}) "
        f"ON CONFLICT DO NOTHING RETURNING id"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [value for _, value in [*same.values(), *arrays.values()]])
        return {pk for (pk,) in cursor.fetchall()}
