"""Bring cron definitions in line with the code, without touching what an operator set.

What changes when a schedule does takes effect from now and fires nothing by itself; only what was
due before the change is fired first, so that a deploy in the second of a slot does not lose it.
"""

from __future__ import annotations

from copy import copy
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django_defer.catch_up import LOOK_AGAIN
from django_defer.conf import conf
from django_defer.cron import CronSchedule
from django_defer.durations import format_duration
from django_defer.exceptions import InvalidOption
from django_defer.materialise import begin_anew, fire_before_change
from django_defer.models import CronDefinition
from django_defer.schedules import SLOTS_SHOWN, Every, first_anchor
from django_defer.sync_report import SyncReport, Upcoming

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from django_defer.models import BackgroundFunction
    from django_defer.registry import Function

IN_FORCE: Final = ("kind", "expression", "timezone", "interval", "starts_at", "ends_at", "enabled")
SHOWN_AS: Final = {"code_expression": "expression", "code_timezone": "timezone"}


def definition_values(function: Function[Any, Any]) -> dict[str, Any]:
    """Return what code says about a scheduled function's definition, as columns.

    Raises InvalidOption where `enabled=` cannot say whether it is.
    """
    options, timing, schedule = function.options, function.schedule_options, function.schedule
    is_interval = isinstance(schedule, Every)
    return {
        "kind": CronDefinition.Kind.EVERY if is_interval else CronDefinition.Kind.CRON,
        "code_expression": format_duration(schedule.interval)
        if isinstance(schedule, Every)
        else schedule.expression,  # type: ignore[union-attr]
        "code_timezone": schedule.timezone if isinstance(schedule, CronSchedule) else "UTC",
        "interval": schedule.interval if isinstance(schedule, Every) else None,
        "starts_at": timing.starts_at,
        "ends_at": timing.ends_at,
        "jitter": timing.jitter,
        "catch_up": timing.catch_up,
        "catch_up_window": timing.catch_up_window,
        "overlap": timing.overlap,
        "supersede": timing.supersede,
        "queue": options.queue or conf.default_queue,
        "priority": options.priority,
        "max_attempts": options.retry.max_attempts,
        "rerun_if_lost": options.rerun_if_lost,
        "discard_after": options.discard_after,
        "metadata": dict(options.metadata) or None,
        "enabled": timing.is_enabled(function.key),
    }


def sync_definition(
    using: str,
    function: Function[Any, Any],
    row: CronDefinition | None,
    owner: BackgroundFunction | None,
    now: datetime,
    report: SyncReport,
) -> CronDefinition | None:
    """Update the definition's row; return a new one, to be inserted, where there is none yet.

    `owner` is the function's row as it was, so that a definition of a paused function begins
    paused.
    """
    try:
        values = definition_values(function)
    except InvalidOption as problem:
        report.problems.append(str(problem))
        return None
    if row is None:
        return _new(function, values, owner, now, report)
    _update(using, row, values, now, report)
    return None


def _new(
    function: Function[Any, Any],
    values: dict[str, Any],
    owner: BackgroundFunction | None,
    now: datetime,
    report: SyncReport,
) -> CronDefinition:
    row = CronDefinition(function_id=function.key, version=0, **values)
    row.anchor = _anchor(values, now)
    if owner is not None and owner.is_paused:
        for name in ("paused_at", "paused_by", "paused_until", "pause_reason"):
            setattr(row, name, getattr(owner, name))
    for name, value in begin_anew(row, now).items():
        if name != "version":
            setattr(row, name, value)
    report.created.append(f"definition {_named(row)}")
    report.upcoming[function.key] = _upcoming(row, now)
    return row


def _update(
    using: str, row: CronDefinition, values: dict[str, Any], now: datetime, report: SyncReport
) -> None:
    new = _with(row, values, now)
    changes = {n: (getattr(row, n), v) for n, v in values.items() if getattr(row, n) != v}
    revived = row.orphaned_at is not None
    begins_anew = revived or _in_force(new) != _in_force(row)
    drift = "" if begins_anew else _drift(new, now)
    if not (changes or revived or drift):
        _revalidate(using, new, now, report)
        return
    columns: dict[str, Any] = {**values, "orphaned_at": None, "anchor": new.anchor}
    if begins_anew or drift:
        before = [] if revived else _slots_before(row, now)
        if not revived:
            fire_before_change(using, row, now)
        columns |= begin_anew(new, now)
        report.upcoming[str(row.function_id)] = _upcoming(new, now, before, row.timezone)
    CronDefinition.objects.using(using).filter(pk=row.pk).update(**columns)
    if revived:
        report.revived.append(f"definition {_named(new)}")
    else:
        what = ", ".join(filter(None, [described(changes), drift]))
        report.changed.append(f"definition {row.function_id}: {what}")


def _with(row: CronDefinition, values: dict[str, Any], now: datetime) -> CronDefinition:
    """Return the row as it will be, without changing it."""
    new = copy(row)
    for name, value in values.items():
        setattr(new, name, value)
    new.orphaned_at = None
    if new.kind == new.Kind.CRON or new.anchor is None or new.starts_at != row.starts_at:
        new.anchor = _anchor(values, now)
    return new


def _drift(row: CronDefinition, now: datetime) -> str:
    """Say what an upgrade changed under an unchanged expression, if anything."""
    if row.error:
        return ""
    meaning = row.read_meaning()
    if row.meaning and meaning and row.meaning != meaning:
        return f"this version of croniter reads {row.expression!r} differently"
    slot = row.next_slot_at
    if slot is not None and slot > now and meaning and row.next_slot_after(now) != slot:
        return f"the rules of {row.timezone} have changed"
    return ""


def _revalidate(using: str, row: CronDefinition, now: datetime, report: SyncReport) -> None:
    """Mark a stored schedule that cannot be read any more, and look again at one that can be."""
    rows = CronDefinition.objects.using(using).filter(pk=row.pk)
    problem = ""
    try:
        row.schedule.next_after(now)
    except Exception as error:  # noqa: BLE001 - it is shown, and the others go on
        problem = str(error) or type(error).__name__
    if problem:
        report.problems.append(f"definition {row.function_id}: {problem}")
    if problem and not row.error and row.next_slot_at is not None:
        rows.update(
            error=problem,
            unfired_slot_at=row.next_slot_at,
            next_slot_at=now + LOOK_AGAIN,
            version=row.version + 1,
        )
    elif row.error and not problem and row.next_slot_at is not None:
        rows.update(next_slot_at=min(now, row.next_slot_at), version=row.version + 1)
        report.changed.append(f"definition {row.function_id}: can be read again")
    elif not problem and not row.meaning and row.kind == row.Kind.CRON:
        rows.update(meaning=row.read_meaning())


def _in_force(row: CronDefinition) -> list[Any]:
    return [getattr(row, name) for name in IN_FORCE]


def _anchor(values: dict[str, Any], now: datetime) -> datetime | None:
    is_interval = values["kind"] == CronDefinition.Kind.EVERY
    return first_anchor(values["starts_at"], now) if is_interval else None


def _named(row: CronDefinition) -> str:
    where = "" if row.kind == row.Kind.EVERY else f" {row.timezone}"
    return f"{row.function_id} ({row.expression}{where})"


def _upcoming(
    row: CronDefinition,
    now: datetime,
    before: Sequence[datetime] = (),
    zone_before: str = "",
) -> Upcoming:
    try:
        words = row.schedule.describe()
    except ValueError:
        words = ""
    slots, why = _slots(row, now), _why_never(row, now)
    return Upcoming(words, row.timezone, slots, [*before], zone_before, why)


def _slots(row: CronDefinition, now: datetime) -> list[datetime]:
    """Return the next slots, if it fires at all."""
    if row.next_slot_after(now) is None:
        return []
    try:
        return row.next_slots(SLOTS_SHOWN, now)
    except ValueError:
        return []


def _slots_before(row: CronDefinition, now: datetime) -> list[datetime]:
    """Return the next slots by what the expression meant when it was read last."""
    if row.kind == row.Kind.CRON and row.meaning:
        try:
            schedule = CronSchedule.from_meaning(
                row.expression, row.timezone, row.meaning, key=str(row.function_id)
            )
        except ValueError:
            return []
        return row.next_slots(SLOTS_SHOWN, now, schedule=schedule)
    return _slots(row, now)


def _why_never(row: CronDefinition, now: datetime) -> str:
    if row.is_paused:
        return "none while it is paused" + (f" by {row.paused_by}" if row.paused_by else "")
    if not row.enabled:
        return "none, since enabled= says so here"
    try:
        return "" if row.schedule.next_after(now) else "never again"
    except ValueError as error:
        return str(error)


def described(changes: dict[str, tuple[Any, Any]]) -> str:
    """Return "queue default → mail, priority 0 → 1"."""
    parts: list[str] = []
    for name, (old, new) in changes.items():
        if isinstance(old, dict) and isinstance(new, dict):
            inner = {key: (old.get(key), new.get(key)) for key in {*old, *new}}
            parts.append(described({k: v for k, v in sorted(inner.items()) if v[0] != v[1]}))
        elif name != "interval":  # the expression says the same
            parts.append(f"{SHOWN_AS.get(name, name)} {_shown(old)} → {_shown(new)}")
    return ", ".join(parts)


def _shown(value: Any) -> str:
    return format_duration(value) if isinstance(value, timedelta) else str(value)
