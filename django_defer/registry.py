"""What exists in code: background functions by key, and the errors met while finding them.

A key is `app_label.function_name` unless `name=` is given. Only functions found here ever run:
nothing is imported from a path in a row.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec, TypeVar

from asgiref.sync import async_to_sync, sync_to_async
from django.apps import apps

from django_defer.exceptions import DuplicateKey, ImproperlyDeferred, UnknownFunction
from django_defer.retries import RetryPolicy
from django_defer.schedule_options import ScheduleOptions
from django_defer.sensitive import as_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from django_defer.cron import CronSchedule
    from django_defer.schedules import Every

P = ParamSpec("P")
R = TypeVar("R")


class Options(NamedTuple):
    """What `@defer(…)` says about a function. Durations are timedeltas."""

    queue: str | None = None
    priority: int = 0
    retry: RetryPolicy = RetryPolicy()
    max_duration: timedelta = timedelta(minutes=30)
    discard_after: timedelta | None = None
    atomic: bool = False
    rerun_if_lost: bool = True
    keep: Mapping[str, Any] = MappingProxyType({})  # what it says of its retention
    metadata: Mapping[str, str] = MappingProxyType({})
    sensitive: tuple[str, ...] = ()  # as written; see `Function.sensitive`
    alert: bool | tuple[str, ...] | None = None  # False, names of channels; None: as settings say
    alert_after: timedelta | None = None


class Function(Generic[P, R]):
    """A function that discovery can find again: the facts, without the verbs.

    `DeferredFunction` in `decorators` adds what a caller does with it.
    """

    __name__: str
    __qualname__: str

    def __init__(
        self,
        function: Callable[P, Any],
        *,
        key: str,
        options: Options,
        former_keys: tuple[str, ...] = (),
        schedule: CronSchedule | Every | None = None,
        schedule_options: ScheduleOptions | None = None,
    ) -> None:
        functools.update_wrapper(self, function)  # type: ignore[arg-type]
        self.function = function
        self.key = key
        self.former_keys = former_keys
        self.options = options
        self.schedule = schedule
        self.schedule_options = schedule_options or ScheduleOptions()
        self.module: str = function.__module__
        self.file, self.line = source_of(function)
        self.signature = inspect.signature(function)
        self.parameter_names = tuple(
            parameter.name
            for parameter in self.signature.parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        )
        self.sensitive = as_parameters(key, options.sensitive, self.signature)
        self.is_async = inspect.iscoroutinefunction(function)
        self.is_discoverable = True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key}>"

    @property
    def place(self) -> str:
        """Where it is defined: module, file and line."""
        return f"{self.module} ({self.file}:{self.line})"

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Execute the plain function here and now, without a run."""
        if self.is_async:
            return async_to_sync(self.function)(*args, **kwargs)
        return self.function(*args, **kwargs)

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Execute the plain function here and now, from async code."""
        if self.is_async:
            return await self.function(*args, **kwargs)
        return await sync_to_async(self.function)(*args, **kwargs)


class Problem(NamedTuple):
    """Something discovery met: the error and the module it was met in."""

    module: str
    error: BaseException


class Registry:
    """Every registered function by key."""

    def __init__(self) -> None:
        self._functions: dict[str, Any] = {}
        self.problems: list[Problem] = []
        self.discovered = False

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._functions.values()))

    def __contains__(self, key: object) -> bool:
        return key in self._functions

    def __len__(self) -> int:
        return len(self._functions)

    def keys(self) -> list[str]:
        """Return every key that finds a function, former ones too, sorted."""
        return sorted({*self._functions, *self._former()})

    def get(self, key: str) -> Any:
        """Return the function with this key; UnknownFunction suggests the nearest one."""
        function = self.find(key)
        if function is None:
            nearest = difflib.get_close_matches(key, self._functions, n=1)
            raise UnknownFunction(key, nearest[0] if nearest else None)
        return function

    def find(self, key: str) -> Any | None:
        """Return the function that has, or used to have, this key; None if there is none."""
        return self._functions.get(key) or self._former().get(key)

    def add(self, function: Function[Any, Any]) -> None:
        """Register a function. Its own module executed again may replace it; nobody else may."""
        other = self._functions.get(function.key)
        if other is not None:
            if other.function is function.function:
                raise ImproperlyDeferred(
                    f"{function.key} is deferred twice ({function.place}): keep one, or give one "
                    f'another name with name="…".'
                )
            if (other.module, other.line) != (function.module, function.line):
                raise DuplicateKey(function.key, other.place, function.place)
        self._check_former_keys(function)
        twin = next((each for each in self if _is_same_code(each, function)), None)
        if twin is not None:
            proper = function if in_defer_module(function.module) else twin
            raise DuplicateKey(function.key, twin.place, function.place, proper.module)
        # What is imported until every app is ready, a worker imports too.
        function.is_discoverable = not (self.discovered and apps.ready) or in_defer_module(
            function.module
        )
        self._functions[function.key] = function

    def remove(self, key: str) -> None:
        """Forget a function (tests)."""
        self._functions.pop(key, None)

    def _check_former_keys(self, function: Function[Any, Any]) -> None:
        """Refuse a former key that a function has, or that two functions used to have."""
        for key in function.former_keys:
            owner = self.find(key)
            if key == function.key or (owner is not None and owner.key != function.key):
                whose = f"that of {owner.key} ({owner.place})" if owner else "its own key"
                raise ImproperlyDeferred(
                    f"{function.key} ({function.place}) says renamed_from={key!r}, but this is "
                    f"{whose}: leave it out."
                )
        heir = self._former().get(function.key)
        if heir is not None and heir.key != function.key:
            raise ImproperlyDeferred(
                f"{heir.key} ({heir.place}) says renamed_from={function.key!r}, but there still "
                f"is such a function ({function.place}): remove one of the two."
            )

    def _former(self) -> dict[str, Any]:
        return {key: function for function in self for key in function.former_keys}


registry = Registry()


def app_label_of(module: str) -> str:
    """Return the label of the installed app that `module` belongs to, else its top package."""
    config = apps.get_containing_app_config(module)
    return config.label if config else module.partition(".")[0]


def in_defer_module(module: str) -> bool:
    """Say whether discovery imports `module`: an installed app's `defer.py` or `defer/`."""
    config = apps.get_containing_app_config(module)
    if config is None:
        return False
    home = f"{config.name}.defer"
    return module == home or module.startswith(f"{home}.")


def home_for(module: str) -> str:
    """Return the file in which discovery would find a function of `module`."""
    config = apps.get_containing_app_config(module)
    return f"{config.name.replace('.', '/')}/defer.py" if config else "an installed app's defer.py"


def source_of(function: Any) -> tuple[str, int]:
    """Return file and line of a function, looking below decorators that use functools.wraps."""
    code = getattr(inspect.unwrap(function), "__code__", function.__code__)
    source = inspect.getsourcefile(code)
    return str(Path(source).resolve()) if source else code.co_filename, code.co_firstlineno


def _is_same_code(one: Function[Any, Any], other: Function[Any, Any]) -> bool:
    """Say whether one file was imported under two names, and this function with it."""
    return (
        one.module != other.module
        and (one.file, one.line, one.__qualname__) == (other.file, other.line, other.__qualname__)
        and not one.file.startswith("<")
    )


def check_function(function: Any) -> None:
    """Refuse what could not be found again by a key, and say what to write instead."""
    if isinstance(function, Function):
        raise ImproperlyDeferred(f"{function.key} is decorated with @defer twice: keep one.")
    if not inspect.isfunction(function):
        raise ImproperlyDeferred(
            f"@defer takes a function defined with def or async def, not {function!r}. "
            f"Define a module-level function that calls it."
        )
    place = "{}:{}".format(*source_of(function))
    name = function.__qualname__
    if function.__name__ == "<lambda>":
        raise ImproperlyDeferred(f"A lambda has no name to be found by ({place}): use def.")
    if "<locals>" in name:
        raise ImproperlyDeferred(
            f"{name} is defined inside a function ({place}), so a worker could not find it: "
            f"move it to module level and pass what it needs as arguments (a decorator below "
            f"@defer needs functools.wraps)."
        )
    if "." in name:
        raise ImproperlyDeferred(
            f"{name} is a method ({place}): write a module-level function that takes the "
            f"object (a model instance travels as a reference) and calls the method."
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ImproperlyDeferred(
            f"{name} is a generator ({place}): nobody would consume it. Write a loop that "
            f"enqueues another background function for each item."
        )


def required_parameters(signature: inspect.Signature) -> list[str]:
    """Return the names of the parameters without which it cannot be called."""
    return [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def check_no_required_parameters(function: Any) -> None:
    """Refuse a scheduled function that needs arguments: nobody is there to give them."""
    if required := required_parameters(inspect.signature(function)):
        place = "{}:{}".format(*source_of(function))
        raise ImproperlyDeferred(
            f"{function.__qualname__} is a scheduled function and takes no arguments, but "
            f"{', '.join(f'`{name}`' for name in required)} has no default ({place}). Give it a "
            f"default, or let a scheduled function enqueue a background function with arguments."
        )
