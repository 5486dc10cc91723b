"""What `--once` prints about a run and all that came of it, and whether all went through."""

from __future__ import annotations

from collections import Counter
from email import message_from_bytes
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from django.conf import settings
from django.db.models import Q

from demo_site.marketplace.models import User
from django_defer.alerts.composing import title_of
from django_defer.models import Alert, AlertDelivery, Attempt, Run
from django_defer.models.alerts import MessageKind
from django_defer.states import Outcome, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from django_defer.querysets import RunQuerySet

HEADINGS = ("function", "runs", "succeeded", "failed", "median wait", "median duration")


def family(root: Run) -> RunQuerySet:
    """Return a run and all that came of it."""
    return Run.objects.filter(Q(pk=root.pk) | Q(root=root))


def print_report(root: Run, failure: Run) -> int:
    """Print the table, where the failure was told, and what is amiss; return the exit code."""
    runs = list(family(root).order_by("pk"))
    keys = dict.fromkeys(run.function_id for run in runs)
    print()
    print(table([HEADINGS, *(row(key, [r for r in runs if r.function_id == key]) for key in keys)]))
    print()
    retried = Attempt.objects.filter(run__in=runs, outcome=Outcome.RETRIED).select_related("run")
    for attempt in retried:
        print(f"Retried: {attempt.run.label}, after {attempt.error_class}: {attempt.error_message}")
    children = [run for run in runs if run.parent_id == root.pk]
    mails = mailed(children)
    print(f"Mails: {mails.total()}, in {settings.EMAIL_FILE_PATH}")
    alert = alert_of(failure)
    told = list(alert.deliveries.order_by("pk")) if alert else []
    print(f"Alert: {title_of(alert, MessageKind.OPENED, None) if alert else 'none'}")
    for delivery in told:
        print(f"  {in_words(delivery)}")
    problems = list(amiss(runs, children, mails, len(retried)))
    if not any(delivery.sent_at for delivery in told):
        problems.append("nobody was told of the payment that failed")
    for problem in problems:
        print(f"NOT as it should be: {problem}")
    if not problems:
        print("All went through: one run and one mail for each user who opted in.")
    return 1 if problems else 0


def alert_of(failure: Run) -> Alert | None:
    """Return the alert that has this run as an example."""
    alerts = Alert.objects.filter(subject=failure.function_id).order_by("-last_at")[:5]
    id_ = str(failure.pk)
    return next((a for a in alerts if id_ in [e.get("run_id") for e in a.examples]), None)


def is_told_of(failure: Run) -> bool:
    """Say whether each channel was told of it, or refused."""
    alert = alert_of(failure)
    told = list(alert.deliveries.all()) if alert else []
    return bool(told) and all(each.sent_at or each.given_up_at or each.answer for each in told)


def in_words(delivery: AlertDelivery) -> str:
    """Return "console at 08:04:12 UTC: logged"."""
    if delivery.sent_at is None:
        return f"{delivery.channel}: not told yet, {delivery.answer}"
    return f"{delivery.channel} at {delivery.sent_at:%H:%M:%S} UTC: {delivery.answer}"


def amiss(
    runs: Sequence[Run], children: Sequence[Run], mails: Counter[str], retried: int
) -> Iterable[str]:
    """Yield what is not as it should be."""
    opted_in = set(User.objects.filter(weekly_recommendations=True).values_list("email", flat=True))
    labels = Counter(run.label for run in children)
    others = [run for run in runs if run.state != State.SUCCEEDED]
    if others:
        yield f"{len(others)} runs did not succeed, such as {others[0]}: {others[0].error}"
    if labels != Counter(opted_in):
        yield f"{len(children)} children for {len(opted_in)} users who opted in"
    if mails != Counter(opted_in):
        yield f"{mails.total()} mails for {len(opted_in)} users who opted in"
    if retried != 1:
        yield f"{retried} retries; the one that is staged should have been the only one"


def mailed(children: Sequence[Run]) -> Counter[str]:
    """Count the mails that these runs sent, by address; their Message-ID names the run."""
    ids = {f"<{run.pk}@marketplace.example>" for run in children}
    files = Path(settings.EMAIL_FILE_PATH).glob("*.eml")
    mails = (message_from_bytes(file.read_bytes()) for file in files)
    return Counter(str(mail["To"]) for mail in mails if mail["Message-ID"] in ids)


def row(key: str, runs: Sequence[Run]) -> tuple[str, ...]:
    """Return a line of the table: the runs of one function."""
    states = Counter(run.state for run in runs)
    return (
        key,
        str(len(runs)),
        str(states[State.SUCCEEDED]),
        str(states[State.FAILED]),
        middle(run.wait_time for run in runs),
        middle(run.duration for run in runs),
    )


def middle(times: Iterable[timedelta | None]) -> str:
    """Return the median of what is known, for a person."""
    known = [time.total_seconds() for time in times if time is not None]
    if not known:
        return "-"
    seconds = median(known)
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out in columns, the first to the left and the numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
