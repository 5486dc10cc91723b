"""What a new slot does to the runs of earlier ones: `overlap` and `supersede`.

Only runs that slots made count, not those of `run_now`; and a run that waits for a retry is no
overlap (`supersede` is about those). A run that may not begin beside a running one is parked until
that has ended: the worker at its end, or else a heartbeat, puts it into the queue.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING

from django.db.models import Exists, OuterRef

from django_defer.models import CronDefinition, Run
from django_defer.states import WAITING, Reason, State
from django_defer.transitions import discard, request_abort, unpark

if TYPE_CHECKING:
    from datetime import datetime

    from django_defer.querysets import RunQuerySet

Overlap = CronDefinition.Overlap
WAITS_FOR_EARLIER = (Overlap.QUEUE, Overlap.REPLACE)


def make_way(using: str, runs: list[Run], now: datetime) -> None:
    """Settle the states of the runs of new slots, not yet saved, and end what they replace.

    `runs` are in the order of their slots. Call it in the transaction that inserts them, while
    their definitions' rows are held.
    """
    fresh: dict[CronDefinition, list[Run]] = defaultdict(list)
    for run in runs:
        is_late = run.discard_after is not None and run.discard_after <= now
        if run.state != State.SKIPPED and not is_late and run.definition is not None:
            fresh[run.definition].append(run)
    if superseding := [each.pk for each in fresh if each.supersede]:
        older = Run.objects.using(using).of_slots(superseding)
        discard(using, older.filter(state__in=WAITING, failures__gt=0), Reason.SUPERSEDED)
    having = {policy: [each for each in fresh if each.overlap == policy] for policy in Overlap}
    if skipping := having[Overlap.SKIP]:
        _skip_beside_earlier(using, {each: fresh[each] for each in skipping}, now)
    if waiting := having[Overlap.QUEUE] + having[Overlap.REPLACE]:
        _wait_for_earlier(using, {each: fresh[each] for each in waiting}, now)


def _skip_beside_earlier(using: str, fresh: dict[CronDefinition, list[Run]], now: datetime) -> None:
    """Skip the new runs where an earlier one is unfinished; else all but the first of them."""
    busy = _busy(Run.objects.using(using).of_slots([each.pk for each in fresh]))
    for definition, (first, *others) in fresh.items():
        for run in [*([first] if definition.pk in busy else []), *others]:
            skip(run, Reason.OVERLAP, now)


def _wait_for_earlier(using: str, fresh: dict[CronDefinition, list[Run]], now: datetime) -> None:
    """Keep the last of the new runs alone, and park it where an earlier one still runs.

    "replace" also ends that one.
    """
    rows = Run.objects.using(using)
    found = rows.of_slots([each.pk for each in fresh])
    discard(using, found.not_begun(), Reason.OVERLAP)
    replacing = [each.pk for each in fresh if each.overlap == Overlap.REPLACE]
    replaced = rows.of_slots(replacing)
    discard(using, replaced.filter(state=State.CLAIMED), Reason.OVERLAP)
    request_abort(using, replaced, "replaced by the run of a newer slot")
    busy = _busy(found)  # also one that was given back since, and is queued again
    for definition, (*others, last) in fresh.items():
        for run in others:
            skip(run, Reason.OVERLAP, now)
        if definition.pk in busy:
            last.state, last.reason = State.PARKED, Reason.OVERLAP


def skip(run: Run, reason: Reason, now: datetime) -> None:
    """Make a run that is not yet saved a record of a slot that was not run."""
    run.state, run.reason, run.finished_at = State.SKIPPED, reason, now


def end_waits(using: str, definitions: Collection[int] | None = None) -> int:
    """Queue the runs whose definition has none before them any more; return how many.

    Without `definitions`, look at all that may have such runs.
    """
    waiting = Run.objects.using(using).filter(state=State.PARKED, reason=Reason.OVERLAP)
    if definitions is None:
        policies = CronDefinition.objects.using(using).filter(overlap__in=WAITS_FOR_EARLIER)
        waiting = waiting.filter(definition__in=policies.values("pk"), slot__isnull=False)
    else:
        waiting = waiting.filter(definition__in=definitions, slot__isnull=False)
    before = Run.objects.using(using).filter(definition=OuterRef("definition"), slot__isnull=False)
    before = _in_the_way(before).exclude(state=State.PARKED)
    return unpark(using, waiting.filter(~Exists(before)))


def _busy(runs: RunQuerySet) -> set[int]:
    """Return the definitions that have such a run: in one query, since they move meanwhile."""
    return set(_in_the_way(runs).values_list("definition", flat=True))


def _in_the_way(runs: RunQuerySet) -> RunQuerySet:
    """Those that a newer slot's run may not begin beside: unfinished, and waiting for no retry."""
    return runs.unfinished().exclude(state=State.SCHEDULED, failures__gt=0)
