"""Insert many runs at once: what is alike in all of them is sent once, not with each.

Django's INSERT has a parameter for each of the 36 columns of each run. For a thousand runs that
takes longer than everything else that is done for them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from django.db import connections
from django.db.models.expressions import DatabaseDefault

from django_defer.clock import DatabaseNow
from django_defer.models import Run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Field

_CALLS: Final = {  # rows from one text, as a JSON list of pairs: an id, and the JSON of arguments
    "postgresql": "SELECT (value ->> 0)::uuid AS id, (value ->> 1)::jsonb AS args "
    "FROM json_array_elements(%s::json)",  # jsonb would hold only 256 MB
    "sqlite": "SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS args "
    "FROM json_each(%s)",
}


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


def insert_calls(using: str, run: Run, calls: Mapping[UUID, Any]) -> None:
    """Insert a run for each id, with these arguments; all else is what `run` says."""
    connection = connections[using]
    compiler = Run.objects.using(using).query.get_compiler(using)
    columns: list[str] = []
    values: list[str] = []
    parameters: list[Any] = []
    for field in Run._meta.concrete_fields:
        value = getattr(run, field.attname)
        if field.name in ("id", "args") or isinstance(value, DatabaseDefault):
            continue
        columns.append(connection.ops.quote_name(str(field.column)))
        if isinstance(value, DatabaseNow):
            expression, own = compiler.compile(value)
            values.append(expression)
            parameters += own
        else:
            values.append(_parameter(field, connection))
            parameters.append(field.get_db_prep_save(value, connection))
    pairs = json.dumps([(pk.hex, json.dumps(args)) for pk, args in calls.items()])
    sql = (
        f"INSERT INTO {Run._meta.db_table} (id, args, {', '.join(columns)}) "  # noqa: S608
        f"SELECT each.id, each.args, {', '.join(values)} "
        f"FROM ({_CALLS[connection.vendor]}) AS each"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [*parameters, pairs])


def _parameter(field: Field[Any, Any], connection: BaseDatabaseWrapper, of: str = "") -> str:
    """Return a placeholder that has the column's type where the database asks for one."""
    if connection.vendor != "postgresql":
        return "%s"
    kind = str(field.db_type(connection)).partition("(")[0]  # a length would cut in silence
    return f"%s::{kind}{of}"


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
        alike = all(value == first for value in values) and not field.primary_key
        if isinstance(first, dict | list):  # [1] == [True]
            alike = False
        if not alike:
            prepared: Any = [field.get_db_prep_save(value, connection) for value in values]
            arrays[column] = (_parameter(field, connection, "[]"), prepared)
        else:
            prepared = field.get_db_prep_save(first, connection)
            same[column] = (_parameter(field, connection), prepared)
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
