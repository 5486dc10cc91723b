"""The errors a user of django-defer can meet, one class a situation.

Every message says what to do next; the facts behind it are attributes. `TimeLimitExceeded` and
`RunAborted` derive from BaseException so that `except Exception` in user code cannot swallow them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

UNDEFINED_TABLE: Final = "42P01"  # PostgreSQL's code for it


class DeferError(Exception):
    """The root of every error that django-defer raises on purpose."""


# -- bad values, found where they are written ------------------------------------------------


class InvalidDuration(DeferError, ValueError):
    """A duration that is not seconds, a timedelta or a string such as "5m"."""


class InvalidCronExpression(DeferError, ValueError):
    """A cron expression or time zone that cannot be used; the message says what to write."""


class InvalidRetryPolicy(DeferError, ValueError):
    """A retry policy whose values contradict each other or are out of range."""


class InvalidOption(DeferError, TypeError):
    """An option of `@defer` or `using()` that is unknown or out of range."""


class ImproperlyDeferred(DeferError, TypeError):
    """A function that cannot be a background function: it could not be found again by its key."""


class DuplicateKey(DeferError, ValueError):
    """Two functions claim one key, or one function was imported under two module paths.

    `first` and `second` say where; `proper` is the path to keep, of a function imported twice.
    """

    def __init__(self, key: str, first: str, second: str, proper: str = "") -> None:
        self.key, self.first, self.second, self.proper = key, first, second, proper
        if proper:
            places = f"{first} and {second}"
            message = f"{key} was imported twice, as {places}. Import it as {proper} everywhere."
        else:
            message = (
                f"Two background functions have the key {key!r}: {first} and {second}. "
                f'Give one of them another name with @defer(name="…").'
            )
        super().__init__(message)


# -- payloads --------------------------------------------------------------------------------


class UnserializableValue(DeferError, TypeError):
    """An argument or result that cannot be stored as data and read back faithfully."""

    def __init__(self, where: str, value: object, instead: str) -> None:
        self.where, self.instead = where, instead
        kind = type(value)
        super().__init__(
            f"{where} is of type {kind.__module__}.{kind.__qualname__}, which cannot be stored; "
            f"{instead}"
        )


class PayloadTooLarge(DeferError, ValueError):
    """Arguments or a result larger than the configured cap (bytes of JSON)."""

    def __init__(self, what: str, size: int, limit: int, setting: str) -> None:
        self.what, self.size, self.limit, self.setting = what, size, limit, setting
        super().__init__(
            f"{what}: {size:,} bytes of JSON, more than the {limit:,} allowed. Store the data "
            f'elsewhere and pass its id, or raise DEFER["{setting}"].'
        )


class UnreadablePayload(DeferError):
    """Stored arguments or results that this code cannot read back. Never retried."""


class ReferencedObjectMissing(UnreadablePayload):
    """A model instance passed by reference was deleted before the run started."""


# -- enqueueing ------------------------------------------------------------------------------


class ScheduledFunctionError(DeferError, TypeError):
    """A scheduled function was called or enqueued directly."""

    def __init__(self, key: str, verb: str, name: str = "") -> None:
        self.key, self.verb = key, verb
        name = name or key.rpartition(".")[2]
        super().__init__(
            f"{key} is a scheduled function: its cron definition makes its runs, so {verb} is an "
            f"error. Use {name}.run_now() for a run outside the schedule, or {name}.call() to "
            f"execute it here and now."
        )


class NotDiscoverable(DeferError):
    """A function that workers would not import, so its runs would wait for ever."""

    def __init__(self, key: str, module: str, wanted: str) -> None:
        self.key, self.module, self.wanted = key, module, wanted
        super().__init__(
            f"{key} is decorated in {module}, which workers do not import, so its runs would wait "
            f"for ever. Move the function to {wanted}, or import {module} from there."
        )


class UnknownFunction(DeferError, LookupError):
    """No function is registered under this key."""

    def __init__(self, key: str, nearest: str | None = None) -> None:
        self.key = key
        hint = f" Did you mean {nearest!r}?" if nearest else ""
        super().__init__(f"No background function has the key {key!r}.{hint}")


class NotMigrated(DeferError):
    """The tables of django-defer are missing."""

    def __init__(self) -> None:
        super().__init__(
            "The tables of django_defer do not exist yet: run `manage.py migrate`, then try again."
        )

    @staticmethod
    def explains(error: Exception) -> bool:
        """Say whether a database error means this."""
        text = str(error)  # PostgreSQL's is in the server's language; its code is not
        is_missing = (
            getattr(error.__cause__, "sqlstate", None) == UNDEFINED_TABLE or "no such table" in text
        )
        return is_missing and "django_defer_" in text


class CalledInEventLoop(DeferError):
    """A synchronous verb was called inside a running event loop."""

    def __init__(self, verb: str) -> None:
        twins = {"()": ".aenqueue()", ".wait()": ".await_end()"}
        self.twin = twins.get(verb, f".a{verb.lstrip('.')}")
        super().__init__(
            f"{verb} touches the database and an event loop is running: use `await …{self.twin}`."
        )


# -- runs ------------------------------------------------------------------------------------


class RunError(DeferError):
    """A verb that this run's state does not allow. `.run_id` and `.state` say which."""

    advice = "cannot do that"

    def __init__(self, run_id: Any, state: str, detail: str = "") -> None:
        self.run_id, self.state = run_id, state
        super().__init__(f"Run {run_id} is {state}: {detail or self.advice}.")


class RunNotCancellable(RunError):
    """`cancel()` on a run that has ended, or that runs and is not to be aborted."""

    advice = "only a run that has not started can be cancelled"

    def __init__(self, run_id: Any, state: str) -> None:
        also = "; cancel(force=True) aborts it" if state == "running" else ""
        super().__init__(run_id, state, self.advice + also)


class AbortInProgress(RunError):
    """`cancel(force=True)` on a run that is being aborted already, since `.since`."""

    def __init__(self, run_id: Any, state: str, since: Any) -> None:
        self.since = since
        super().__init__(
            run_id, state, f"it is being aborted since {since:%Y-%m-%d %H:%M:%S} UTC; wait for it"
        )


class RunNotReschedulable(RunError):
    """`reschedule()` on a run that is not waiting."""

    advice = "only a run that waits can be rescheduled"


class RunNotRerunnable(RunError):
    """`rerun()` on a run that has not ended."""

    advice = "only a run that has ended can be run again; wait for it or cancel it"


class RunNotEnqueued(RunError):
    """A verb on a run whose INSERT waits for another database's commit, or will never be.

    `alias` is that database.
    """

    def __init__(self, run_id: Any, alias: str, *, is_pending: bool) -> None:
        self.run_id, self.state, self.alias = run_id, "None", alias
        if is_pending:
            message = (
                f"Run {run_id} is not enqueued yet (state None): it waits for the commit of the "
                f"transaction on {alias!r}. Do this after that commit."
            )
        else:
            message = (
                f"Run {run_id} was never enqueued (state None): the transaction on {alias!r} "
                f"that it waited for was rolled back."
            )
        DeferError.__init__(self, message)


class ResultNotReady(RunError):
    """The run did not end in the time given."""

    advice = "it has no result yet"


class ResultUnavailable(RunError):
    """The run ended without a result."""

    advice = "it has no result"


class WaitInsideTransaction(DeferError):
    """`wait()` inside the transaction that enqueued the run: it could never start."""

    def __init__(self, run_id: Any) -> None:
        self.run_id = run_id
        super().__init__(
            f"Run {run_id} was enqueued or changed in a transaction that is still open, so no "
            f"worker can see it. Wait after that has committed."
        )


class WaitInsideRun(DeferError):
    """`wait()` without a timeout inside another run, whose worker could do nothing meanwhile."""

    def __init__(self, run_id: Any, waiting_id: Any) -> None:
        self.run_id, self.waiting_id = run_id, waiting_id
        super().__init__(
            f"Run {waiting_id} would keep its worker while it waits for {run_id}: if all do so, "
            f"nobody executes that. Give timeout=, or let that one enqueue what comes after it."
        )


class RunIsReadOnly(DeferError, TypeError):
    """An existing row was saved or deleted by hand."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"A {model} that exists is changed by its verbs only (cancel, reschedule, rerun, …): "
            f"saving it by hand could undo what a worker wrote."
        )


# -- raised inside a running function ----------------------------------------------------------


class Retry(DeferError):
    """Raise inside a function to end this attempt and try again.

    `after` (seconds, a timedelta or "10m") replaces the retry policy's delay; the attempt counts
    as a failure all the same, so `max_attempts` still holds.
    """

    def __init__(self, message: str = "", *, after: float | timedelta | str | None = None) -> None:
        from django_defer.durations import parse_duration

        self.delay = None if after is None else parse_duration(after, name="after")
        super().__init__(message or "The function asked for a retry.")


class Cancel(DeferError):
    """Raise inside a function to end its run as cancelled, with a reason and without a retry."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason or "The function cancelled its own run.")


class TimeLimitExceeded(BaseException):
    """Raised inside a function that runs longer than its `max_duration`."""


class RunAborted(BaseException):
    """Raised inside a function whose run an operator aborted."""
