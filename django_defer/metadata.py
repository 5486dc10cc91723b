"""`metadata=`: pairs of text that a run carries, to be searched and shown; never interpreted.

A function says some, each enqueue may add to them, replace them or, with None, remove them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from django_defer.exceptions import InvalidOption

MOST_PAIRS: Final = 25
LONGEST_KEY: Final = 64  # characters
LONGEST_VALUE: Final = 500  # characters

Changes = Mapping[str, str | None]


class Pairs(Mapping[str, str]):
    """Metadata that can be read and not changed; unlike a MappingProxyType it can be pickled."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Any = None) -> None:
        self._pairs: dict[str, str] = dict(pairs) if isinstance(pairs, Mapping) else {}

    def __getitem__(self, key: str) -> str:
        """Return the value of a key."""
        return self._pairs[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys."""
        return iter(self._pairs)

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return len(self._pairs)

    def __repr__(self) -> str:
        return repr(self._pairs)

    def __hash__(self) -> int:
        return hash(frozenset(self._pairs.items()))


def read_pairs(value: Any, *, where: str = "") -> dict[str, str]:
    """Return what `@defer(metadata=…)` says: pairs, none of which removes a key."""
    pairs = read_changes(value, where=where)
    for key, text in pairs.items():
        if text is None:
            raise InvalidOption(
                f"{where}metadata: the value of {key!r} is None, which removes a key: leave it out."
            )
    return merged({}, pairs, where=where)


def read_changes(value: Any, *, where: str = "") -> dict[str, str | None]:
    """Return what `using(metadata=…)` says: pairs, and keys to remove, whose value is None."""
    if not isinstance(value, Mapping):
        raise InvalidOption(
            f'{where}metadata={value!r}: write a dict of texts, such as {{"order": "17"}}.'
        )
    return {_key(key, where): _value(key, text, where) for key, text in value.items()}


def merged(pairs: Mapping[str, str], changes: Changes | None, *, where: str = "") -> dict[str, str]:
    """Return the pairs with the changes on top."""
    both: Changes = {**pairs, **(changes or {})}
    result = {key: text for key, text in both.items() if text is not None}
    if len(result) > MOST_PAIRS:
        raise InvalidOption(
            f"{where}metadata has {len(result)} pairs: give at most {MOST_PAIRS}, and pass what "
            f"the function needs as arguments."
        )
    return result


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise InvalidOption(f"{where}metadata: the key {key!r} is no text: write {str(key)!r}.")
    if not 0 < len(key) <= LONGEST_KEY:
        raise InvalidOption(
            f"{where}metadata: the key {key[:LONGEST_KEY]!r} has {len(key)} characters: write a "
            f"text of 1 to {LONGEST_KEY}."
        )
    return _storable(key, f"{where}metadata: the key {key!r}")


def _value(key: Any, value: Any, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidOption(
            f"{where}metadata: the value of {key!r} is of type {type(value).__name__}: write a "
            f"text, such as str(…)."
        )
    if len(value) > LONGEST_VALUE:
        raise InvalidOption(
            f"{where}metadata: the value of {key!r} has {len(value):,} characters: write at most "
            f"{LONGEST_VALUE}, such as an id, and store the rest elsewhere."
        )
    return _storable(value, f"{where}metadata: the value of {key!r}")


def _storable(text: str, what: str) -> str:
    """Return a plain str; refuse what PostgreSQL's jsonb does: NUL and lone surrogates."""
    text = str.__str__(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidOption(
            f"{what} has half of a surrogate pair: write whole characters."
        ) from None
    if "\x00" in text:
        raise InvalidOption(f"{what} has a NUL character: leave it out.")
    return text
