"""The list of runs: pages by id instead of by number, and how many runs there are without counting.

`?before=` and `?after=` hold the id of a run. They are no filters: an action for all that match is
about every page. The list is sorted by id only, since no other order has an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from django.contrib.admin.options import IncorrectLookupParameters

from django_defer.admin.base import ReadingChangeList
from django_defer.admin.counting import Count, estimated, exactly
from django_defer.admin.reading import (
    LOOKED_THROUGH,
    Part,
    Reach,
    Reading,
    cursor_in,
    just_after,
    just_before,
)
from django_defer.ids import instant_of
from django_defer.wording import with_zone

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

    from django_defer.admin.base import ReadingAdmin

LARGE: Final = ("args", "result", "metadata", "error_message")  # columns that are not listed
BEFORE: Final = "before"
AFTER: Final = "after"
CURSORS: Final = (BEFORE, AFTER)
MOST_EXACT: Final = 1_000  # runs; more are estimated


@dataclass(slots=True)
class Page:
    """The rows of a page and where the pages beside it begin."""

    rows: list[Any]
    is_first: bool = False
    newer: UUID | None = None
    older: UUID | None = None
    looked_until: UUID | None = None  # where looking ended before the page was full

    @property
    def is_all(self) -> bool:
        """Whether there is nothing but this page."""
        return self.is_first and self.older is None


class RunChangeList(ReadingChangeList):
    """Leaves what may be large in the database, and most of the table too."""

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> QuerySet[Any]:
        """Return all rows that match, whatever page is shown."""
        for name in CURSORS:
            self.params.pop(name, None)
            self.filter_params.pop(name, None)
        for values in self.get_filters_params().values():
            if any("\x00" in value for value in values):  # PostgreSQL has no such text
                raise IncorrectLookupParameters
        return super().get_queryset(request, exclude_parameters).defer(*LARGE)

    def get_results(self, request: HttpRequest) -> None:
        """Fetch a page of rows, prepare it, and say how many there are."""
        reading = self._reading(request)
        before, after = (cursor_in(request.GET.get(name)) for name in CURSORS)
        page = self._newer(reading, after) if after else self._older(reading, before)
        self.result_list = page.rows
        cast("ReadingAdmin", self.model_admin).prepare(page.rows)
        self.count: Count = self._count(request, reading, page)
        self.result_count = self.full_result_count = self.count.n  # the same: no "Show all" link
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = True
        self.is_all_on_page = page.is_all
        self.is_first_page = page.is_first
        self.newest_url = self.get_query_string()
        self.newer_url = self.get_query_string({AFTER: page.newer}) if page.newer else ""
        self.older_url = self.get_query_string({BEFORE: page.older}) if page.older else ""
        self.looked_through = f"{LOOKED_THROUGH:,}"
        looked_until = page.looked_until
        self.looked_until = with_zone(instant_of(looked_until)) if looked_until else ""
        self.is_downwards = after is None
        self.problems = [
            problem for spec in self.filter_specs for problem in getattr(spec, "problems", ())
        ]

    # -- how the rows are found -----------------------------------------------------------------

    def _reading(self, request: HttpRequest) -> Reading:
        reaches: list[Reach] = []
        in_order: QuerySet[Any] = self.root_queryset
        for spec in self.filter_specs:
            reach = getattr(spec, "reach", Reach.SCANNED if spec.used_parameters else None)
            if reach is Reach.ORDERED:
                in_order = cast("QuerySet[Any]", spec.queryset(request, in_order))
            if reach is not None:
                reaches.append(reach)
        if self.query:
            reaches.append(Reach.INDEXED)
        return Reading(self.queryset, in_order, Reach.of(reaches))

    def _older(self, reading: Reading, before: UUID | None) -> Page:
        """Return the first page, or the one that begins before a run."""
        part = reading.older(self.list_per_page + 1, before)
        page = Page(part.rows[: self.list_per_page], is_first=before is None)
        if len(part.rows) > self.list_per_page:
            page.older = page.rows[-1].pk
        elif part.end is not None:
            page.older = page.looked_until = part.end
        if before is not None:
            page.newer = page.rows[0].pk if page.rows else just_before(before)
        return page

    def _newer(self, reading: Reading, after: UUID) -> Page:
        """Return the page that ends after a run; the first one, if there is less than a page."""
        part: Part = reading.newer(self.list_per_page + 1, after)
        if len(part.rows) <= self.list_per_page and part.end is None:
            return self._older(reading, None)
        rows = part.rows[: self.list_per_page][::-1]
        page = Page(rows, older=rows[-1].pk if rows else just_after(after))
        if len(part.rows) > self.list_per_page:
            page.newer = rows[0].pk
        else:
            page.newer = page.looked_until = part.end
        return page

    # -- how many there are ---------------------------------------------------------------------

    def _count(self, request: HttpRequest, reading: Reading, page: Page) -> Count:
        if page.is_all:
            return exactly(len(page.rows))
        ids = Reading(reading.rows.values_list("pk", flat=True), reading.in_order, reading.reach)
        part = ids.older(MOST_EXACT + 1)
        if part.end is None and len(part.rows) <= MOST_EXACT:
            return exactly(len(part.rows))
        return estimated(self._to_estimate(request), len(part.rows))

    def _to_estimate(self, request: HttpRequest) -> QuerySet[Any] | None:
        """Return rows of which the planner has an idea: it has none of what a text is found in."""
        if self.query:
            return None
        rows: QuerySet[Any] = self.root_queryset
        for spec in self.filter_specs:
            kept = getattr(spec, "by_id_alone", spec.queryset)(request, rows)
            rows = rows if kept is None else kept
        return rows
