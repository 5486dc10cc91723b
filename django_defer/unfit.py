"""Waiting runs that this code could not execute: found before a deploy, not at eight o'clock.

Only the shape of the stored arguments is looked at, how many and which names; no value is read.
"""

from __future__ import annotations

import inspect
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from django_defer.models import Run
from django_defer.payload_reading import is_call
from django_defer.registry import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST: Final = 200_000  # waiting runs that are looked at

Shape = tuple[int, tuple[str, ...]]


def unfit_runs(using: str) -> Iterator[str]:
    """Yield a line a function and reason: "37 waiting runs of shop.invoice lack `locale`"."""
    shapes: Counter[tuple[str, Shape | None]] = Counter()
    waiting = Run.objects.using(using).waiting().order_by().values_list("function", "args")
    for key, args in islice(waiting.iterator(chunk_size=2000), MOST):
        shapes[key, _shape(args)] += 1
    problems: Counter[tuple[str, str]] = Counter()
    for (key, shape), count in shapes.items():
        if problem := _problem(key, shape):
            problems[key, problem] += count
    for (key, problem), count in sorted(problems.items()):
        if count == 1:
            yield f"1 waiting run of {key} {_in_singular(problem)}"
        else:
            yield f"{count:,} waiting runs of {key} {problem}"
    if shapes.total() == MOST:
        yield f"only the first {MOST:,} waiting runs were looked at"


def _shape(args: Any) -> Shape | None:
    return (len(args["args"]), tuple(sorted(args["kwargs"]))) if is_call(args) else None


def _problem(key: str, shape: Shape | None) -> str:
    function = registry.find(key)
    if function is None:
        return "have no function in this code"
    if shape is None:
        return "cannot be read"
    positional, names = shape
    try:
        function.signature.bind(*[None] * positional, **dict.fromkeys(names))
    except TypeError as error:
        return _in_words(function.signature, positional, names) or f"do not fit: {error}"
    return ""


def _in_words(signature: inspect.Signature, positional: int, names: tuple[str, ...]) -> str:
    """Say which arguments are missing or too many."""
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    by_place = [
        name
        for name, kind in kinds.items()
        if kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ]
    given = {*by_place[:positional], *names}
    missing = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and name not in given
    ]
    takes_any_name = inspect.Parameter.VAR_KEYWORD in kinds.values()
    unknown = [] if takes_any_name else [name for name in names if name not in kinds]
    parts = []
    if missing:
        parts.append(f"lack {_listed(missing)}")
    if unknown:
        parts.append(f"have {_listed(unknown)}, which it does not take")
    if positional > len(by_place) and inspect.Parameter.VAR_POSITIONAL not in kinds.values():
        parts.append(f"have {positional} positional arguments, and it takes {len(by_place)}")
    return " and ".join(parts)


def _in_singular(problem: str) -> str:
    verbs = {"lack": "lacks", "have": "has", "do": "does"}
    return " ".join(verbs.get(word, word) for word in problem.split(" "))


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
