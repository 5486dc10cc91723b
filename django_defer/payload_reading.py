"""Reading a stored payload: the decoder, which loads referenced rows, and the rendering for admin
pages, which loads nothing.

A payload that cannot be read raises UnreadablePayload with the reason; errors of the database
itself pass through, since a later attempt may read what this one could not.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import DEFAULT_DB_ALIAS, connections

from django_defer.exceptions import ReferencedObjectMissing, UnreadablePayload
from django_defer.payload_types import ENUM, LEAVES_BY_TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from django.db.models import Model

COLLECTIONS: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    "$dict": dict,
}
BRACKETS: Final = {
    "$tuple": ("(", ")"),
    "$set": ("{", "}"),
    "$frozenset": ("frozenset({", "})"),
}
MAX_DEPTH: Final = 150  # of JSON; what we write stays below, a row edited by hand may not
SHOWN_DEPTH: Final = 20


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
        raise UnreadablePayload(f"The payload has {_shorten(data)}, which this version can't read.")

    def _ordered(self, data: dict[str, Any]) -> dict[str, Any]:
        """Read an object whose keys jsonb would put in another order."""
        if (keys := _keys(data)) is None:
            raise UnreadablePayload("The payload has an object whose $order is not its keys.")
        return {key: self.decode(data[key]) for key in keys}

    def _row(self, content: Any) -> Model:
        """Load a referenced row, or return the one that this decoder loaded before."""
        key = json.dumps(content)
        if key not in self.rows:
            label, pk, alias = _reference(content)
            self.rows[key] = _load(label, self.decode(pk), alias)
        return self.rows[key]


def _keys(data: dict[str, Any]) -> list[str] | None:
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
    raise UnreadablePayload(f"The payload has a $model of an unknown form: {_shorten(content)}.")


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
        message = f"The payload has a {tag} that cannot be read: {error!s} in {_shorten(content)}."
        raise UnreadablePayload(message) from error


def _shorten(data: Any) -> str:
    return _cut([repr(data)], 80)


# -- for admin pages -----------------------------------------------------------------------------


def display(data: Any, max_chars: int = 200, *, parameter_names: Sequence[str] = ()) -> str:
    """Return a stored call as `user=<shop.User pk=5>, limit=10`; never loads, never raises."""
    if not is_call(data):
        return display_result(data, max_chars)
    arguments = [*enumerate(data["args"]), *data["kwargs"].items()]
    named = dict(enumerate(parameter_names))
    return _cut(_join(_argument(named.get(k, k), v) for k, v in arguments), max_chars)


def display_result(data: Any, max_chars: int = 200) -> str:
    """Return a stored result in the same rendering."""
    return _cut(_show(data), max_chars)


def _cut(pieces: Iterable[str], max_chars: int) -> str:
    """Join pieces, and take no more of them than fit."""
    text = ""
    for piece in pieces:
        text += piece
        if len(text) > max_chars:
            return text[: max_chars - 1] + "…"
    return text


def _join(parts: Iterable[Iterable[str]]) -> Iterator[str]:
    for index, part in enumerate(parts):
        if index:
            yield ", "
        yield from part


def _argument(name: Any, data: Any) -> Iterator[str]:
    if isinstance(name, str):
        yield f"{name}="
    yield from _show(data)


def _show(data: Any, depth: int = 0) -> Iterator[str]:
    if depth > SHOWN_DEPTH:
        yield "…"
    elif type(data) is list:
        yield from _show_items("[", data, "]", depth)
    elif type(data) is not dict:
        yield repr(data)
    elif "$order" in data:
        yield from _show_pairs(((key, data[key]) for key in _keys(data) or data), depth)
    elif any(key[:1] == "$" for key in data):
        yield from _show_tag(*next(iter(data.items())), depth)
    else:
        yield from _show_pairs(data.items(), depth)


def _show_items(opening: str, data: Iterable[Any], closing: str, depth: int) -> Iterator[str]:
    yield opening
    yield from _join(_show(item, depth + 1) for item in data)
    yield closing


def _show_pairs(pairs: Iterable[tuple[Any, Any]], depth: int) -> Iterator[str]:
    yield "{"
    yield from _join(_join_pair(_show(k, depth + 1), _show(v, depth + 1)) for k, v in pairs)
    yield "}"


def _join_pair(key: Iterator[str], value: Iterator[str]) -> Iterator[str]:
    yield from key
    yield ": "
    yield from value


def _show_tag(tag: str, content: Any, depth: int) -> Iterator[str]:
    """Show what a tag stands for; an Enum is not looked up, a model is not loaded."""
    try:
        if tag == "$model":
            label, pk, alias = content
            database = "" if alias == DEFAULT_DB_ALIAS else f" database={alias}"
            yield f"<{label} pk={_cut(_show(pk, depth + 1), 80)}{database}>"
        elif tag == ENUM.tag:
            yield f"{content[0].partition(':')[2]}.{content[1]}"
        elif tag == "$dict":
            yield from _show_pairs(((key, value) for key, value in content), depth)
        elif tag in BRACKETS:
            opening, closing = BRACKETS[tag]
            if tag == "$tuple" and len(content) == 1:
                closing = ",)"
            if tag != "$tuple" and not content:
                opening, closing = f"{tag[1:]}(", ")"
            yield from _show_items(opening, content, closing, depth)
        else:
            yield LEAVES_BY_TAG[tag].show(LEAVES_BY_TAG[tag].read(content))
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError):
        yield _shorten({tag: content})
