"""A stored payload in a line for people: nothing is loaded, and nothing is refused.

A model instance is shown as the reference it is; what cannot be read is shown as it is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.db import DEFAULT_DB_ALIAS

from django_defer.payload_reading import is_call, keys_in_order, shorten
from django_defer.payload_types import ENUM, LEAVES_BY_TAG
from django_defer.sensitive import MASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from django_defer.sensitive import Hidden

BRACKETS: Final = {
    "$tuple": ("(", ")"),
    "$set": ("{", "}"),
    "$frozenset": ("frozenset({", "})"),
}
SHOWN_DEPTH: Final = 20


def display(
    data: Any,
    max_chars: int = 200,
    *,
    parameter_names: Sequence[str] = (),
    hidden: Hidden = (),
) -> str:
    """Return a stored call as `user=<shop.User pk=5>, limit=10`; never loads, never raises.

    `hidden` are the positions and names of arguments that nobody is shown.
    """
    if not is_call(data):
        return display_result(data, max_chars)
    arguments = [*enumerate(data["args"]), *data["kwargs"].items()]
    named = dict(enumerate(parameter_names))
    parts = (_argument(named.get(k, k), v, is_hidden=k in hidden) for k, v in arguments)
    return _cut(_join(parts), max_chars)


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


def _argument(name: Any, data: Any, *, is_hidden: bool) -> Iterator[str]:
    if isinstance(name, str):
        yield f"{name}="
    yield from (MASK,) if is_hidden else _show(data)


def _show(data: Any, depth: int = 0) -> Iterator[str]:
    if depth > SHOWN_DEPTH:
        yield "…"
    elif type(data) is list:
        yield from _show_items("[", data, "]", depth)
    elif type(data) is not dict:
        yield repr(data)
    elif "$order" in data:
        yield from _show_pairs(((key, data[key]) for key in keys_in_order(data) or data), depth)
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
        yield shorten({tag: content})
