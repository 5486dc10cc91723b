"""What a person means by a name: a run, by its id or a part of it; a definition; a function.

Rows are asked, never the registry. A key wins over an id, since a key may look like one.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final, TypeAlias

from django_defer.models import BackgroundFunction, CronDefinition, Run

if TYPE_CHECKING:
    from collections.abc import Iterator

Subject: TypeAlias = "Run | CronDefinition | BackgroundFunction"

SHORTEST_PREFIX: Final = 4  # hexadecimal digits
END_OF_ID: Final = 8  # how many of them pages and lists show
MOST_NAMED: Final = 5  # runs or keys in an error
NEWEST: Final = 50_000  # runs that the end of an id is looked for in first
_HEX: Final = re.compile(r"[0-9a-f]{1,32}")


class NotFound(LookupError):
    """Nothing, or more than one thing, is meant by the text; the message says what to write."""


def find(text: str) -> Subject:
    """Return what the text names; raise NotFound."""
    text = text.replace("\x00", "").strip().removesuffix("…").removesuffix("...")
    if not text:
        raise NotFound("Give the id of a run, or the key of a function such as shop.weekly.")
    return _by_key(text) or _by_id(text) or _refuse(text)


def _by_key(key: str) -> CronDefinition | BackgroundFunction | None:
    """Return the definition of a function, else the function; it may be known by its runs only."""
    definition = CronDefinition.objects.filter(function=key).first()
    if definition is not None:
        return definition
    function = BackgroundFunction.objects.filter(key=key).first()
    if function is None and Run.objects.filter(function=key).exists():
        return BackgroundFunction(key=key)
    return function


def _by_id(text: str) -> Run | None:
    digits = text.lower().replace("-", "")
    if not _HEX.fullmatch(digits):
        return None
    found = _matching(digits)
    if len(found) > 1:
        more = " and others" if len(found) > MOST_NAMED else ""
        named = "; ".join(
            f"{run.pk} ({run.function_id}, {run.state})" for run in found[:MOST_NAMED]
        )
        raise NotFound(f"Several runs match {text!r}: write one of {named}{more}.")
    return Run.objects.get(pk=found[0].pk) if found else None


def _matching(digits: str) -> list[Run]:
    """Return runs whose id begins, or if there are none ends, with the digits.

    No index has the ends: it looks among the newest runs, and only then at all of them.
    """
    runs = Run.objects.only("id", "function", "state")
    found: list[Run] = []
    if len(digits) >= SHORTEST_PREFIX:
        found = list(runs.with_id_beginning(digits).order_by("-pk")[: MOST_NAMED + 1])
    if not found and len(digits) == END_OF_ID:
        ids = Run.objects.order_by("-pk").values_list("pk", flat=True)
        oldest = ids[NEWEST : NEWEST + 1].first()
        ending = runs.order_by().filter(pk__endswith=digits)
        newest = ending.filter(pk__gt=oldest) if oldest else ending
        found = list(newest[: MOST_NAMED + 1])
        if not found and oldest:
            found = list(ending.filter(pk__lte=oldest)[: MOST_NAMED + 1])
    return sorted(found, key=lambda run: run.pk, reverse=True)


def _refuse(text: str) -> Subject:
    """Raise NotFound with the keys that are nearest."""
    shown = text if len(text) <= 100 else f"{text[:99]}…"
    if near := list(_nearest(text)):
        raise NotFound(f"Nothing is called {shown!r}: did you mean {' or '.join(near)}?")
    raise NotFound(
        f"Nothing is called {shown!r}: write the id of a run, its first characters or its last "
        f"{END_OF_ID} digits, or the key of a function such as shop.weekly. A function that is "
        f"new in the code is known after manage.py defer_sync."
    )


def _nearest(text: str) -> Iterator[str]:
    """Yield the keys that are like the text, as a whole or in what follows the app's label."""
    keys = BackgroundFunction.objects.order_by("key").values_list("key", flat=True)
    known: dict[str, list[str]] = {}
    for key in keys:
        for name in dict.fromkeys((key.lower(), key.lower().rpartition(".")[2])):
            known.setdefault(name, []).append(key)
    names = difflib.get_close_matches(text.lower(), known, n=MOST_NAMED, cutoff=0.7)
    yield from list(dict.fromkeys(key for name in names for key in known[name]))[:MOST_NAMED]
