"""Idempotency keys: while a run with this key is unfinished, there is no second one."""

from __future__ import annotations

from typing import Final

from django.db.models import Q

from django_defer.exceptions import InvalidOption
from django_defer.models import Run

TRIES: Final = 100  # how often the run that has the key may end between our two statements


def insert_once(run: Run, using: str) -> bool:
    """Insert the run, or make `run` the unfinished one that has its key; say which.

    A unique constraint decides between callers; a run gives its key back when it ends.
    """
    rows = Run.objects.using(using)
    for _ in range(TRIES):
        rows.bulk_create([run], ignore_conflicts=True)
        found = rows.filter(Q(pk=run.pk) | Q(key=run.key)).first()
        if found is not None:
            is_new = found.pk == run.pk
            if found.function_id != run.function_id:
                raise InvalidOption(
                    f"key={run.key!r} is that of an unfinished run of {found.function_id}, and "
                    f"all functions share their keys: write one that names the function, such "
                    f'as "{run.function_id}:{run.key}".'
                )
            _become(run, found)
            return is_new
    raise RuntimeError(f"The runs with key={run.key!r} end faster than they can be looked at.")


def _become(run: Run, found: Run) -> None:
    for field in Run._meta.concrete_fields:
        setattr(run, field.attname, getattr(found, field.attname))
    run._state = found._state
