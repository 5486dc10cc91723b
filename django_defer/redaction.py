"""What is hidden of a run, for whoever shows its arguments or keeps a text that may quote them.

The stored arguments themselves stay as they are: a worker needs them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus

from django_defer.models import BackgroundFunction
from django_defer.payload_types import ENUM, LEAVES_BY_TAG
from django_defer.registry import registry
from django_defer.sensitive import MASK, hidden_in

if TYPE_CHECKING:
    from django_defer.models import Run

SHORTEST: Final = 4  # characters of a value that is hidden in texts
HEAD: Final = 16  # characters by which a value is recognised that a text quotes in part

Hider = Callable[[str], str]


def hidden_arguments(run: Run) -> set[int | str]:
    """Return positions and names of the arguments of a run that nobody is shown."""
    return _hidden(str(run.function_id), run.args, run._state.db)


def is_sensitive(run: Run) -> bool:
    """Say whether any argument of this function is hidden."""
    function = registry.find(str(run.function_id))
    if function is not None:
        return bool(function.sensitive)
    return bool(_names_in_row(str(run.function_id), run._state.db))


def sensitive_names(key: str, using: str) -> set[str]:
    """Return the names of this function's sensitive parameters, for other things called so."""
    function = registry.find(key)
    names = function.sensitive if function is not None else _names_in_row(key, using)
    return {name.lstrip("*") for name in names}


def hider(key: str, call: Any) -> Hider | None:
    """Return what hides the values of a stored call's sensitive arguments in a text.

    None: there is nothing to hide.
    """
    hidden = hidden_in(call, registry.find(key))
    if not hidden:
        return None

    @cache  # most runs need none of it
    def values() -> list[str]:
        return sorted(_texts_of_call(call, hidden), key=lambda text: (-len(text), text))

    return lambda text: hide(text, values())


def hide(text: str, values: Sequence[str]) -> str:
    """Put a mask wherever the text quotes one of the values (the longest first), or its beginning.

    Whole ones go first: two forms of a value may begin alike.
    """
    for value in values:
        text = text.replace(value, MASK)
    for value in values:
        if len(value) > HEAD:
            text = _hide_beginnings(text, value)
    return text


def _hide_beginnings(text: str, value: str) -> str:
    head, begin = value[:HEAD], 0
    pieces: list[str] = []
    while (at := text.find(head, begin)) >= 0:
        pieces += [text[begin:at], MASK]
        begin = at + _length_quoted(text, at, value)
    return "".join([*pieces, text[begin:]]) if pieces else text


def _length_quoted(text: str, at: int, value: str) -> int:
    """Return how much of the value stands in the text at this place."""
    pairs = enumerate(zip(value, text[at : at + len(value)], strict=False))
    return next((n for n, (one, other) in pairs if one != other), len(text) - at)


def _hidden(key: str, call: Any, using: str | None) -> set[int | str]:
    function = registry.find(key)
    known = () if function is not None else _names_in_row(key, using)
    return hidden_in(call, function, known)


def _names_in_row(key: str, using: str | None) -> list[str]:
    """Return the names that the last sync wrote of a function whose code is not here."""
    rows = BackgroundFunction.objects.using(using) if using else BackgroundFunction.objects
    options = rows.filter(key=key).values_list("options", flat=True).first()
    names = options.get("sensitive") if isinstance(options, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else []


def _texts_of_call(call: Any, hidden: Iterable[int | str]) -> set[str]:
    args, kwargs = call.get("args"), call.get("kwargs")
    found: set[str] = set()
    for each in hidden:
        if isinstance(each, str):
            data = kwargs.get(each) if isinstance(kwargs, dict) else None
        else:
            data = args[each] if isinstance(args, list) and 0 <= each < len(args) else None
        for text in _texts_in(data):
            found.update(_as_quoted(text))
    return {text for text in found if len(text.strip()) >= SHORTEST}


def _texts_in(data: Any) -> Iterator[str]:
    """Yield the text of each value in JSON data, without the keys of objects; loads nothing."""
    left = [data]
    while left:
        item = left.pop()
        if isinstance(item, list):
            left += item
        elif isinstance(item, dict):
            tag = next(iter(item), "")
            if tag in LEAVES_BY_TAG and tag != ENUM.tag:
                yield from _texts_of_leaf(tag, item[tag])
            elif tag == "$dict":
                left += [pair[-1] for pair in item[tag] if isinstance(pair, list) and pair]
            elif tag == "$model":
                left += item[tag][1:2] if isinstance(item[tag], list) else []
            else:
                left += [value for key, value in item.items() if key != "$order"]
        elif item is not None and not isinstance(item, bool):
            yield str(item)


def _texts_of_leaf(tag: str, content: Any) -> Iterator[str]:
    """Yield how a value that JSON has no form for is stored, and how Python writes it."""
    if isinstance(content, str):
        yield content
    try:
        value = LEAVES_BY_TAG[tag].read(content)
        yield str(value)
        yield repr(value)
        if isinstance(value, bytes):
            yield repr(value)[2:-1]
            yield value.decode()
    except Exception:  # noqa: BLE001 - a row edited by hand; what could be read is hidden
        return


def _as_quoted(text: str) -> Iterator[str]:
    """Yield the text, its lines, and how it looks in a repr, in JSON and in an address."""
    for each in {text, text.strip(), *(line.strip() for line in text.splitlines())}:
        yield from (each, repr(each)[1:-1], json.dumps(each)[1:-1])
        encodable = each.encode("utf-8", "replace").decode()
        yield from (quote(encodable), quote(encodable, safe=""), quote_plus(encodable))
