"""What `defer_explain` prints: a sentence that says why, then the facts to act upon.

Lines for a terminal: what comes from rows is cut to one printable line. Nothing is printed of
arguments and results, so that the output may be shown to others.
"""

from __future__ import annotations

from datetime import UTC
from itertools import chain
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from django.utils.formats import date_format
from django.utils.translation import gettext as _

from django_defer.counting import sum_up, up_to_limit
from django_defer.definition_explanations import (
    definition_in_words,
    error_in_words,
    last_slot_in_words,
    schedule_as_text,
    schedule_in_words,
)
from django_defer.explanations import state_in_words
from django_defer.models import Attempt, BackgroundFunction, CronDefinition, Run
from django_defer.reports import MOST_FAILURES, MOST_WAITING
from django_defer.run_facts import (
    attempts_in_words,
    count_children,
    latest_attempts,
    state_word,
)
from django_defer.schedules import SLOTS_SHOWN
from django_defer.states import ACTIVE, WAITING, State
from django_defer.status_text import aligned, one_line
from django_defer.wording import (
    as_slot,
    as_text,
    first_line,
    orphaned_in_words,
    pause_in_words,
    relative,
    show_duration,
    slot_in_words,
    with_zone,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from datetime import datetime, tzinfo
    from uuid import UUID

    from django_defer.subjects import Subject

MOST_ATTEMPTS: Final = 20  # the latest ones


def lines(subject: Subject, at: datetime) -> Iterator[str]:
    """Yield what there is to say about a run, a definition or a function."""
    if isinstance(subject, Run):
        found = _run(subject, at)
    elif isinstance(subject, CronDefinition):
        found = _definition(subject, at)
    else:
        found = _function(subject, at)
    for line in found:
        yield _printable(line)


def _printable(line: str) -> str:
    """Return a line without what a terminal would obey, and with ordinary spaces."""
    return "".join(c if c.isprintable() else "�" for c in line.replace("\xa0", " "))


def _run(run: Run, at: datetime) -> Iterator[str]:
    yield from _wrapped([state_in_words(run, at)])
    yield from _facts(
        (_("run"), run.pk),
        (_("function"), run.function_id),
        (_("label"), run.label),
        (_("queue"), run.queue),
        (_("priority"), run.priority or ""),
        (_("enqueued"), _when(run.enqueued_at, at)),
        (_("enqueued by"), run.enqueued_by),
        (_("slot"), slot_in_words(run.slot) if run.slot else ""),
        (_("due"), _when(run.run_after, at) if run.state == State.SCHEDULED or run.slot else ""),
        (_("started"), _when(run.started_at, at)),
        (_("finished"), _when(run.finished_at, at)),
        (_("deadline"), _when(run.discard_after, at)),
        (_("attempts"), attempts_in_words(run)),
        (_("parent"), _relative(run.parent_id)),
        (_("rerun of"), _relative(run.rerun_of_id)),
        (_("children"), _children(run)),
    )
    attempts = latest_attempts(run, MOST_ATTEMPTS)
    yield from _section(
        _("Attempts"), aligned([_attempt(each) for each in attempts]) if attempts else []
    )


def _attempt(attempt: Attempt) -> list[str]:
    return [
        str(attempt.number),
        one_line(attempt.get_outcome_display()),
        with_zone(attempt.started_at) if attempt.started_at else "",
        show_duration(attempt.duration),
        one_line(attempt.error),
    ]


def _relative(run_id: UUID | None) -> str:
    """Return id, function and state of a run that another one names."""
    if run_id is None:
        return ""
    run = Run.objects.only("id", "function", "state").filter(pk=run_id).first()
    return f"{run_id} ({run.function_id}, {run.state})" if run else f"{run_id} ({_('pruned')})"


def _children(run: Run) -> str:
    counts = count_children(run.pk)
    parts = ", ".join(f"{up_to_limit(n)} {state_word(state)}" for state, n in counts.items())
    return f"{sum_up(list(counts.values()))}: {parts}" if counts else ""


def _definition(row: CronDefinition, at: datetime) -> Iterator[str]:
    last = Run.objects.filter(pk=row.last_run_id).first() if row.last_run_id else None
    told = definition_in_words(row, last, at)
    slots = [sentence for sentence in last_slot_in_words(row, last, at) if sentence not in told]
    error = error_in_words(row)
    yield from _wrapped([*([error] if error else []), *told, *slots])
    words = schedule_in_words(row)
    schedule = schedule_as_text(row)
    yield from _facts(
        (_("function"), row.function_id),
        (_("schedule"), schedule),
        (_("in words"), "" if error or words == schedule else words),
        (_("catch-up"), row.get_catch_up_display()),
        (_("overlap"), row.get_overlap_display()),
        (_("last run"), _relative(row.last_run_id)),
        *_counts(str(row.function_id), at),
    )
    yield from _section(_next_title(row), _next_slots(row, at))


def _next_title(row: CronDefinition) -> str:
    return _("Next slots") if row.fires else _("Slots it would have")


def _next_slots(row: CronDefinition, at: datetime) -> list[str]:
    """Return the next slots in the definition's own zone and in UTC; an interval has no zone."""
    try:
        slots = row.next_slots(SLOTS_SHOWN, at)
        zone = ZoneInfo(row.timezone)
    except ValueError:
        return []
    is_own = row.kind != row.Kind.EVERY and row.timezone != "UTC"
    own = [(zone, row.timezone)] if is_own else []
    zones: list[tuple[tzinfo, str]] = [*own, (UTC, "UTC")]
    return (
        aligned([[*(_slot(slot, *each) for each in zones), relative(slot, at)] for slot in slots])
        if slots
        else []
    )


def _slot(slot: datetime, zone: tzinfo, name: str) -> str:
    time = as_text(slot, zone) if slot.second else as_slot(slot, zone)
    return f"{date_format(slot.astimezone(zone), 'D')} {time} {name}"


def _function(row: BackgroundFunction, at: datetime) -> Iterator[str]:
    sentences = [orphaned_in_words(row), pause_in_words(row)]
    if row.synced_at is None:
        sentences.append(_("Not known from any code: run manage.py defer_sync."))
    elif not any(sentences):
        sentences.append(_("Active: each call of it makes a run."))
    yield from _wrapped(sentence for sentence in sentences if sentence)
    yield from _facts(
        (_("function"), row.key),
        (_("queue"), row.queue),
        (_("defined in"), f"{row.module}:{row.line}" if row.module else ""),
        *_counts(row.key, at),
    )


def _counts(key: str, at: datetime) -> list[tuple[str, Any]]:
    """Return what waits and runs of a function, and what failed last."""
    # Looked for among the newest failures: of a function that never fails, all runs were read else.
    failed = Run.objects.failed_last().values("pk")[:MOST_FAILURES]
    run = Run.objects.filter(pk__in=failed, function=key).order_by("-id").first()
    failure = ""
    if run is not None:
        when = _when(run.finished_at, at)
        failure = f"{run.pk} {when} {first_line(run.error or run.reason)}".strip()
    return [
        (_("waiting"), _count(key, WAITING)),
        (_("running"), _count(key, ACTIVE)),
        (_("failed last"), failure),
    ]


def _count(key: str, states: Collection[State]) -> str:
    """Count a state at a time, as each has its own index, and up to a limit."""
    runs = Run.objects.filter(function=key).order_by()
    counts = [runs.in_state(state)[: MOST_WAITING + 1].count() for state in sorted(states)]
    total = min(sum(counts), MOST_WAITING)
    return f"{total:,}{'+' if sum(counts) > MOST_WAITING else ''}"


def _when(instant: datetime | None, at: datetime) -> str:
    return f"{with_zone(instant)} ({relative(instant, at)})" if instant else ""


def _wrapped(sentences: Iterable[str]) -> Iterator[str]:
    """Yield each sentence on a line of its own, whatever newlines a text in it has."""
    for sentence in sentences:
        yield " ".join(sentence.split(None if "\n" in sentence else " "))


def _facts(*facts: tuple[Any, Any]) -> Iterator[str]:
    """Yield the facts that say something, their names in a column, after an empty line."""
    said = [[str(name), one_line(str(value).replace("\xa0", " "))] for name, value in facts]
    yield from chain([""], aligned([row for row in said if row[1]]))


def _section(title: str, body: list[str]) -> Iterator[str]:
    if body:
        yield from chain(["", title], (f"  {line}" for line in body))
