"""Sentences with links: what became of the runs that a run enqueued.

What a run does now and why is plain text, and comes from `explanations`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _

from django_defer.counting import sum_up, up_to_limit
from django_defer.models import Run
from django_defer.run_facts import count_children, state_word
from django_defer.states import State
from django_defer.wording import slot_in_words

if TYPE_CHECKING:
    from django_defer.admin.rendering import Links


def children_in_words(run: Run, links: Links) -> str:
    """Return "This run enqueued 300: 297 succeeded, 2 retrying, 1 failed", with links.

    For the run of a slot: "Slot Monday 2026-11-23 08:00 UTC: 297 of 300 succeeded, …". Of many
    children it says "10,000+".
    """
    counts = count_children(run.pk)
    if not counts:
        return ""
    total = links.to_list(Run, sum_up(list(counts.values())), parent=run.pk)
    if run.slot is None:
        return format_html(_("This run enqueued {}: {}."), total, _parts(run, counts, links))
    done = counts.pop(str(State.SUCCEEDED), 0)
    first = format_html(
        _("{} of {} succeeded"),
        links.to_list(Run, up_to_limit(done), parent=run.pk, state=State.SUCCEEDED),
        total,
    )
    rest = format_html(", {}", _parts(run, counts, links)) if counts else ""
    return format_html(_("Slot {}: {}."), slot_in_words(run.slot), format_html("{}{}", first, rest))


def _parts(run: Run, counts: dict[str, int], links: Links) -> str:
    parts = (
        (links.to_list(Run, f"{up_to_limit(n)} {state_word(state)}", parent=run.pk, state=state),)
        for state, n in counts.items()
    )
    return format_html_join(", ", "{}", parts)
