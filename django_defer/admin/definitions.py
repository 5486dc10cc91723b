"""Cron definitions: when each scheduled function is due, what came of its last slot."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from django.contrib import admin
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_defer.admin.acting import ActingAdmin, as_actions
from django_defer.admin.filters import StatusFilter
from django_defer.admin.mirrors import (
    orphaned_in_words,
    pause_facts,
    pause_in_words,
    status_badge,
)
from django_defer.admin.pages import Page, Section, Table
from django_defer.admin.rendering import (
    EMPTY,
    as_slot,
    code,
    now,
    quiet,
    relative,
    show_instant,
    stack,
    stack_instant,
    state_badge,
    with_zone,
)
from django_defer.admin.sentences import children_in_words, slot_in_words
from django_defer.admin.verbs import PAUSE, RESUME, RUN_NOW
from django_defer.durations import format_duration
from django_defer.exceptions import InvalidCronExpression
from django_defer.models import BackgroundFunction, CronDefinition, Run

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from django.http import HttpRequest

    from django_defer.admin.rendering import Links

NEXT_SLOTS: Final = 5


class CronDefinitionAdmin(ActingAdmin):
    """When scheduled functions run."""

    verbs = (RUN_NOW, PAUSE, RESUME)
    actions = as_actions(verbs)
    list_display = ("key", "status", "schedule", "next_slot", "last_slot", "last_run_link")
    list_display_links = ("key",)
    list_filter = (StatusFilter,)
    search_fields = ("function__pk", "code_expression", "expression_override")
    sortable_by = ("key", "next_slot", "last_slot")
    ordering = ("function_id",)

    def page(self, request: HttpRequest, row: CronDefinition) -> Page:
        """Return what the page of this definition shows."""
        return definition_page(row, self.links)

    def prepare(self, rows: list[Any]) -> None:
        """Fetch the last runs of these definitions."""
        found = Run.objects.defer("args", "result", "metadata").in_bulk(
            [row.last_run_id for row in rows if row.last_run_id]
        )
        for row in rows:
            row.shown_last_run = found.get(row.last_run_id)

    @admin.display(description=gettext_lazy("function"), ordering="function_id")
    def key(self, row: CronDefinition) -> str:
        """The function's key."""
        return str(row.function_id)

    @admin.display(description=gettext_lazy("status"))
    def status(self, row: CronDefinition) -> str:
        """Active, paused, in error, not in the code."""
        return status_badge(row)

    @admin.display(description=gettext_lazy("schedule"))
    def schedule(self, row: CronDefinition) -> str:
        """The expression and zone in force, and in words."""
        return format_html(
            "{} {}{}", code(row.expression), row.timezone, stack(quiet(in_words(row)))
        )

    @admin.display(description=gettext_lazy("next slot"), ordering="next_slot_at")
    def next_slot(self, row: CronDefinition) -> str:
        """When it is due next."""
        if row.next_slot_at is None:
            return EMPTY
        soon = quiet(relative(row.next_slot_at, now()))
        return format_html("{}{}", stack_instant(row.next_slot_at), stack(soon))

    @admin.display(description=gettext_lazy("last slot"), ordering="last_slot_at")
    def last_slot(self, row: CronDefinition) -> str:
        """When it was due last."""
        return stack_instant(row.last_slot_at)

    @admin.display(description=gettext_lazy("its run"))
    def last_run_link(self, row: Any) -> str:
        """The run of the last slot."""
        run = row.shown_last_run
        return EMPTY if run is None else self.links.to(Run, run.pk, state_badge(run))


def in_words(row: CronDefinition) -> str:
    """Return the schedule in words, or why it can't be read."""
    try:
        return row.schedule.describe()
    except InvalidCronExpression as error:
        return str(error)


def definition_page(row: CronDefinition, links: Links) -> Page:
    """Return the page of a definition."""
    at = now()
    last = Run.objects.filter(pk=row.last_run_id).first() if row.last_run_id else None
    sentences = [
        orphaned_in_words(row),
        pause_in_words(row),
        _next_in_words(row, at),
        row.error,
        children_in_words(last, links) if last else "",
    ]
    return Page(
        title=row.function_id,
        subtitle=f"{row.expression} {row.timezone}",
        badge=status_badge(row),
        sentences=[sentence for sentence in sentences if sentence],
        sections=[
            Section(title=_("Schedule"), facts=_schedule(row, links), is_half=True),
            Section(title=_("Last slot"), facts=_last(row, last, links), is_half=True),
            _next_section(row, at),
            Section(title=_("Pause"), facts=pause_facts(row), is_half=True),
            Section(title=_("What its runs inherit"), facts=_inherited(row), is_half=True),
        ],
    )


def _next_in_words(row: CronDefinition, at: datetime) -> str:
    if row.next_slot_at is None:
        return ""
    when = {"time": with_zone(row.next_slot_at), "relative": relative(row.next_slot_at, at)}
    return _("Next due at %(time)s (%(relative)s).") % when


def _schedule(row: CronDefinition, links: Links) -> list[tuple[Any, Any]]:
    in_force = format_html("{} {}", code(row.expression), row.timezone)
    in_code = format_html("{} {}", code(row.code_expression), row.code_timezone)
    is_overridden = bool(row.expression_override or row.timezone_override)
    return [
        (_("Function"), links.to(BackgroundFunction, row.function_id, row.function_id)),
        (_("In force"), in_force),
        (_("In words"), in_words(row)),
        (_("In the code"), in_code if is_overridden else _("the same")),
        (_("Overridden by"), row.overridden_by),
        (_("Overridden at"), show_instant(row.overridden_at) if row.overridden_at else ""),
        (_("Missed slots"), row.get_catch_up_display()),
        (_("Earlier run not finished"), row.get_overlap_display()),
    ]


def _last(row: CronDefinition, last: Run | None, links: Links) -> list[tuple[Any, Any]]:
    if row.last_slot_at is None:
        return [(_("Slot"), _("None yet."))]
    run: Any = _("pruned") if row.last_run_id else EMPTY
    if last is not None:
        run = format_html("{} {}", links.to_run(last), state_badge(last))
    return [
        (_("Slot"), slot_in_words(row.last_slot_at)),
        (_("Run"), run),
        (_("Missed slots it stands for"), (last and last.missed_slots) or ""),
        (_("All runs"), links.to_list(Run, _("show"), definition=row.pk)),
    ]


def _next_section(row: CronDefinition, at: datetime) -> Section:
    """List the next slots, in the definition's own zone and in UTC."""
    if row.orphaned_at is not None:
        return Section(title="")
    title = _("Next slots once it is resumed") if row.is_paused else _("Next slots")
    try:
        slots = row.next_slots(NEXT_SLOTS, at)
        zone = ZoneInfo(row.timezone)
    except InvalidCronExpression as error:
        return Section(title=title, text=str(error))
    own = [] if row.timezone == "UTC" else [row.timezone]
    rows = [
        [
            *(_on_weekday(slot, zone, name) for name in own),
            _on_weekday(slot, UTC, "UTC"),
            relative(slot, at),
        ]
        for slot in slots
    ]
    table = Table(headings=[*own, "UTC", ""], rows=rows)
    return Section(title=title, table=table, text="" if slots else _("Never again."))


def _on_weekday(slot: datetime, zone: tzinfo, name: str) -> str:
    time = f"{date_format(slot.astimezone(zone), 'D')} {as_slot(slot, zone)}"
    return format_html('<span class="defer-time">{}</span> {}', time, quiet(name))


def _inherited(row: CronDefinition) -> list[tuple[Any, Any]]:
    return [
        (_("Queue"), row.queue),
        (_("Priority"), row.priority),
        (_("Most attempts"), row.max_attempts),
        (_("Rerun if lost"), _("yes") if row.rerun_if_lost else _("no")),
        (_("Discard after"), format_duration(row.discard_after) if row.discard_after else ""),
    ]
