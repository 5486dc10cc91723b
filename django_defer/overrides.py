"""An operator's expression and zone in place of the code's: set, shown beside them, and cleared.

Syncs and deploys leave it alone. `actor` is text: who did it.
"""

from __future__ import annotations

from django.db import transaction

from django_defer.clock import database_now
from django_defer.conf import conf
from django_defer.event_loop import in_thread, refuse_event_loop
from django_defer.exceptions import InvalidOption
from django_defer.materialise import begin_anew, fire_before_change
from django_defer.models import CronDefinition
from django_defer.pauses import locked
from django_defer.wakeup import announce


def override(
    definition: CronDefinition, *, expression: str = "", timezone: str = "", actor: str = ""
) -> None:
    """Put an expression, a zone or both in force, from the next slot after now.

    Raises InvalidCronExpression, or InvalidDuration for an interval, and changes nothing then.
    """
    refuse_event_loop(".override()")
    if not (expression or timezone):
        raise InvalidOption("Give an expression, a timezone or both; clear_override() ends it.")
    _set(definition, expression.strip(), timezone.strip(), actor)


def clear_override(definition: CronDefinition, *, actor: str = "") -> None:
    """Put the code's expression and zone in force again, from the next slot after now."""
    refuse_event_loop(".clear_override()")
    _set(definition, "", "", actor)


aoverride, aclear_override = in_thread(override), in_thread(clear_override)


def _set(definition: CronDefinition, expression: str, timezone: str, actor: str) -> None:
    using = str(conf.database)
    is_set = bool(expression or timezone)
    with transaction.atomic(using=using):
        row, now = locked(definition), database_now(using)
        if timezone and row.kind == row.Kind.EVERY:
            raise InvalidOption("An interval knows no time zone: leave timezone out.")
        row = fire_before_change(using, row, now)
        row.expression_override, row.timezone_override = expression, timezone
        if is_set:
            row.schedule.next_after(now)  # an expression that can't be used is refused here
        CronDefinition.objects.filter(pk=row.pk).update(
            expression_override=expression,
            timezone_override=timezone,
            overridden_by=actor[:150] if is_set else "",
            overridden_at=now if is_set else None,
            **begin_anew(row, now),
        )
    announce(using)
    definition.refresh_from_db()
