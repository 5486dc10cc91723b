"""`sensitive=`: names of parameters whose values nobody is shown, and what these are of a call.

A stored call is marked with what is hidden of it. So it stays hidden where the function's code is
missing, where its parameters have changed since, and where it is not called sensitive any more.
Where neither mark nor code tells which argument it is, all positional ones are hidden.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from django_defer.exceptions import InvalidOption, UnserializableValue

if TYPE_CHECKING:
    from django_defer.registry import Function

MASK: Final = "••••••"
MARK: Final = "sensitive"  # in a stored call, beside "args" and "kwargs"

Hidden = Collection[int | str]  # positions and names of arguments

_BY_PLACE: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
_STARS: Final[dict[Any, str]] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}
_ARGUMENT: Final = re.compile(r"`(args\[\d+\]|[^`.\[]*).*`", re.DOTALL)


class _Masked:
    def __repr__(self) -> str:
        return MASK


def read_names(key: str, value: Any) -> tuple[str, ...]:
    """Return the names that `sensitive=` gives: a text, or a list or tuple of texts."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) and n for n in names):
        raise InvalidOption(
            f'{key}: sensitive={value!r}: write the name of a parameter, such as "token", or a '
            f"tuple of names."
        )
    return tuple(dict.fromkeys(names))


def as_parameters(
    key: str, names: Collection[str], signature: inspect.Signature
) -> tuple[str, ...]:
    """Return the names, with their stars: `*rest` and `**more` stand for all that these take."""
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    takes_any_name = inspect.Parameter.VAR_KEYWORD in kinds.values()
    for name in names:
        if name not in kinds and not takes_any_name:
            known = ", ".join(f"`{each}`" for each in kinds) or "none"
            raise InvalidOption(
                f"{key}: sensitive= names `{name}`, which is no parameter of it. Known: {known}."
            )
    return tuple(f"{_STARS.get(kinds[n], '')}{n}" if n in kinds else n for n in names)


def mark(
    function: Function[Any, Any], args: Collection[Any], kwargs: Collection[str]
) -> dict[str, Any]:
    """Return what a stored call says of its hidden arguments: their names and positions."""
    hidden = _by_signature(function, len(args), kwargs)
    names = {*function.sensitive, *(each for each in hidden if isinstance(each, str))}
    positions = [each for each in hidden if isinstance(each, int)]
    return {"names": sorted(names), "at": sorted(positions)}


def hidden_in(
    call: Any, function: Function[Any, Any] | None, known: Collection[str] = ()
) -> set[int | str]:
    """Return positions and names of what is hidden of a stored call.

    `known` are the names that a row knows of a function whose code is not here.
    """
    if not isinstance(call, dict):
        return set()
    args, kwargs = call.get("args"), call.get("kwargs")
    count = len(args) if isinstance(args, list) else 0
    names = list(kwargs) if isinstance(kwargs, dict) else []
    marked, positions = _read_mark(call.get(MARK, {"names": [], "at": []}))
    if marked is None:
        return {*range(count), *names}
    hidden: set[int | str] = {*positions, *(name for name in names if name in marked)}
    if function is not None:
        hidden |= _by_signature(function, count, names)
    elif not marked.issuperset(known):
        hidden |= {*range(count), *(n for n in names if n in known or _has_star(known, "**"))}
    return hidden


def shown_signature(function: Function[Any, Any]) -> str:
    """Return the function's signature without the defaults of its sensitive parameters."""
    parameters = [
        parameter.replace(default=_Masked())
        if parameter.name in function.sensitive and parameter.default is not parameter.empty
        else parameter
        for parameter in function.signature.parameters.values()
    ]
    return str(function.signature.replace(parameters=parameters))


def hide_path(error: UnserializableValue, function: Function[Any, Any]) -> None:
    """Let the error name a sensitive argument only, and none of the keys in it."""
    match = _ARGUMENT.search(error.where)
    if match is None or match[0] == f"`{match[1]}`":
        return
    name = match[1]
    is_surplus = name.startswith("args[") or name not in function.signature.parameters
    if name in function.sensitive or (is_surplus and _has_star(function.sensitive, "*")):
        where = error.where.replace(match[0], f"`{name}`")
        error.args = (str(error).replace(error.where, where),)
        error.where = where


def _by_signature(
    function: Function[Any, Any], count: int, names: Collection[str]
) -> set[int | str]:
    """Return what the code says is hidden of a call with so many positions and these names."""
    sensitive, parameters = function.sensitive, function.signature.parameters
    if not sensitive:
        return set()
    by_place = [name for name, parameter in parameters.items() if parameter.kind in _BY_PLACE]
    hides_rest = any(_has_star([name], "*") and not _has_star([name], "**") for name in sensitive)
    hidden: set[int | str] = {
        position
        for position in range(count)
        if (by_place[position] in sensitive if position < len(by_place) else hides_rest)
    }
    hides_more = _has_star(sensitive, "**")
    return hidden | {n for n in names if n in sensitive or (hides_more and n not in parameters)}


def _has_star(names: Collection[str], star: str) -> bool:
    return any(name.startswith(star) for name in names)


def _read_mark(stored: Any) -> tuple[set[str] | None, list[int]]:
    """Return the marked names and positions; None: it cannot be read, so all is hidden."""
    if isinstance(stored, Mapping):
        names, positions = stored.get("names"), stored.get("at")
        if isinstance(names, list) and isinstance(positions, list):
            return {str(name) for name in names}, [p for p in positions if isinstance(p, int)]
    return None, []
