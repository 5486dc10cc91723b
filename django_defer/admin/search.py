"""Searching runs without reading a table of millions.

An id is found through the primary key, wherever it is, and a pair of metadata through its index.
Text is looked for in the newest runs only (on SQLite, pairs too), as the page says: in the newest
of a function or a time where these are filtered by.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from uuid import UUID

from django.db import connections
from django.db.models import Q

from django_defer.admin.reading import Reach, Reading
from django_defer.admin.rendering import SHORT_ID
from django_defer.metadata import LONGEST_KEY
from django_defer.querysets import HasPair

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_defer.querysets import RunQuerySet

MOST_SEARCHED: Final = 50_000  # runs, the newest
MOST_WITHIN: Final = 10_000  # of a function, say: they lie further apart
SHORTEST_PREFIX: Final = 6  # hexadecimal digits
_HEX: Final = re.compile(r"[0-9a-f]+")


def search_runs(
    runs: RunQuerySet, text: str, in_order: Callable[[], RunQuerySet] | None = None
) -> RunQuerySet:
    """Return the runs with this id, prefix or end of an id, pair of metadata, or text in them.

    `in_order` returns those runs, out of which `runs` are, whose newest are quickly found.
    """
    text = text.strip().replace("\x00", "")
    if not text:
        return runs
    digits = text.lower().replace("-", "")
    if _HEX.fullmatch(digits) and len(digits) <= 32:
        if len(digits) == 32:
            return runs.filter(pk=UUID(digits))
        if len(digits) >= SHORTEST_PREFIX and (found := runs.with_id_beginning(digits)).exists():
            return found
    near = in_order() if in_order is not None else runs
    if pairs := pairs_in(text):
        found = _by_metadata(runs, pairs, near)
        if Reading(found.only("pk"), near, Reach.INDEXED).older(1).rows:
            return found
    return _newest(runs, near).filter(_contains(text, digits))


def pairs_in(text: str) -> list[tuple[str, str]]:
    """Return what `key:value` may mean; there are colons in keys and values too."""
    pairs: dict[tuple[str, str], None] = {}
    for place, character in enumerate(text[: LONGEST_KEY + 1]):
        if character == ":" and place:
            key, value = text[:place], text[place + 1 :]
            pairs |= {(key, value): None, (key.rstrip(), value.lstrip()): None}
    return list(pairs)


def _by_metadata(runs: RunQuerySet, pairs: list[tuple[str, str]], near: RunQuerySet) -> RunQuerySet:
    """Return the runs with one of these pairs, of the newest ones where no index finds them."""
    if connections[runs.db].vendor != "postgresql":
        runs = _newest(runs, near)
    matches = Q()
    for pair in pairs:
        matches |= Q(HasPair(*pair))
    return runs.filter(matches)


def _newest(runs: RunQuerySet, near: RunQuerySet) -> RunQuerySet:
    """Leave out what is older than the newest of the runs that are quickly found."""
    most = MOST_WITHIN if near.query.where else MOST_SEARCHED
    ids = near.order_by("-pk").values_list("pk", flat=True)
    oldest = ids[most : most + 1].first()
    return runs.filter(pk__gt=oldest) if oldest else runs


def _contains(text: str, digits: str) -> Q:
    matches = (
        Q(function__pk__icontains=text)  # no join: the row may be missing
        | Q(label__icontains=text)
        | Q(error_class__icontains=text)
        | Q(error_message__icontains=text)
    )
    if _HEX.fullmatch(digits) and len(digits) == SHORT_ID:
        matches |= Q(pk__endswith=digits)
    return matches
