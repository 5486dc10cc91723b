"""The cards of the dashboard over time: what ended, what it took, which functions, what is next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_defer.admin.charts import Bar, Chart, bar_chart
from django_defer.admin.dashboard_cards import Card, Row, number
from django_defer.admin.rendering import quiet, show_instant
from django_defer.admin.timeline import timeline
from django_defer.history_statements import MOST_FAILED, MOST_RUNS, SPANS
from django_defer.models import BackgroundFunction, CronDefinition, Run
from django_defer.states import State
from django_defer.wording import EMPTY, display_zone, relative, show_duration, with_zone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from django_defer.admin.timeline import Hour
    from django_defer.admin.viewers import Viewer
    from django_defer.history import FunctionNumbers, History, Percentiles
    from django_defer.history_statements import Span

RANKED: Final = 10  # functions
NAMED: Final = 3  # functions of an hour
LABELS: Final = 5  # below an axis, at most
KINDS: Final = ("failed", "succeeded")  # from the axis up: few failures must not be overlooked


@dataclass(frozen=True, slots=True)
class HistoryCard:
    """The numbers of a span."""

    spans: Sequence[tuple[str, Any, bool]]  # name, label, whether it is the one that is shown
    figures: Sequence[tuple[Any, Any, Any]]  # what, number, and a word about it
    chart: Chart
    table: Card
    note: str
    rankings: Sequence[Card]


def history_card(numbers: History, viewer: Viewer) -> HistoryCard:
    """Return charts, figures and rankings of a span."""
    write = _writer(numbers.span)
    parts = numbers.parts
    description = _("%(succeeded)s succeeded and %(failed)s failed in the %(span)s") % {
        "succeeded": f"{numbers.succeeded:,}",
        "failed": f"{numbers.failed:,}",
        "span": numbers.span.label,
    }
    bars = [
        Bar(
            _("%(time)s: %(succeeded)s succeeded, %(failed)s failed")
            % {
                "time": write(part.begins_at),
                "succeeded": f"{part.succeeded:,}",
                "failed": f"{part.failed:,}",
            },
            (part.failed, part.succeeded),
        )
        for part in parts
    ]
    ends = [part.begins_at for part in parts] + [parts[-1].ends_at]
    labels = [write(ends[n * (len(ends) - 1) // (LABELS - 1)]) for n in range(LABELS)]
    table = Card(
        name="parts",
        title=_("The numbers as a table"),
        headings=(_("From"), number(_("Succeeded")), number(_("Failed"))),
        rows=[
            Row(n, [write(p.begins_at), number(f"{p.succeeded:,}"), number(f"{p.failed:,}")])
            for n, p in enumerate(parts)
        ],
    )
    return HistoryCard(
        spans=[(span.name, span.label, span is numbers.span) for span in SPANS.values()],
        figures=_figures(numbers, viewer),
        chart=bar_chart(bars, KINDS, description, labels),
        table=table,
        note=_note(numbers),
        rankings=[_most_failing(numbers, viewer), _most_busy(numbers, viewer)],
    )


def _writer(span: Span) -> Any:
    """Return how the beginning of a part is written; a week needs its days."""

    def write(instant: datetime) -> str:
        local = instant.astimezone(display_zone())
        time = f"{local:%H:%M}"
        return f"{date_format(local, 'D')} {time}" if span.length > timedelta(days=1) else time

    return write


def _figures(numbers: History, viewer: Viewer) -> list[tuple[Any, Any, Any]]:
    spans: Percentiles = numbers.percentiles
    about = "" if numbers.coverage.weight == 1 else "≈"
    rate, each = numbers.a_minute, _("runs a minute")
    if 0 < rate < 1:
        rate, each = rate * 60, _("runs an hour")
    failed = viewer.to_list(Run, f"{numbers.failed:,}", state=State.FAILED)
    of_all = ""
    if ended := numbers.succeeded + numbers.failed:
        of_all = _("%(percent)s %% of what ended") % {
            "percent": f"{numbers.failed / ended * 100:.1f}"
        }
    return [
        (each, f"{about}{_short(rate)}", f"{about}{numbers.succeeded:,} " + _("succeeded")),
        (_("failed"), failed, of_all),
        (_("waited (median)"), *_pair(spans.waited_half, spans.waited_most)),
        (_("took (median)"), *_pair(spans.took_half, spans.took_most)),
    ]


def _pair(half: timedelta | None, most: timedelta | None) -> tuple[str, str]:
    if most is None:
        return EMPTY, ""
    return show_duration(half), _("95 %% within %(time)s") % {"time": show_duration(most)}


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == round(value) else f"{value:.1f}"


def _note(numbers: History) -> str:
    """Say which runs these numbers are of."""
    said = {
        "all": _("Of the runs that were enqueued in this time; failures by when they failed."),
        "newest": _(
            "Of the newest %(most)s runs, enqueued since %(since)s; those before are not counted. "
            "Failures by when they failed."
        ),
        "sample": _(
            "Estimates from a sample: one run in %(weight)s of those that were enqueued in this "
            "time. Failures are counted, by when they failed."
        ),
    }[numbers.coverage.kind]
    said %= {
        "most": f"{MOST_RUNS:,}",
        "since": with_zone(numbers.coverage.since),
        "weight": _short(numbers.coverage.weight),
    }
    if numbers.failed >= MOST_FAILED:
        said += " " + _("Failures among the newest %(most)s.") % {"most": f"{MOST_FAILED:,}"}
    return said


def _most_failing(numbers: History, viewer: Viewer) -> Card:
    return _ranking(
        "failing",
        _("Functions by failures"),
        (_("Failed runs"), _("Failed attempts")),
        [(f, f"{f.failed:,}", f"{f.failed_attempts:,}") for f in numbers.most_failing(RANKED)],
        _("Nothing failed."),
        viewer,
    )


def _most_busy(numbers: History, viewer: Viewer) -> Card:
    return _ranking(
        "busy",
        _("Functions by time spent"),
        (_("Time"), _("Runs")),
        [
            (f, show_duration(timedelta(seconds=f.seconds)), f"{f.runs:,}")
            for f in numbers.most_busy(RANKED)
        ],
        _("Nothing ran."),
        viewer,
    )


def _ranking(
    name: str,
    title: str,
    headings: tuple[str, str],
    found: Sequence[tuple[FunctionNumbers, str, str]],
    empty: str,
    viewer: Viewer,
) -> Card:
    rows = []
    for function, first, second in found:
        key = viewer.to(BackgroundFunction, function.key, function.key)
        if name == "failing" and function.failed:
            first = viewer.to_list(Run, first, function=function.key, state=State.FAILED)
        rows.append(Row(function.key, [key, number(first), number(second)]))
    columns = (_("Function"), *(number(heading) for heading in headings))
    return Card(name=name, title=title, headings=columns, rows=rows, empty=empty, is_half=True)


def slots_card(now: datetime, viewer: Viewer) -> Card:
    """Show the slots of the next 24 hours: by the hour, and the next ones."""
    zone = display_zone()
    found = timeline(now, zone)
    total = sum(hour.count for hour in found.hours)
    description = ngettext(
        "%(n)s slot in the next 24 hours", "%(n)s slots in the next 24 hours", total
    ) % {"n": f"{total:,}"}
    times = [f"{hour.begins_at.astimezone(zone):%H:%M}" for hour in found.hours]
    bars = [
        Bar(_of_hour(hour, time), (hour.count,))
        for hour, time in zip(found.hours, times, strict=True)
    ]
    table = Card(
        name="hours",
        title=_("The hours as a table"),
        headings=(_("From"), number(_("Slots")), _("Functions")),
        rows=[
            Row(n, [time, number(hour.count), _named(hour)])
            for n, (hour, time) in enumerate(zip(found.hours, times, strict=True))
        ],
    )
    rows = [
        Row(
            f"{row.pk} {slot.isoformat()}",
            [
                show_instant(slot),
                viewer.to(CronDefinition, row.pk, row.function_id),
                number(relative(slot, now)),
            ],
        )
        for slot, row in found.slots
    ]
    labels = times[::6]
    return Card(
        name="slots",
        title=_("Slots of the next 24 hours"),
        headings=(_("Slot"), _("Function"), number(_("From now"))),
        rows=rows,
        empty=_("No slot in the next 24 hours."),
        text=_often(found.often, found.until, viewer),
        chart=bar_chart(bars, ("slot",), description, labels) if total else None,
        table=table if total else None,
    )


def _of_hour(hour: Hour, time: str) -> str:
    if not hour.count:
        return _("%(time)s: no slot") % {"time": time}
    return f"{time}: {_named(hour)}"


def _named(hour: Hour) -> str:
    named = [f"{key} × {n}" if n > 1 else key for key, n in hour.keys.most_common(NAMED)]
    if more := len(hour.keys) - len(named):
        named.append(_("%(n)s more") % {"n": more})
    return ", ".join(named)


def _often(often: Sequence[CronDefinition], until: datetime | None, viewer: Viewer) -> Any:
    said = []
    if often:
        links = format_html_join(
            ", ",
            "{} {}",
            (
                (viewer.to(CronDefinition, row.pk, row.function_id), quiet(row.expression))
                for row in often[:RANKED]
            ),
        )
        more = len(often) - RANKED
        rest = _(" and %(n)s more") % {"n": more} if more > 0 else ""
        said.append(
            format_html(_("Several times an hour, and not counted here: {}{}."), links, rest)
        )
    if until is not None:
        said.append(format_html(_("There are many: counted until {}."), show_instant(until)))
    return format_html_join(" ", "{}", ((each,) for each in said))
