"""What discovery met (defer.E002, E004, E005), and functions that may not mean what they say."""

from __future__ import annotations

import importlib
import itertools
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.core import checks
from django.db import connections

import django_defer
from django_defer.checks.database import database_alias
from django_defer.discovery import oddities
from django_defer.durations import format_duration
from django_defer.exceptions import (
    DeferError,
    DuplicateKey,
    InvalidCronExpression,
    InvalidOption,
)
from django_defer.registry import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_defer.discovery import Oddity
    from django_defer.registry import Function, Problem

LONGEST_LOCK: Final = timedelta(seconds=30)
CRON_IDS: Final = {
    "day_or_day": "defer.W001",
    "uneven_step": "defer.W002",
    "fixed_in_fold": "defer.W007",
}
OUR_FILES: Final = str(Path(django_defer.__file__).parent)


def check_discovery(**kwargs: object) -> list[checks.CheckMessage]:
    """Report each error of discovery once, however many modules it kept from being imported."""
    found = {(each.id, each.obj, each.msg): each for each in map(_error, registry.problems)}
    return list(found.values())


def check_schedules(**kwargs: object) -> list[checks.CheckMessage]:
    """Report expressions that may not mean what they look like (W001, W002, W007)."""
    return [
        checks.Warning(
            warning.message,
            hint=f'If it is meant, add "{CRON_IDS[warning.code]}" to SILENCED_SYSTEM_CHECKS.',
            obj=_place(function),
            id=CRON_IDS[warning.code],
        )
        for function in registry
        if function.schedule is not None
        for warning in function.schedule.warnings(function.key)
    ]


def check_enabled(**kwargs: object) -> list[checks.CheckMessage]:
    """Report an `enabled=` that cannot say whether its schedule fires here (E006)."""
    found: list[checks.CheckMessage] = []
    for function in registry:
        try:
            function.schedule_options.is_enabled(function.key)
        except InvalidOption as error:
            hint = "It is called without arguments, by each check and each sync."
            found.append(checks.Error(str(error), hint=hint, obj=_place(function), id="defer.E006"))
    return found


def check_modules(**kwargs: object) -> list[checks.CheckMessage]:
    """Report modules of `defer/` packages that don't hold, or hide, the function they name."""
    found: list[checks.CheckMessage] = []
    ordered = sorted(oddities(), key=_package_and_kind)
    for (package, kind), group in itertools.groupby(ordered, _package_and_kind):
        names = [oddity.name for oddity in group]
        if kind == "shadow":
            found.append(_shadowed(package, names))
        else:
            found += [_misnamed(package, name) for name in names]
    return found


def check_atomic(**kwargs: object) -> list[checks.CheckMessage]:
    """Report what atomic=True costs, or does not cover (W008, W009)."""
    alias = database_alias()
    atomic = [function for function in registry if function.options.atomic]
    if alias is None or not atomic:
        return []
    found: list[checks.CheckMessage] = []
    if connections[alias].vendor == "sqlite":
        found += [_long(each) for each in atomic if each.options.max_duration > LONGEST_LOCK]
    return [*found, *_uncovered(alias, atomic)]


def _error(problem: Problem) -> checks.CheckMessage:
    error = problem.error
    code, text = "defer.E002", str(error)
    hint = f"Until this is mended, no worker starts and nothing in {problem.module} runs."
    if isinstance(error, DuplicateKey):
        code = "defer.E004"
        if error.proper:
            text = f"{error.key} was imported twice: {error.first} and {error.second}."
            hint = f"Import it as {error.proper} everywhere."
        else:
            text = f"Two functions have the key {error.key!r}: {error.first} and {error.second}."
            hint = 'Give one of them another name with @defer(name="…").'
    elif isinstance(error, InvalidCronExpression):
        code = "defer.E005"
        hint = (
            "The five fields are minute, hour, day of the month, month and day of the week: "
            '"0 8 * * MON" is Mondays at 8.'
        )
    elif not isinstance(error, DeferError):
        last = (str(error).strip().splitlines() or [""])[-1]
        text = f"{problem.module} could not be imported: {type(error).__name__}: {last}"
    return checks.Error(text, hint=hint, obj=_raised_at(error) or problem.module, id=code)


def _raised_at(error: BaseException) -> str:
    """Return file and line of the innermost code that is neither ours nor Python's machinery."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if not file.startswith((OUR_FILES, "<")) and file != importlib.__file__:
            place = f"{file}:{line}"
    return place


def _package_and_kind(oddity: Oddity) -> tuple[str, str]:
    return oddity.package, oddity.kind


def _misnamed(package: str, name: str) -> checks.CheckMessage:
    module = f"{package}.{name}"
    return checks.Warning(
        f"{module} holds no background function called {name}.",
        hint="Name the module after its function, or begin its name with an underscore if it only "
        "holds what other modules share.",
        obj=getattr(sys.modules.get(module), "__file__", module),
        id="defer.W005",
    )


def _shadowed(package: str, names: list[str]) -> checks.CheckMessage:
    file = f"{package.replace('.', '/')}/__init__.py"
    lines = "\n".join(f"from {package}.{name} import {name}" for name in names)
    return checks.Warning(
        f"`from {package} import {names[0]}` gives the module, not the function in it.",
        hint=f"Write in {file}:\n{lines}",
        obj=file,
        id="defer.W006",
    )


def _long(function: Function[..., object]) -> checks.CheckMessage:
    longest = format_duration(function.options.max_duration)
    return checks.Warning(
        f"{function.key} is atomic and may take {longest}: until it ends it holds SQLite's one "
        f"write lock, so that nobody else can write.",
        hint=f'Write max_duration="{format_duration(LONGEST_LOCK)}" or less, leave out '
        f"atomic=True, or use PostgreSQL.",
        obj=_place(function),
        id="defer.W008",
    )


def _uncovered(alias: str, atomic: list[Function[..., object]]) -> Iterator[checks.CheckMessage]:
    others = [
        name
        for name, database in settings.DATABASES.items()
        if name != alias and not (database.get("TEST") or {}).get("MIRROR")
    ]
    if others:
        keys = ", ".join(sorted(function.key for function in atomic))
        yield checks.Warning(
            f'atomic=True covers the database "{alias}" only: what {keys} may write to '
            f"{', '.join(map(repr, others))} is committed by itself, also if the function fails.",
            hint="Write to the other database in a background function of its own, enqueued from "
            "the atomic one, that can be repeated.",
            obj=_place(atomic[0]),
            id="defer.W009",
        )


def _place(function: Function[..., object]) -> str:
    return f"{function.file}:{function.line}"
