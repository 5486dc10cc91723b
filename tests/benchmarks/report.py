"""Tables for a person, and the same figures as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Target:
    """A figure, and what it is to reach, if anything."""

    what: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_reached(self) -> bool | None:
        """Whether it is reached; None where there is nothing to reach."""
        if self.at_least is not None:
            return self.value >= self.at_least
        if self.at_most is not None:
            return self.value <= self.at_most
        return None

    def __str__(self) -> str:
        text = f"{self.value:.2f} {self.what}"
        if self.is_reached is None:
            return text
        wanted = f"at least {self.at_least:g}" if self.at_least else f"at most {self.at_most:g}"
        return f"{text}, to reach: {wanted}: {'reached' if self.is_reached else 'MISSED'}"

    def as_data(self) -> dict[str, Any]:
        """Return it for the JSON file."""
        return {
            "what": self.what,
            "value": self.value,
            "at_least": self.at_least,
            "at_most": self.at_most,
            "reached": self.is_reached,
        }


@dataclass(kw_only=True)
class Report:
    """What one topic found: a table, what to know about it, and the raw figures."""

    name: str
    title: str
    columns: list[str]
    notes: list[str] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    rows: list[list[str]] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        """Add a row."""
        self.rows.append([str(cell) for cell in cells])

    def __str__(self) -> str:
        table = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [self.title, "=" * len(self.title)]
        for row in table:
            first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join([row[0].ljust(len(first)), *others]))
        lines += [f"  {note}" for note in self.notes]
        lines += [f"→ {target}" for target in self.targets]
        return "\n".join(lines)

    def as_data(self) -> dict[str, Any]:
        """Return it for the JSON file."""
        return {
            "title": self.title,
            "table": [dict(zip(self.columns, row, strict=True)) for row in self.rows],
            "targets": [target.as_data() for target in self.targets],
            **self.data,
        }


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: int) -> float:
    """Return the smallest value that `share` percent of the values don't exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]


def spread(values: Sequence[float]) -> str:
    """Return the lowest and the highest value."""
    return f"{min(values):.0f} – {max(values):.0f}"


def ratio(values: Sequence[float], bases: Sequence[float]) -> float:
    """Return how many times the base a value is: the median of the rounds' own ratios.

    Both of a round were measured one soon after the other; a machine changes in the meantime less
    than from round to round.
    """
    return median([value / base for value, base in zip(values, bases, strict=True)])
