"""How long the runs of a function took: a point for each over time, in words, and as a table.

A point for each run and not a line of percentiles: who looks for a cause wants to see since when,
how many and which, and to open one. Positions are percentages and sizes pixels, so that the shapes
stay what they are at any width. The drawing is for the eye; the words and the table say the same.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_defer.admin import ended
from django_defer.admin.charts import round_up
from django_defer.admin.latest import GOOD, Latest
from django_defer.admin.pages import Section
from django_defer.admin.rendering import Links, code, quiet, short_id, show_instant, state_badge
from django_defer.durations import format_duration, parse_duration
from django_defer.exceptions import InvalidDuration
from django_defer.models import Run
from django_defer.states import State
from django_defer.wording import EMPTY, as_text, show_duration, with_zone, zone_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from django.utils.safestring import SafeString

    from django_defer.admin.ended import Ended
    from django_defer.models import BackgroundFunction

IN_RANGE: Final = 2  # the limit is drawn up to so many times the longest duration

# A disc for what succeeded, a cross for what failed, a triangle for what was aborted.
_SHAPES: Final = {
    State.FAILED: "M-4,-4L4,4M-4,4L4,-4",
    State.ABORTED: "M0,-5L5,4L-5,4Z",
}
_DISC: Final = '<circle class="defer-point defer-point--{}" cx="{}%" cy="{}%" r="3.5"></circle>'
_SHAPE: Final = (
    '<svg x="{}%" y="{}%" overflow="visible">'
    '<path class="defer-point defer-point--{}" d="{}"></path></svg>'
)


def durations_section(row: BackgroundFunction, found: Ended, links: Links) -> Section:
    """Return the part of a function's page about how long its runs took."""
    title = _("Durations")
    if not found.runs:
        return Section(title=title, text=quiet(_nothing(found)))
    limit = _limit(row)
    longest = max(_seconds(run) for run in found.runs)
    drawn = limit if limit and limit.total_seconds() <= IN_RANGE * longest else None
    words = [_which(found), _how_long(found), _how_many_bad(found, row, links)]
    words.append(_limit_in_words(limit, is_drawn=drawn is not None))
    text = format_html(
        '<p class="defer-words">{}</p>{}{}',
        format_html_join(" ", "{}", ((each,) for each in words if each)),
        _figure(found.runs, longest, drawn, links),
        _behind(found.runs, links),
    )
    return Section(title=title, text=text)


# -- in words --------------------------------------------------------------------------------------


def _nothing(found: Ended) -> str:
    if found.are_hidden:
        return _("None of the newest %(n)s runs has ended.") % {"n": f"{ended.LOOKED_AT:,}"}
    return _("No run of it has ended yet.")


def _which(found: Ended) -> str:
    count, first = len(found.runs), min(_end(run) for run in found.runs)
    return ngettext(
        "The one run that has ended, at %(since)s.",
        "The latest %(n)s runs that ended, the first of them at %(since)s.",
        count,
    ) % {"n": count, "since": with_zone(first)}


def _how_long(found: Ended) -> str:
    half, most, all_ = (Latest(found.runs).duration(percent) for percent in (50, 95, 100))
    if half is None:
        return ""
    if len(found.runs) - found.bad == 1:
        return _("The one success took %(half)s.") % {"half": show_duration(half)}
    words = {"half": show_duration(half), "most": show_duration(most), "all": show_duration(all_)}
    return (
        _(
            "Half of the successes took at most %(half)s, 95\xa0%% of them at most %(most)s, "
            "the longest %(all)s."
        )
        % words
    )


def _how_many_bad(found: Ended, row: BackgroundFunction, links: Links) -> str:
    if not found.bad:
        return ""
    text = ngettext("%(n)s did not succeed.", "%(n)s did not succeed.", found.bad)
    return links.to_list(Run, text % {"n": found.bad}, function=row.key, state=State.FAILED)


def _limit(row: BackgroundFunction) -> timedelta | None:
    """Return the max_duration that the code registered, None if it isn't readable."""
    try:
        return parse_duration(row.options.get("max_duration", ""))
    except InvalidDuration:
        return None


def _limit_in_words(limit: timedelta | None, *, is_drawn: bool) -> str:
    if limit is None:
        return ""
    time = format_duration(limit)
    if is_drawn:
        return _("The limit, max_duration, is %(time)s.") % {"time": time}
    return _("The limit, max_duration, is %(time)s, far above what is drawn.") % {"time": time}


# -- the drawing -----------------------------------------------------------------------------------


def _figure(
    runs: Sequence[Run], longest: float, limit: timedelta | None, links: Links
) -> SafeString:
    top = _round_up(max(longest, limit.total_seconds() if limit else 0))
    first, last = (pick(_end(run) for run in runs) for pick in (min, max))
    points = ((_point(run, first, last, top, links),) for run in reversed(runs))
    line = '<line class="defer-grid" x1="0" x2="100%" y1="{0}%" y2="{0}%"></line>'
    return format_html(
        '<figure class="defer-durations"><div class="defer-scale" aria-hidden="true">'
        "<span>{}</span><span>{}</span><span>0</span></div>"
        '<svg class="defer-points" aria-hidden="true">{}{}{}</svg>'
        '<div class="defer-ends" aria-hidden="true"><span>{}</span><span>{}</span></div>'
        '<figcaption class="defer-legend">{}</figcaption></figure>',
        format_duration(timedelta(seconds=top)),
        format_duration(timedelta(seconds=top / 2)),
        format_html_join("", line, (("0",), ("50",), ("100",))),
        _limit_line(limit, top),
        format_html_join("", "{}", points),
        as_text(first),
        "" if first == last else f"{as_text(last)} {zone_name()}",
        _legend(runs),
    )


def _point(run: Run, first: datetime, last: datetime, top: float, links: Links) -> str:
    x = _text((_end(run) - first) / (last - first) * 100 if last > first else 50)
    y = _text(100 - _seconds(run) / top * 100)
    words = f"{run.get_state_display()}, {show_duration(run.duration)}, {with_zone(_end(run))}"
    drawing = format_html(
        '<title>{}</title><circle class="defer-hit" cx="{}%" cy="{}%" r="9"></circle>{}',
        f"{run.label}: {words}" if run.label else words,
        x,
        y,
        _shape(run.state, x, y),
    )
    url = links.url(Run, "change", run.pk)
    return format_html('<a href="{}" tabindex="-1">{}</a>', url, drawing) if url else drawing


def _shape(state: str, x: str, y: str) -> SafeString:
    if state in GOOD:
        return format_html(_DISC, state, x, y)
    return format_html(_SHAPE, x, y, state, _SHAPES[State(state)])


def _limit_line(limit: timedelta | None, top: float) -> SafeString | str:
    if limit is None:
        return ""
    y = 100 - limit.total_seconds() / top * 100
    return format_html(
        '<line class="defer-limit" x1="0" x2="100%" y1="{0}%" y2="{0}%"></line>'
        '<text class="defer-limit-name" x="100%" y="{0}%" dy="{1}" text-anchor="end">{2}</text>',
        _text(y),
        "13" if y < 15 else "-5",
        f"max_duration {format_duration(limit)}",
    )


def _legend(runs: Sequence[Run]) -> SafeString:
    """Name each shape that is in the drawing."""
    there = {str(run.state) for run in runs}
    return format_html_join(
        "",
        '<span><svg class="defer-sign" viewBox="-6 -6 12 12" aria-hidden="true">{}</svg> {}</span>',
        (
            (_shape(state, "0", "0"), State(state).label)
            for state in (State.SUCCEEDED, *_SHAPES)
            if state in there
        ),
    )


def _behind(runs: Sequence[Run], links: Links) -> SafeString:
    headings = (_("Run"), _("Label"), _("State"), _("Finished"), _("Took"))
    row = "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>"
    cells = (
        (
            links.to(Run, run.pk, code(short_id(run.pk))),
            run.label or EMPTY,
            state_badge(run),
            show_instant(run.finished_at),
            show_duration(run.duration),
        )
        for run in runs
    )
    return format_html(
        '<details class="defer-details"><summary>{0}</summary>'
        '<div class="defer-table defer-long" tabindex="0" role="region" aria-label="{0}">'
        "<table><thead><tr>{1}</tr></thead><tbody>{2}</tbody></table></div></details>",
        _("The numbers as a table"),
        format_html_join("", '<th scope="col">{}</th>', ((heading,) for heading in headings)),
        format_html_join("", row, cells),
    )


def _round_up(seconds: float) -> float:
    """Return the round duration that is not less: of ms, s, minutes, hours or days."""
    for unit, limit in ((0.001, 1), (1, 60), (60, 3600), (3600, 86400)):
        if seconds < limit and (top := round_up(seconds / unit) * unit) <= limit:
            return top
    return round_up(seconds / 86400) * 86400.0


def _seconds(run: Run) -> float:
    took: Any = run.duration
    return max(float(took.total_seconds()), 0.0)


def _end(run: Run) -> datetime:
    end: Any = run.finished_at
    return end  # type: ignore[no-any-return]


def _text(number: float) -> str:
    """Return a number as SVG reads it, whatever the language."""
    return f"{number:.2f}".rstrip("0").rstrip(".")
