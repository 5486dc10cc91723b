"""`@defer`, `@defer.cron(…)` and what a caller does with the function they make."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from django.core.exceptions import AppRegistryNotReady

from django_defer.call_options import CallOptions
from django_defer.cron import CronSchedule
from django_defer.durations import parse_duration
from django_defer.event_loop import in_thread
from django_defer.exceptions import ImproperlyDeferred, InvalidOption, ScheduledFunctionError
from django_defer.registry import (
    Function,
    Options,
    app_label_of,
    check_function,
    check_no_required_parameters,
    registry,
)
from django_defer.retries import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from django_defer.models import Run

P = ParamSpec("P")
R = TypeVar("R")

LATER = frozenset({"discard_after", "metadata", "sensitive", "alert"})
LATER_FOR_SCHEDULES = frozenset(
    {
        "catch_up",
        "catch_up_window",
        "overlap",
        "supersede",
        "jitter",
        "enabled",
        "starts_at",
        "ends_at",
    }
)
LONGEST_KEY = 200  # the column's length


class ConfiguredFunction(Generic[P]):
    """A background function together with the options of one enqueue (`f.using(…)`)."""

    def __init__(self, function: DeferredFunction[P, Any], options: CallOptions) -> None:
        self._function = function
        self._options = options

    def __repr__(self) -> str:
        return f"<{self._function.key} using {self._options}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Run:
        """Enqueue; return the run."""
        return self._enqueue("()", args, kwargs)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Run:
        """Enqueue; return the run."""
        return self._enqueue(".enqueue()", args, kwargs)

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Run:
        """Enqueue from async code; return the run."""
        from django_defer.enqueue import aenqueue

        self._refuse_if_scheduled(".aenqueue()")
        return await aenqueue(self._function, args, kwargs, self._options)

    def map(self, items: Iterable[Any], *, batch_size: int | None = None) -> int:
        """Enqueue a run for each item, which becomes the only argument; return the count.

        All in one transaction, or one a batch of `batch_size` rows.
        """
        return self._many(".map()", ((item,) for item in items), batch_size)

    def starmap(self, tuples: Iterable[tuple[Any, ...]], *, batch_size: int | None = None) -> int:
        """Enqueue a run for each tuple of arguments; return the count."""
        return self._many(".starmap()", tuples, batch_size)

    async def amap(self, items: Iterable[Any], *, batch_size: int | None = None) -> int:
        """`map` from async code."""
        return cast("int", await in_thread(self.map)(items, batch_size=batch_size))

    async def astarmap(
        self, tuples: Iterable[tuple[Any, ...]], *, batch_size: int | None = None
    ) -> int:
        """`starmap` from async code."""
        return cast("int", await in_thread(self.starmap)(tuples, batch_size=batch_size))

    def run_now(self, *, actor: str = "") -> Run:
        """Make a run of a scheduled function outside its schedule, which does not move."""
        from django_defer.operations import run_now

        return run_now(self._function.key, actor=actor, options=self._options)

    async def arun_now(self, *, actor: str = "") -> Run:
        """`run_now` from async code."""
        return cast("Run", await in_thread(self.run_now)(actor=actor))

    def using(self, **options: Any) -> ConfiguredFunction[P]:
        """Return the same with these options too; the later one wins."""
        return ConfiguredFunction(self._function, self._options.merge(options))

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Execute the plain function here and now, without a run."""
        return self._function.call(*args, **kwargs)

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Execute the plain function here and now, from async code."""
        return await self._function.acall(*args, **kwargs)

    def _enqueue(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
        from django_defer.enqueue import enqueue

        self._refuse_if_scheduled(verb)
        return enqueue(self._function, args, kwargs, self._options, verb=verb)

    def _many(self, verb: str, calls: Iterable[tuple[Any, ...]], batch_size: int | None) -> int:
        from django_defer.enqueue import enqueue_many

        self._refuse_if_scheduled(verb)
        return enqueue_many(self._function, calls, self._options, batch_size, verb=verb)

    def _refuse_if_scheduled(self, verb: str) -> None:
        if self._function.schedule is not None:
            name = self._function.__name__
            verb = f"calling {name}()" if verb == "()" else verb
            raise ScheduledFunctionError(self._function.key, verb, name)


class DeferredFunction(Function[P, R], ConfiguredFunction[P]):
    """What `@defer` leaves in place of the function: calling it enqueues."""

    def __init__(self, function: Callable[P, Any], **facts: Any) -> None:
        Function.__init__(self, function, **facts)
        ConfiguredFunction.__init__(self, self, CallOptions())

    __repr__ = Function.__repr__
    call = Function.call
    acall = Function.acall


class Defer:
    """The decorator `defer`, with its schedules as attributes."""

    @overload
    def __call__(self, function: Callable[P, R], /) -> DeferredFunction[P, R]: ...

    @overload
    def __call__(
        self, function: None = None, /, **options: Any
    ) -> Callable[[Callable[P, R]], DeferredFunction[P, R]]: ...

    @overload
    def __call__(self, function: Callable[P, R], /, **options: Any) -> DeferredFunction[P, R]: ...

    def __call__(self, function: Any = None, /, **options: Any) -> Any:
        """Make a background function: calling it enqueues a run.

        Options: `name` (replaces the function's name in the key; a dotted name is the whole key),
        `queue`, `priority` (-100…100, higher first), `retry` (True, False, a number of retries or
        a RetryPolicy), `max_duration` (seconds, a timedelta or "5m"; default 30 minutes),
        `atomic` (body, children and outcome commit together), `rerun_if_lost`.
        """
        if function is None:
            return lambda inner: register(inner, None, options)
        return register(function, None, options)

    @overload
    def cron(
        self, expression: str, /, **options: Any
    ) -> Callable[[Callable[P, R]], DeferredFunction[P, R]]: ...

    @overload
    def cron(
        self, function: Callable[P, R], expression: str, /, **options: Any
    ) -> DeferredFunction[P, R]: ...

    def cron(self, first: Any, second: Any = None, /, **options: Any) -> Any:
        """Make a scheduled function: due whenever the cron expression says.

        `timezone` is an IANA name (default "UTC"); the other options are those of `@defer`.
        """
        zone = options.pop("timezone", "UTC")
        if callable(first):
            if second is None:
                raise InvalidOption('Write defer.cron(function, "0 8 * * MON"): no expression.')
            return register(first, (second, zone), options)
        if second is not None:
            raise InvalidOption('Write @defer.cron("0 8 * * MON") above the function.')
        return lambda inner: register(inner, (first, zone), options)

    def every(self, *args: Any, **options: Any) -> Any:
        """Refuse: fixed intervals are not built yet."""
        raise InvalidOption(
            "defer.every() is not built yet; use @defer.cron with an expression such as "
            '"*/5 * * * *" (every five minutes).'
        )


defer = Defer()


def register(
    function: Any, cron: tuple[str, str] | None, options: dict[str, Any]
) -> DeferredFunction[Any, Any]:
    """Check a function and its options, and put it in the registry."""
    check_function(function)
    key = key_for(function, options.pop("name", None))
    schedule = None
    if cron is not None:
        check_no_required_parameters(function)
        schedule = CronSchedule(*cron, key=key)
    deferred: DeferredFunction[Any, Any] = DeferredFunction(
        function, key=key, options=parse_options(key, options), schedule=schedule
    )
    registry.add(deferred)
    return deferred


def key_for(function: Any, name: Any) -> str:
    """Return the key: `app_label.function_name`, or what `name=` says."""
    if name is None:
        name = function.__name__
    elif not isinstance(name, str) or not all(name.split(".")):
        raise InvalidOption(f'name={name!r}: write a text such as "compute" or "shop.compute".')
    try:
        key = name if "." in name else f"{app_label_of(function.__module__)}.{name}"
    except AppRegistryNotReady:
        raise ImproperlyDeferred(
            f"{function.__module__} was imported before Django's apps were loaded: don't import "
            f"it from an app's __init__.py or apps.py, put it in AppConfig.ready()."
        ) from None
    if len(key) > LONGEST_KEY:
        raise InvalidOption(f"{key}: a key has at most {LONGEST_KEY} characters; give name=.")
    return key


def parse_options(key: str, options: dict[str, Any]) -> Options:
    """Turn the decorator's keywords into Options; refuse what is unknown or not built yet."""
    known = {"queue", "priority", "retry", "max_duration", "atomic", "rerun_if_lost"}
    for name in options:
        if name in LATER | LATER_FOR_SCHEDULES:
            raise InvalidOption(f"{key}: the option {name}= is not built yet; leave it out.")
        if name not in known:
            raise InvalidOption(
                f"{key}: unknown option {name}=. Known: name, {', '.join(sorted(known))}."
            )
    call = CallOptions().merge({k: v for k, v in options.items() if k in ("queue", "priority")})
    parsed = Options(queue=call.queue, priority=call.priority or 0)
    if "retry" in options:
        parsed = replace(parsed, retry=RetryPolicy.from_option(options["retry"]))
    if "max_duration" in options:
        limit = parse_duration(options["max_duration"], name="max_duration")
        if not limit:
            raise InvalidOption(f"{key}: max_duration must be more than nothing.")
        parsed = replace(parsed, max_duration=limit)
    for name in ("atomic", "rerun_if_lost"):
        if name in options:
            if not isinstance(options[name], bool):
                raise InvalidOption(f"{key}: {name}= takes True or False, not {options[name]!r}.")
            parsed = replace(parsed, **{name: options[name]})
    return parsed


class LazyFunction:
    """A background function named by its key, looked up at its first use (circular imports)."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"<function {self._key}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Run:
        """Enqueue; return the run."""
        run: Run = registry.get(self._key)(*args, **kwargs)
        return run

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(registry.get(self._key), name)


def function(key: str) -> LazyFunction:
    """Return a handle on the background function with this key; it need not be imported yet."""
    return LazyFunction(key)
