"""What the page of one row consists of: a badge, sentences, and sections of facts or tables.

Values only; `templates/admin/django_defer/detail.html` lays them out and escapes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A small table."""

    headings: Sequence[Any]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a page: text, facts by name (empty ones are left out), a table."""

    title: Any
    text: Any = ""
    facts: Sequence[tuple[Any, Any]] = ()
    table: Table | None = None
    is_half: bool = False  # takes half the width where there is room

    @property
    def shown_facts(self) -> list[tuple[Any, Any]]:
        """The facts that say something."""
        return [(name, value) for name, value in self.facts if value not in ("", None)]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.text or self.shown_facts or (self.table and self.table.rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """That the page refreshes itself: how often, and when it was made."""

    seconds: float
    now: datetime
    updated: str
    zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The page of one row."""

    title: Any
    subtitle: Any = ""
    badge: Any = ""
    sentences: Sequence[Any] = ()
    sections: Sequence[Section] = ()
    live: Live | None = None  # None: it will not change by itself

    @property
    def shown_sections(self) -> list[Section]:
        """The sections that have something to show."""
        return [section for section in self.sections if not section.is_empty]
