"""A run's life drawn to scale: waiting, attempts and the pauses between them, as one SVG bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _

from django_defer.states import Outcome, State
from django_defer.wording import EMPTY, show_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from django.utils.safestring import SafeString

    from django_defer.models import Attempt, Run

WIDTH: Final = 1000.0  # units, which the page stretches
HEIGHT: Final = 20
LEAST: Final = 4.0  # units of a part, however short beside the others


@dataclass(frozen=True, slots=True)
class Part:
    """A span of the run's life. `kind` names its colour in the style sheet and is never data."""

    kind: str
    words: str
    begin: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """Its length."""
        return max(0.0, (self.end - self.begin).total_seconds())

    def __str__(self) -> str:
        return f"{self.words}: {show_duration(self.end - self.begin)}"


def timeline(run: Run, attempts: Sequence[Attempt], at: datetime) -> SafeString | str:
    """Return the drawing with its legend, "" for a run that never began."""
    parts = [part for part in _parts(run, attempts, at) if part.seconds > 0]
    if not any(part.kind not in ("waiting", "pause") for part in parts):
        return ""
    widths = _widths([part.seconds for part in parts])
    rects, x = [], 0.0
    for part, width in zip(parts, widths, strict=True):
        rects.append((part, part.kind, f"{x:.1f}", f"{width:.1f}", HEIGHT))
        x += width
    rect = (
        '<g><title>{}</title><rect class="defer-part defer-part--{}" x="{}" y="0" '
        'width="{}" height="{}"></rect></g>'
    )
    drawing = format_html(
        '<svg class="defer-lifeline" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}</svg>',
        int(WIDTH),
        HEIGHT,
        _("How the time of this run was spent"),
        format_html_join("", rect, rects),
    )
    legend = format_html_join(
        "",
        '<li><span class="defer-key defer-part--{}"></span> {}</li>',
        ((part.kind, str(part)) for part in parts),
    )
    return format_html('{}<ol class="defer-legend">{}</ol>', drawing, legend)


def _widths(seconds: Sequence[float]) -> list[float]:
    """Share WIDTH out by length; what is too short to be seen gets LEAST, the others give it."""
    total = sum(seconds)
    wide = [each / total * WIDTH for each in seconds]
    short = [width < LEAST for width in wide]
    if not any(short) or len(wide) * LEAST >= WIDTH:
        return wide
    left = WIDTH - LEAST * sum(short)
    rest = sum(width for width, is_short in zip(wide, short, strict=True) if not is_short)
    return [
        LEAST if is_short else width / rest * left
        for width, is_short in zip(wide, short, strict=True)
    ]


def _parts(run: Run, attempts: Sequence[Attempt], at: datetime) -> Iterator[Part]:
    """Yield what happened one after the other, from the enqueueing on."""
    since, number = run.enqueued_at, 0
    for attempt in attempts:
        if attempt.started_at is None or attempt.finished_at is None:
            continue
        yield _gap(since, attempt.started_at, number)
        number = attempt.number
        outcome = attempt.get_outcome_display() or EMPTY
        words = _("attempt %(n)s, %(outcome)s") % {"n": number, "outcome": outcome}
        yield Part(_kind(attempt.outcome), words, attempt.started_at, attempt.finished_at)
        since = attempt.finished_at
    if run.state == State.RUNNING and run.started_at is not None:
        yield _gap(since, run.started_at, number)
        words = _("attempt %(n)s, running") % {"n": run.attempt}
        yield Part("running", words, run.started_at, at)
    elif not run.is_finished:
        yield _gap(since, at, number)


def _gap(begin: datetime, end: datetime, number: int) -> Part:
    if number:
        return Part("pause", _("until the next attempt"), begin, end)
    return Part("waiting", _("waiting"), begin, end)


def _kind(outcome: str) -> str:
    return outcome if outcome in Outcome.values else "unknown"
