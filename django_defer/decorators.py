"""`@defer`, `@defer.cron(…)` and what a caller does with the function they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, cast, overload

from django_defer.call_options import CallOptions
from django_defer.event_loop import in_thread
from django_defer.exceptions import InvalidOption, ScheduledFunctionError
from django_defer.options import former_keys_for, key_for, parse_options
from django_defer.registry import (
    Function,
    check_function,
    check_no_required_parameters,
    registry,
)
from django_defer.schedule_options import NAMES as SCHEDULE_OPTIONS
from django_defer.schedule_options import parse_schedule_options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django_defer.bulk import InBulk
    from django_defer.cron import CronSchedule
    from django_defer.durations import DurationLike
    from django_defer.models import Run
    from django_defer.schedules import Every

P = ParamSpec("P")
R = TypeVar("R")

Schedule = Callable[[str], "CronSchedule | Every"]


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

    def map(
        self,
        items: Iterable[Any],
        *,
        batch_size: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> int:
        """Enqueue a run for each item, which becomes the only argument; return the count.

        All in one transaction, or one a batch of `batch_size` rows. Items are read as they are
        inserted, a thousand or a batch at a time; a QuerySet that is not evaluated yet keeps no
        rows (on SQLite it does). Only where the transaction of another database is open, all wait
        in memory for its commit. `progress` is called after each INSERT with the number of runs
        inserted so far: `print`, or `current_run().progress` in a function.
        """
        return self._many(".map()", items, _alone, batch_size=batch_size, progress=progress)

    def starmap(
        self,
        tuples: Iterable[tuple[Any, ...]],
        *,
        batch_size: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> int:
        """Enqueue a run for each tuple of arguments; return the count. Else it is like `map`."""
        return self._many(".starmap()", tuples, tuple, batch_size=batch_size, progress=progress)

    async def amap(self, items: Iterable[Any], **how: Unpack[InBulk]) -> int:
        """`map` from async code: another thread reads the items and calls `progress`."""
        return cast("int", await in_thread(self.map)(items, **how))

    async def astarmap(self, tuples: Iterable[tuple[Any, ...]], **how: Unpack[InBulk]) -> int:
        """`starmap` from async code."""
        return cast("int", await in_thread(self.starmap)(tuples, **how))

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

    def _many(
        self,
        verb: str,
        items: Iterable[Any],
        as_args: Callable[[Any], tuple[Any, ...]],
        **how: Unpack[InBulk],
    ) -> int:
        from django_defer.bulk import enqueue_many

        self._refuse_if_scheduled(verb)
        return enqueue_many(self._function, items, self._options, as_args=as_args, verb=verb, **how)

    def _refuse_if_scheduled(self, verb: str) -> None:
        if self._function.schedule is not None:
            name = self._function.__name__
            verb = f"calling {name}()" if verb == "()" else verb
            raise ScheduledFunctionError(self._function.key, verb, name)


def _alone(item: Any) -> tuple[Any]:
    return (item,)


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
        `discard_after` (a duration: what has not begun so long after it was due never runs),
        `atomic` (body, children and outcome commit together), `rerun_if_lost`, `keep_succeeded`,
        `keep_failed` and `keep_last` (how long ended runs stay, and how many at least),
        `renamed_from` (the key or keys it had before, whose runs and history it takes over),
        `metadata` (a dict of texts that each run carries), `sensitive` (names of parameters whose
        values nobody is shown).
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

        `timezone` is an IANA name (default "UTC"). Options of a schedule: `catch_up` ("latest",
        "none" or "all") and `catch_up_window` for slots that nobody was there to fire, `overlap`
        ("allow", "skip", "queue" or "replace") for an earlier slot's run that is not finished,
        `supersede` (a new slot discards an older run that waits for a retry), `jitter` (a random
        delay up to this long), `enabled` (a bool or a function that returns one), `starts_at` and
        `ends_at` (aware datetimes). The other options are those of `@defer`.
        """
        from django_defer.cron import CronSchedule

        zone = options.pop("timezone", "UTC")
        function, expression = _target(first, second, 'defer.cron("0 8 * * MON")')

        def schedule(key: str) -> CronSchedule:
            return CronSchedule(expression, zone, key=key)

        if function is None:
            return lambda inner: register(inner, schedule, options)
        return register(function, schedule, options)

    @overload
    def every(
        self, interval: DurationLike, /, **options: Any
    ) -> Callable[[Callable[P, R]], DeferredFunction[P, R]]: ...

    @overload
    def every(
        self, function: Callable[P, R], interval: DurationLike, /, **options: Any
    ) -> DeferredFunction[P, R]: ...

    def every(self, first: Any, second: Any = None, /, **options: Any) -> Any:
        """Make a scheduled function: due at a fixed interval, from a second up.

        The interval is seconds, a timedelta or a text such as "10s". It is counted from
        `starts_at`, or else from the first sync, and kept in the database: no restart or deploy
        begins it anew. The options are those of `defer.cron`, without `timezone`.
        """
        from django_defer.schedules import Every, parse_interval

        if "timezone" in options:
            raise InvalidOption("An interval knows no time zone: leave timezone= out.")
        function, interval = _target(first, second, 'defer.every("10s")')
        every = Every(parse_interval(interval))
        if function is None:
            return lambda inner: register(inner, lambda key: every, options)
        return register(function, lambda key: every, options)


def _target(first: Any, second: Any, example: str) -> tuple[Any, Any]:
    """Return the function (None: it comes below the decorator) and what it repeats by."""
    if callable(first):
        if second is None:
            what = "no interval" if "every" in example else "no expression"
            raise InvalidOption(f"Write {example.replace('(', '(function, ')}: {what}.")
        return first, second
    if second is not None:
        raise InvalidOption(f"Write @{example} above the function.")
    return None, first


defer = Defer()


def register(
    function: Any, schedule: Schedule | None, options: dict[str, Any]
) -> DeferredFunction[Any, Any]:
    """Check a function and its options, and put it in the registry.

    `schedule` makes its schedule from its key.
    """
    check_function(function)
    key = key_for(function, options.pop("name", None))
    former_keys = former_keys_for(function, options.pop("renamed_from", ()))
    facts: dict[str, Any] = {}
    more: frozenset[str] = frozenset()
    if schedule is not None:
        check_no_required_parameters(function)
        given = {name: options.pop(name) for name in list(options) if name in SCHEDULE_OPTIONS}
        facts = {
            "schedule": schedule(key),
            "schedule_options": parse_schedule_options(key, given),
        }
        more = SCHEDULE_OPTIONS
    deferred: DeferredFunction[Any, Any] = DeferredFunction(
        function,
        key=key,
        former_keys=former_keys,
        options=parse_options(key, options, more=more),
        **facts,
    )
    registry.add(deferred)
    return deferred
