"""Put an alert into words, for the person who is woken by them.

What a message says depends on what that channel has been told before, not on what was meant to be
sent: if the first message never got through, the second one begins at the beginning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.urls import NoReverseMatch, reverse

from django_defer.alerts.events import CONDITIONS, FAILURES, Event
from django_defer.alerts.gathering import SILENT
from django_defer.alerts.messages import Example, Message
from django_defer.conf import conf
from django_defer.models.alerts import MessageKind
from django_defer.wording import slot_beside, slot_in_words, with_zone

if TYPE_CHECKING:
    from django_defer.models import Alert, AlertDelivery


@dataclass(frozen=True, slots=True)
class Words:
    """How an event is told of. `{it}` is the subject, `{n}` how often, `{span}` in what time."""

    once: str
    many: str
    still: str
    again: str
    over: str = "recovered: {it} succeeded again"


def _of_runs(did: str, doing: str, noun: str, nouns: str) -> Words:
    return Words(
        f"{{it}} {did}",
        f"{{it}} {did} {{n}} times{{span}}",
        f"still {doing}: {{it}}, {{n}} more since {{since}}",
        f"{doing} again: {{it}}, {{n}} more since {{since}}",
        f"recovered: {{it}} succeeded again after {{n}} {{{noun}|{nouns}}}",
    )


# "{failure|failures}" stands for the one or the other, by the number.
WORDS: Final[Mapping[Event, Words]] = {
    Event.RUN_FAILED: _of_runs("failed", "failing", "failure", "failures"),
    Event.RUN_RETRYING: Words(
        "{it} failed and is tried again",
        "{it} failed {n} times{span} and is tried again",
        "still failing and tried again: {it}, {n} more since {since}",
        "failing again and tried again: {it}, {n} more since {since}",
        "recovered: {it} succeeded again after {n} {failed attempt|failed attempts}",
    ),
    Event.RUN_LOST: _of_runs("was lost", "being lost", "loss", "losses"),
    Event.RUN_TIMED_OUT: _of_runs("timed out", "timing out", "time-out", "time-outs"),
    Event.RUN_SLOW: _of_runs("took too long", "taking too long", "slow run", "slow runs"),
    Event.RUN_SUCCEEDED: _of_runs("succeeded", "succeeding", "success", "successes"),
    Event.RUN_RECOVERED: _of_runs("recovered", "recovering", "recovery", "recoveries"),
    Event.RUN_DISCARDED: _of_runs("was discarded", "being discarded", "discard", "discards"),
    Event.SLOT_MISSED: Words(
        "{it} missed its slot",
        "{it} missed {n} slots{span}",
        "still missing slots: {it}, {n} more since {since}",
        "missing slots again: {it}, {n} more since {since}",
        "recovered: {it} runs at its slots again",
    ),
    Event.DEFINITION_ERROR: Words(
        "the schedule of {it} is broken",
        "the schedule of {it} is broken",
        "still broken: the schedule of {it}, since {first}",
        "broken again: the schedule of {it}",
        "recovered: the schedule of {it} works again",
    ),
    Event.QUEUE_STALLED: Words(
        "queue {it} is stalled",
        "queue {it} is stalled",
        "still stalled: queue {it}, since {first}",
        "stalled again: queue {it}",
        "recovered: queue {it} moves again",
    ),
    Event.NO_WORKERS: Words(
        "no workers are alive{for_it}",
        "no workers are alive{for_it}",
        "still no workers{for_it}, since {first}",
        "again no workers are alive{for_it}",
        "recovered: workers{for_it} are alive again",
    ),
    Event.SCHEDULER_STALLED: Words(
        "the scheduler is stalled",
        "the scheduler is stalled",
        "still stalled: the scheduler, since {first}",
        "stalled again: the scheduler",
        "recovered: the scheduler ticks again",
    ),
}


def compose(delivery: AlertDelivery) -> Message:
    """Return the message, from what is known of its alert now."""
    alert, told = delivery.alert, _told_before(delivery)
    kind = MessageKind(delivery.kind)
    if told is None:
        kind = MessageKind.OPENED
    elif kind == MessageKind.OPENED:
        kind = MessageKind.REMINDER
    return Message(
        id=f"alert-{alert.pk}-{delivery.pk}",
        event=Event(alert.event),
        kind=kind,
        subject=alert.subject,
        title=title_of(alert, kind, told),
        text=text_of(alert, kind),
        count=alert.count,
        first_at=alert.opened_at,
        last_at=alert.last_at,
        examples=tuple(map(_example, _chosen(alert, kind, told))),
        url=admin_url("alert", alert.pk),
    )


def is_old_news(delivery: AlertDelivery) -> bool:
    """Say whether a message that waited for its channel says what the one before it has said."""
    if delivery.kind != MessageKind.REMINDER or delivery.alert.event in CONDITIONS:
        return False
    told = _told_before(delivery)
    return told is not None and told.count >= delivery.alert.count


def _told_before(delivery: AlertDelivery) -> AlertDelivery | None:
    """Return the latest message of the same alert that was sent by the same channel."""
    deliveries = type(delivery).objects.using(delivery._state.db)
    sent = deliveries.filter(
        alert=delivery.alert, channel=delivery.channel, sent_at__isnull=False
    ).exclude(pk=delivery.pk)
    return sent.order_by("-number").first()


def title_of(alert: Alert, kind: MessageKind, told: AlertDelivery | None) -> str:
    """Return the one line that says what happened."""
    words = WORDS[Event(alert.event)]
    n, since = alert.count, alert.opened_at
    if kind == MessageKind.RECOVERED:
        text = words.over
    elif told is None or kind == MessageKind.OPENED:
        text = words.once if n == 1 else words.many
    else:
        text = words.again if told.kind == MessageKind.RECOVERED else words.still
        n, since = alert.count - told.count, told.sent_at or alert.opened_at
    values = {
        "it": alert.subject,
        "for_it": f" for {alert.subject}" if alert.subject else "",
        "n": f"{n:,}",
        "span": _span(alert.last_at - alert.opened_at),
        "since": _minute(since, alert.last_at),
        "first": _minute(alert.opened_at, alert.last_at),
    }
    return _with_plural(text, n).format(**values)


def text_of(alert: Alert, kind: MessageKind) -> str:
    """Return a sentence or two more."""
    sentences = [alert.detail] if alert.detail and kind != MessageKind.RECOVERED else []
    if alert.event not in CONDITIONS and alert.count > 1:
        total = "" if kind == MessageKind.OPENED else f"{alert.count:,} in all. "
        first, last = with_zone(alert.opened_at), with_zone(alert.last_at)
        sentences.append(f"{total}The first at {first}, the latest at {last}.")
    slot = alert.examples[0].get("slot") if alert.examples else None
    if alert.event == Event.SLOT_MISSED and alert.count == 1 and slot:
        sentences.append(f"It was due at {slot_in_words(datetime.fromisoformat(slot))}.")
    if kind != MessageKind.RECOVERED and _has_recovered(alert):
        sentences.append(f"{alert.subject} has succeeded since.")
    if kind != MessageKind.RECOVERED and alert.event in CONDITIONS and alert.closed_at:
        sentences.append(f"This is over since {with_zone(alert.closed_at)}.")
    return " ".join(sentences)


def admin_url(model: str, pk: object) -> str:
    """Return the address of a row's page in the admin; "" without SITE_URL, or without a page."""
    if not conf.site_url:
        return ""
    try:
        path = reverse(f"admin:django_defer_{model}_change", args=[pk])
    except NoReverseMatch:
        return ""
    return f"{str(conf.site_url).rstrip('/')}{path}"


def _has_recovered(alert: Alert) -> bool:
    """Say whether it was closed by a success, not by a long silence."""
    if alert.event not in FAILURES or alert.closed_at is None:
        return False
    return bool(alert.closed_at - alert.last_at < SILENT)


def _chosen(alert: Alert, kind: MessageKind, told: AlertDelivery | None) -> list[Mapping[str, Any]]:
    """Return the examples that are news to the channel."""
    if kind == MessageKind.RECOVERED:
        return []
    known = [each for each in alert.examples if each.get("run_id")]
    if told is None or told.sent_at is None:
        return known
    new = [each for each in known if datetime.fromisoformat(each["at"]) > told.sent_at]
    return new or known[-1:]


def _example(said: Mapping[str, Any]) -> Example:
    slot = said.get("slot")
    return Example(
        run_id=UUID(said["run_id"]),
        at=datetime.fromisoformat(said["at"]),
        error=said.get("error", ""),
        label=said.get("label", ""),
        metadata=said.get("metadata") or {},
        attempts=said.get("attempts", ""),
        slot=datetime.fromisoformat(slot) if slot else None,
        fan_out=said.get("fan_out", ""),
        url=admin_url("run", said["run_id"]),
    )


def _with_plural(text: str, n: int) -> str:
    """Choose between the words of "{failure|failures}"."""
    before, bar, after = text.partition("|")
    if not bar:
        return text
    head, one = before.rsplit("{", 1)
    many, tail = after.split("}", 1)
    return f"{head}{one if n == 1 else many}{tail}"


def _minute(instant: datetime, other: datetime) -> str:
    """Return "08:10 UTC", with the day if it is another than the other instant's."""
    return slot_beside(instant.replace(second=0, microsecond=0), other)


def _span(span: timedelta) -> str:
    """Return " in 1 minute"."""
    seconds = span.total_seconds()
    if seconds < 1:
        return " within a second"
    for unit, length, most in (
        ("second", 1, 55),
        ("minute", 60, 55 * 60),
        ("hour", 3600, 36 * 3600),
        ("day", 86400, None),
    ):
        if most is None or seconds < most:
            n = max(1, round(seconds / length))
            return f" in {n:,} {unit}{'' if n == 1 else 's'}"
    raise AssertionError
