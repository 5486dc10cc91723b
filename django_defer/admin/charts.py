"""Bar charts as SVG, drawn on the server: colours come from classes, sizes from attributes.

No inline style and no script, so that a strict Content-Security-Policy lets them be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.utils.html import format_html, format_html_join

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.utils.safestring import SafeString

HEIGHT: Final = 100
STEP: Final = 10  # units from one bar to the next
WIDTH: Final = 8  # units of a bar
LEAST: Final = 3.0  # units of a bar that isn't zero, however small beside the others


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: what a pointer on it shows, and its parts from the bottom up."""

    title: Any
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, the number at its upper edge, and what is written below its axis."""

    svg: SafeString
    top: int
    labels: Sequence[Any] = ()


def bar_chart(
    bars: Sequence[Bar], kinds: Sequence[str], description: Any, labels: Sequence[Any] = ()
) -> Chart:
    """Return a chart; `kinds` name the colours of a bar's parts in the style sheet."""
    top = round_up(max((sum(bar.values) for bar in bars), default=0))
    width = max(len(bars), 1) * STEP
    lines = [(width, 0.5), (width, HEIGHT / 2)]
    grid = '<line class="defer-grid" x1="0" x2="{}" y1="{}" y2="{}"></line>'
    svg = format_html(
        '<svg class="defer-chart" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}{}</svg>',
        width,
        HEIGHT,
        description,
        format_html_join("", grid, ((end, _text(y), _text(y)) for end, y in lines)),
        format_html_join("", "{}", ((_bar(bar, n, top, kinds),) for n, bar in enumerate(bars))),
    )
    return Chart(svg, top, labels)


def round_up(value: float) -> int:
    """Return the least of 1, 2, 3, 4, 5, 6, 8, 10, 20, 30 … that is not less than `value`."""
    power = 1
    while True:
        for factor in (1, 2, 3, 4, 5, 6, 8):
            if value <= factor * power:
                return factor * power
        power *= 10


def _bar(bar: Bar, number: int, top: int, kinds: Sequence[str]) -> SafeString:
    parts, lower = [], float(HEIGHT)
    for kind, value in zip(kinds, bar.values, strict=True):
        if value > 0:
            height = max(value / top * HEIGHT, LEAST)
            lower = max(lower - height, 0.0)
            parts.append((kind, number * STEP + 1, _text(lower), WIDTH, _text(height)))
    rect = '<rect class="defer-bar defer-bar--{}" x="{}" y="{}" width="{}" height="{}"></rect>'
    return format_html(
        '<g class="defer-column"><title>{}</title>'
        '<rect class="defer-hit" x="{}" y="0" width="{}" height="{}"></rect>{}</g>',
        bar.title,
        number * STEP,
        STEP,
        HEIGHT,
        format_html_join("", rect, parts),
    )


def _text(number: float) -> str:
    """Return a number as SVG reads it, whatever the language."""
    return f"{number:.2f}".rstrip("0").rstrip(".")
