"""What a message says of a run, kept with the alert: the run itself may be pruned first.

No arguments, and no metadata that is called like a sensitive parameter.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from django_defer.alerts.events import Event
from django_defer.models import Run
from django_defer.redaction import sensitive_names
from django_defer.run_facts import attempts_in_words
from django_defer.states import Reason, State
from django_defer.wording import show_duration, slot_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from django_defer.models import AlertEvent

FIRST: Final = 3  # examples that stay: how it began
LATEST: Final = 2  # examples that the next ones replace
LONGEST_ERROR: Final = 300  # characters
MOST_CHILDREN: Final = 10_000  # that are counted
_ERROR_CLASS: Final = re.compile(r"[\w.]+: ")


def with_examples(
    using: str, known: Sequence[Mapping[str, Any]], events: Sequence[AlertEvent]
) -> list[Mapping[str, Any]]:
    """Return the examples of an alert that has these and now gets these events."""
    room = max(0, FIRST - len(known))
    new = [*events[:room], *events[room:][-LATEST:]]
    described = _describe(using, new)
    first, latest = known[:FIRST], known[FIRST:]
    return [*first, *described[:room], *[*latest, *described[room:]][-LATEST:]]


def last_line(error: str) -> str:
    """Return the last line that says something, with the error's class, cut to a length."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    if not lines:
        return ""
    found = _ERROR_CLASS.match(lines[0]) if len(lines) > 1 else None
    line = (found[0] if found else "") + lines[-1]
    return line if len(line) <= LONGEST_ERROR else f"{line[: LONGEST_ERROR - 1]}…"


def _describe(using: str, events: Sequence[AlertEvent]) -> list[dict[str, Any]]:
    runs = _read(using, {event.run_id for event in events})
    above = _read(using, {each for run in runs.values() for each in (run.parent_id, run.root_id)})
    return [_describe_one(using, event, runs.get(event.run_id), above) for event in events]


def _read(using: str, ids: set[UUID | None]) -> dict[UUID | None, Run]:
    rows = Run.objects.using(using).filter(pk__in=[each for each in ids if each])
    return {run.pk: run for run in rows.defer("args", "result")}


def _describe_one(
    using: str, event: AlertEvent, run: Run | None, above: Mapping[UUID | None, Run]
) -> dict[str, Any]:
    said: dict[str, Any] = {"at": event.at.isoformat(), "error": last_line(event.error)}
    if event.run_id:
        said["run_id"] = str(event.run_id)
    if run is None:
        return said
    if event.error and run.error.startswith(event.error):  # the event has but its beginning
        said["error"] = last_line(run.error)
    elif not event.error:
        said["error"] = _why(event, run)
    hidden = sensitive_names(event.subject, using)
    pairs = run.metadata if isinstance(run.metadata, dict) else {}
    return said | {
        "label": run.label,
        "metadata": {key: str(value) for key, value in pairs.items() if key not in hidden},
        "attempts": attempts_in_words(run),
        "slot": run.slot.isoformat() if run.slot else None,
        "fan_out": _fan_out(using, run, above),
    }


def _why(event: AlertEvent, run: Run) -> str:
    """Return what there is to say of a run without an error."""
    if event.event == Event.RUN_SLOW and run.duration is not None:
        return f"took {show_duration(run.duration)}".replace("\xa0", " ")
    if run.state in (State.SKIPPED, State.DISCARDED):
        return str(Reason(run.reason).label) if run.reason in Reason else last_line(run.reason)
    return ""


def _fan_out(using: str, run: Run, above: Mapping[UUID | None, Run]) -> str:
    """Return "3 of 300 of shop.weekly, Monday 2026-11-23 08:00 UTC": the third that failed."""
    parent = above.get(run.parent_id)
    if parent is None:
        return ""
    children = Run.objects.using(using).children_of(parent.pk).order_by()
    count = children[: MOST_CHILDREN + 1].count()
    place = "one"
    if run.state == State.FAILED and run.finished_at is not None:
        failed = children.filter(state=State.FAILED, finished_at__lte=run.finished_at)
        place = _up_to_most(failed[: MOST_CHILDREN + 1].count())
    text = f"{place} of {_up_to_most(count)} of {parent.function_id}"
    root = above.get(run.root_id)
    if parent.slot is None and root is not None and root.pk != parent.pk:
        text += f", from {root.function_id}"
    slot = parent.slot or (root.slot if root is not None else None)
    return f"{text}, {slot_in_words(slot)}" if slot else text


def _up_to_most(count: int) -> str:
    return f"{count:,}" if count <= MOST_CHILDREN else f"more than {MOST_CHILDREN:,}"
