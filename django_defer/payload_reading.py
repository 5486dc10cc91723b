"""Reading a stored payload back into values: the decoder, which loads referenced rows.

A payload that cannot be read raises UnreadablePayload with the reason; errors of the database
itself pass through, since a later attempt may read what this one could not.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import connections

from django_defer.exceptions import ReferencedObjectMissing, UnreadablePayload
from django_defer.payload_types import LEAVES_BY_TAG

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import Model

COLLECTIONS: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    "$dict": dict,
}
MAX_DEPTH: Final = 150  # of JSON; what we write stays below, a row edited by hand may not


def is_call(data: Any) -> bool:
    """Say whether this is the form that `encode_call` writes."""
    return (
        isinstance(data, dict)
        and isinstance(data.get("args"), list)
        and isinstance(data.get("kwargs"), dict)
    )


class Decoder:
    """Turns JSON data back into values and loads each referenced row once."""

    def __init__(self) -> None:
        self.rows: dict[str, Model] = {}
        self.depth = 0

    def decode(self, data: Any) -> Any:
        """Return the value."""
        kind: type = type(data)
        if kind is not list and kind is not dict:
            return data
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadablePayload(f"The payload is nested over {MAX_DEPTH} levels deep.")
        value = self._items(data) if kind is list else self._object(data)
        self.depth -= 1
        return value

    def _items(self, data: list[Any]) -> list[Any]:
        return [self.decode(item) for item in data]

    def _object(self, data: dict[str, Any]) -> Any:
        if not any(key[:1] == "$" for key in data):
            return {key: self.decode(item) for key, item in data.items()}
        if "$order" in data:
            return self._ordered(data)
        tag, content = next(iter(data.items()))
        if len(data) == 1 and tag == "$model":
            return self._row(content)
        if len(data) == 1 and tag in COLLECTIONS and type(content) is list:
            return _read(tag, COLLECTIONS[tag], self._items(content))
        if len(data) == 1 and tag in LEAVES_BY_TAG:
            return _read(tag, LEAVES_BY_TAG[tag].read, content)
        raise UnreadablePayload(f"The payload has {shorten(data)}, which this version can't read.")

    def _ordered(self, data: dict[str, Any]) -> dict[str, Any]:
        """Read an object whose keys jsonb would put in another order."""
        if (keys := keys_in_order(data)) is None:
            raise UnreadablePayload("The payload has an object whose $order is not its keys.")
        return {key: self.decode(data[key]) for key in keys}

    def _row(self, content: Any) -> Model:
        """Load a referenced row, or return the one that this decoder loaded before."""
        key = json.dumps(content)
        if key not in self.rows:
            label, pk, alias = _reference(content)
            self.rows[key] = _load(label, self.decode(pk), alias)
        return self.rows[key]


def keys_in_order(data: dict[str, Any]) -> list[str] | None:
    """Return the keys of an object that has an `$order`, in that order, if it fits."""
    order = data["$order"]
    if type(order) is not list or not all(type(key) is str for key in order):
        return None
    return order if {*order} == data.keys() - {"$order"} else None


def _reference(content: Any) -> tuple[str, Any, str]:
    if type(content) is list and len(content) == 3:
        label, pk, alias = content
        if type(label) is str and label.count(".") == 1 and type(alias) is str:
            return label, pk, alias
    raise UnreadablePayload(f"The payload has a $model of an unknown form: {shorten(content)}.")


def _load(label: str, pk: Any, alias: str) -> Model:
    """Return the row; its base manager sees rows that the default manager hides."""
    try:
        model = apps.get_model(label)
    except LookupError:
        raise UnreadablePayload(f"{label} pk={pk} cannot be loaded: no such model.") from None
    if alias not in connections:
        raise UnreadablePayload(f"{label} pk={pk} cannot be loaded: no database {alias!r}.")
    try:
        row: Model = model._base_manager.using(alias).get(pk=pk)
    except ObjectDoesNotExist:
        message = f"{label} pk={pk} (database {alias}) no longer exists"
        raise ReferencedObjectMissing(message) from None
    except (TypeError, ValueError, ValidationError) as error:
        raise UnreadablePayload(f"{label} pk={pk!r} cannot be loaded: {error}") from error
    return row


def _read(tag: str, read: Callable[[Any], Any], content: Any) -> Any:
    try:
        return read(content)
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        message = f"The payload has a {tag} that cannot be read: {error!s} in {shorten(content)}."
        raise UnreadablePayload(message) from error


def shorten(data: Any) -> str:
    """Return a few characters of JSON data, for a message."""
    text = repr(data)
    return text if len(text) <= 80 else f"{text[:79]}…"
