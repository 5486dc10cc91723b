"""Stored arguments and results as text of several lines: one argument a line, long ones indented.

Nothing is loaded and nothing is executed: a model instance is shown as the reference it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django_defer.payload_display import display_result
from django_defer.redaction import hidden_arguments, is_sensitive
from django_defer.registry import registry
from django_defer.sensitive import MASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django_defer.models import Run

WIDTH: Final = 88  # characters up to which a value stays on its line
LONGEST: Final = 4000  # characters of one value
MOST: Final = 20_000  # characters of all of them
DEEPEST: Final = 8  # levels of indentation


def show_arguments(run: Run) -> str:
    """Return the arguments as `name = value`, one a line; empty when there are none.

    A mask stands for the values that `sensitive=` hides, and for all of what is no stored call.
    """
    call = run.args
    if not isinstance(call, dict) or not isinstance(call.get("args"), list):
        return MASK if is_sensitive(run) else show_value(call)
    hidden = hidden_arguments(run)
    keywords = call.get("kwargs")
    named = keywords if isinstance(keywords, dict) else {}
    positional = zip(_names(run), enumerate(call["args"]), strict=False)
    arguments = [
        *((name, index in hidden, value) for name, (index, value) in positional),
        *((name, name in hidden, value) for name, value in named.items()),
    ]
    lines = (f"{n} = {MASK if hide else _pretty(value, 0)}" for n, hide, value in arguments)
    return _cut("\n".join(lines))


def show_value(data: Any) -> str:
    """Return a stored value, on several lines when it is long."""
    return _cut(_pretty(data, 0))


def _names(run: Run) -> Iterator[str]:
    """Yield the parameters' names as this process's code has them, then positions."""
    function = registry.find(str(run.function_id))
    names = function.parameter_names if function is not None else ()
    yield from names
    position = len(names)
    while True:
        yield f"[{position}]"
        position += 1


def _pretty(data: Any, depth: int) -> str:
    text = display_result(data, LONGEST)
    if len(text) + 4 * depth <= WIDTH or depth == DEEPEST:
        return text
    if isinstance(data, list):
        return _lines("[", (_pretty(item, depth + 1) for item in data), "]", depth)
    if isinstance(data, dict) and not any(key[:1] == "$" for key in data):
        pairs = (f"{key!r}: {_pretty(item, depth + 1)}" for key, item in data.items())
        return _lines("{", pairs, "}", depth)
    return text


def _lines(opening: str, items: Iterable[str], closing: str, depth: int) -> str:
    """Put each item on a line of its own, as many as can be shown."""
    indent, size = "    " * (depth + 1), 0
    lines = [opening]
    for item in items:
        lines.append(f"{indent}{item},")
        size += len(item)
        if size > MOST:
            lines.append(f"{indent}…")
            break
    return "\n".join([*lines, "    " * depth + closing])


def _cut(text: str) -> str:
    return text if len(text) <= MOST else text[: MOST - 1] + "…"
