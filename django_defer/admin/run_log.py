"""What a run said, for its page: its log lines and how far it is."""

from __future__ import annotations

import logging
from datetime import UTC
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_defer.admin.pages import Section, Table
from django_defer.admin.rendering import badge, block, quiet
from django_defer.models import LogLine, Progress
from django_defer.wording import as_text, zone_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.utils.safestring import SafeString

    from django_defer.models import Run

MOST_LINES: Final = 500  # the latest ones

# The kinds of badge for the levels from these up.
_KINDS: Final = (
    (logging.ERROR, "failed"),
    (logging.WARNING, "retrying"),
    (logging.INFO, "running"),
)


def log_section(run: Run) -> Section:
    """Return the log lines: the newest attempt first, the lines of each as they came."""
    rows = LogLine.objects.filter(run=run.pk).order_by("-attempt", "-number")
    newest_first = list(rows[: MOST_LINES + 1])
    are_all = len(newest_first) <= MOST_LINES
    lines = sorted(newest_first[:MOST_LINES], key=lambda line: (-line.attempt, line.number))
    headings = (_("Level"), _("Time"), _("Message"))
    note = "" if are_all else _("Only the latest %(n)s lines are shown.") % {"n": MOST_LINES}
    return Section(
        title=_("Log"),
        text=quiet(note) if note else "",
        table=Table(headings=headings, rows=list(_rows(lines, are_all=are_all))),
    )


def _rows(lines: list[LogLine], *, are_all: bool) -> Iterator[list[Any]]:
    """Yield a row a line, one for each gap in an attempt's numbers, and one above each attempt.

    Where not all lines are shown, nobody knows here what comes before the oldest attempt's first.
    """
    for attempt, group in groupby(lines, key=lambda line: line.attempt):
        if lines[0].attempt > 1:
            yield [format_html("<strong>{}</strong>", _("Attempt %(n)s") % {"n": attempt}), "", ""]
        expected = 1 if are_all or attempt != lines[-1].attempt else None
        shown_day = ""
        for line in group:
            if expected is not None and line.number > expected:
                yield ["", "", quiet(_left_out(line.number - expected))]
            expected = line.number + 1
            day = as_text(line.at).split(" ")[0]
            yield [_level(line), _time(line, "" if day == shown_day else day), _message(line)]
            shown_day = day


def _left_out(count: int) -> str:
    text = ngettext("%(n)s line left out", "%(n)s lines left out", count)
    return text % {"n": f"{count:,}"}


def _level(line: LogLine) -> SafeString:
    kind = next((kind for least, kind in _KINDS if line.level >= least), "unknown")
    return badge(kind, line.level_name)


def _time(line: LogLine, day: str) -> SafeString:
    """Return the time with its zone; the day where it isn't that of the line above."""
    return format_html(
        '<time datetime="{}" title="{}.{} UTC"><span class="defer-time">{}</span> '
        '<span class="defer-time">{}.{}</span> <span class="defer-quiet">{}</span></time>',
        line.at.isoformat(),
        as_text(line.at, UTC),
        f"{line.at.microsecond:06}",
        day,
        as_text(line.at).split(" ")[1],
        f"{line.at.microsecond // 1000:03}",
        zone_name(),
    )


def _message(line: LogLine) -> SafeString:
    """Return the logger and the message: as it is, or more than one line as a block."""
    has_lines = "\n" in line.message.strip("\n")
    return format_html(
        '<div class="defer-message">{} {}</div>',
        quiet(line.logger),
        block(line.message) if has_lines else line.message,
    )


def progress_section(run: Run) -> Section:
    """Return how far the run is, as a bar and in words; empty if it never said so."""
    progress = Progress.objects.filter(pk=run.pk).first()
    if progress is None:
        return Section(title=_("Progress"))
    words = progress_in_words(progress)
    if progress.attempt != run.attempt:
        words = _("%(progress)s (attempt %(n)s)") % {"progress": words, "n": progress.attempt}
    return Section(title=_("Progress"), text=format_html("{} {}", _bar(progress), words))


def progress_in_words(progress: Progress) -> str:
    """Return "120 of 300, 40 %: sending mails"."""
    facts = {"done": f"{progress.done:,}", "message": progress.message}
    if progress.total is None:
        words = _("%(done)s done") % facts
    elif progress.percent is None:
        words = _("%(done)s of %(total)s") % {**facts, "total": f"{progress.total:,}"}
    else:
        words = _("%(done)s of %(total)s, %(percent)s %%") % {
            **facts,
            "total": f"{progress.total:,}",
            "percent": progress.percent,
        }
    return f"{words}: {progress.message}" if progress.message else words


def _bar(progress: Progress) -> SafeString | str:
    if not progress.total:
        return ""
    return format_html(
        '<progress class="defer-progress" max="{}" value="{}" aria-label="{}"></progress>',
        progress.total,
        min(progress.done, progress.total),
        _("Progress"),
    )
