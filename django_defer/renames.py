"""A function that got another key (`renamed_from=`) takes over its rows, its schedule and its runs.

While hosts with the old code still run, they know the old key only: their workers go on with the
runs that they enqueued, new workers take these too, and a sync of theirs does not bring the old
key back, so that no slot fires twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django_defer.models import BackgroundFunction, CronDefinition, Run

if TYPE_CHECKING:
    from datetime import datetime

    from django_defer.registry import Registry

BATCH: Final = 5000  # runs a statement


def rename(using: str, registry: Registry, now: datetime) -> list[str]:
    """Let the rows of former keys be those of the new ones; return a line for each.

    Where a new key has rows of its own already, those of the former key are orphaned.
    """
    former = {key: function.key for function in registry for key in function.former_keys}
    if not former:
        return []
    renamed = _take_over(BackgroundFunction.objects.using(using), "key", former, now)
    _take_over(CronDefinition.objects.using(using), "function", former, now)
    return [f"function {old} → {new}" for old, new in renamed]


def move_runs(using: str, registry: Registry) -> int:
    """Let the runs of former keys be those of the new ones, in batches; return how many."""
    moved = 0
    for function in registry:
        for key in function.former_keys:
            moved += _move_runs(using, key, function.key)
    return moved


def _take_over(
    rows: Any, column: str, former: dict[str, str], now: datetime
) -> list[tuple[str, str]]:
    known = set(rows.filter(**{f"{column}__in": former.values()}).values_list(column, flat=True))
    old_keys = rows.filter(**{f"{column}__in": former}, orphaned_at__isnull=True)
    renamed = []
    for old in sorted(old_keys.values_list(column, flat=True)):
        own, new = rows.filter(**{column: old}), former[old]
        if new in known:
            own.update(orphaned_at=now)
            continue
        known.add(new)
        own.update(**{column: new})
        renamed.append((old, new))
    return renamed


def _move_runs(using: str, old: str, new: str) -> int:
    runs = Run.objects.using(using)
    total = 0
    while batch := list(runs.filter(function=old).values_list("pk", flat=True)[:BATCH]):
        total += runs.filter(pk__in=batch).update(function=new)
    return total
