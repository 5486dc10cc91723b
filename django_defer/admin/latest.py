"""The latest runs of some functions: a strip of marks, how many succeed, how long they take."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _

from django_defer.admin.rendering import quiet, shown_state
from django_defer.models import Run
from django_defer.states import State
from django_defer.wording import EMPTY, relative, show_duration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from django_defer.admin.rendering import Links

JUDGED: Final = 50  # the newest runs of a function, by which it is judged
MARKS: Final = 12  # of these in the strip

# What a function is to be blamed for, or praised; nobody is for what was cancelled or skipped.
GOOD: Final = frozenset({State.SUCCEEDED})
BAD: Final = frozenset({State.FAILED, State.ABORTED, State.DISCARDED})

COLUMNS: Final = (
    *("id", "function", "label", "state", "failures", "losses", "abort_requested_at"),
    *("enqueued_at", "started_at", "finished_at", "error_class"),
)


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest runs of one function, the newest first."""

    runs: Sequence[Run] = ()

    @property
    def share(self) -> tuple[int, int]:
        """How many succeeded, of how many that have ended by themselves."""
        good = sum(run.state in GOOD for run in self.runs)
        return good, good + sum(run.state in BAD for run in self.runs)

    def duration(self, percent: int) -> timedelta | None:
        """Return the shortest duration that so many percent of the successes do not exceed."""
        took = sorted(
            duration for run in self.runs if run.state in GOOD and (duration := run.duration)
        )
        return took[max(0, -(-len(took) * percent // 100) - 1)] if took else None

    @property
    def last_failure(self) -> Run | None:
        """The newest one that failed."""
        return next((run for run in self.runs if run.state == State.FAILED), None)


def latest_of(keys: Sequence[str]) -> dict[str, Latest]:
    """Return the newest runs of each function, in one query that reads only those.

    Each is a range of one function: only the index of functions has this order (see `ended`).
    """
    if not keys:
        return {}
    one = (
        f"SELECT * FROM (SELECT {', '.join(COLUMNS)} FROM {Run._meta.db_table} "  # noqa: S608
        "WHERE function >= %s AND function <= %s "
        f"ORDER BY function, id DESC LIMIT {JUDGED}) AS latest"
    )
    bounds = [bound for key in keys for bound in (key, key)]
    found: defaultdict[str, list[Run]] = defaultdict(list)
    for run in Run.objects.raw(" UNION ALL ".join([one] * len(keys)), bounds):
        found[str(run.function_id)].append(run)
    return {
        key: Latest(sorted(runs, key=lambda run: run.pk, reverse=True))
        for key, runs in found.items()
    }


def strip(latest: Latest, links: Links, at: datetime) -> str:
    """Return a mark for each of the newest runs, the newest at the right, with links."""
    marks = [_mark(run, links, at) for run in reversed(latest.runs[:MARKS])]
    if not marks:
        return EMPTY
    row = format_html(
        '<span class="defer-strip">{}</span>', format_html_join("", "{}", ((m,) for m in marks))
    )
    since = quiet(relative(latest.runs[0].enqueued_at, at))
    return format_html('{} <span class="defer-line">{}</span>', row, since)


def _mark(run: Run, links: Links, at: datetime) -> str:
    kind, text = shown_state(run)
    words = f"{text}, {relative(run.enqueued_at, at)}"
    if run.duration is not None:
        words += f", {show_duration(run.duration)}"
    mark = format_html(
        '<span class="defer-mark defer-mark--{}" title="{}">'
        '<span class="visually-hidden">{}</span></span>',
        kind,
        words,
        words,
    )
    return links.to(Run, run.pk, mark)


def success_in_words(latest: Latest) -> str:
    """Return "98 % of 50"."""
    good, total = latest.share
    if not total:
        return ""
    return _("%(percent)s %% of %(n)s") % {"percent": good * 100 // total, "n": total}
