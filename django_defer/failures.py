"""What an error means: the text that is kept of it, and when to try again."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, Final

from django_defer.attempt_facts import Failure
from django_defer.exceptions import (
    DeferError,
    Retry,
    TimeLimitExceeded,
    UnreadablePayload,
)
from django_defer.states import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from django_defer.attempt_facts import Started
    from django_defer.registry import Function
    from django_defer.retries import RetryPolicy

MAX_TRACEBACK: Final = 20_000  # characters kept of a traceback, its end


class Hopeless(DeferError):
    """Another attempt would end the same way; what happened is its `__cause__`."""


def describe(error: BaseException, hide: Callable[[str], str] | None = None) -> Failure:
    """Return the error as the text that is kept; `hide` masks what nobody is shown of it."""
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    outcome = Outcome.TIMED_OUT if isinstance(error, TimeLimitExceeded) else Outcome.FAILED
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001 - an error whose text can't be had is kept too
        message = f"(its text could not be read: {type(broken).__name__})"
    text = "".join(traceback.format_exception(error))
    if hide is not None:  # before it is cut: the rest of a value would not be recognised
        message, text = hide(message), hide(text)
    return Failure(
        outcome=outcome,
        error_class=name[:300],
        error_message=storable(message[:MAX_TRACEBACK]),
        traceback=storable(text[-MAX_TRACEBACK:]),
    )


def storable(text: str) -> str:
    """Return text that any database takes: PostgreSQL refuses NUL and lone surrogates."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def delay_before_retry(
    function: Function[Any, Any] | None, started: Started, error: BaseException
) -> timedelta | None:
    """Return how long to wait before the next attempt, or None when there is none."""
    failures = started.failures + 1
    if failures >= started.max_attempts or isinstance(error, (UnreadablePayload, Hopeless)):
        return None
    if function is None:
        return None
    policy = function.options.retry
    if isinstance(error, Retry):
        return error.delay if error.delay is not None else policy.delay(failures)
    return policy.delay(failures) if should_retry(policy, error) else None


def should_retry(policy: RetryPolicy, error: BaseException) -> bool:
    """Ask the policy; SystemExit and the like, which end no worker, count as any Exception."""
    if isinstance(error, (Exception, TimeLimitExceeded)):
        return policy.should_retry(error)
    is_listed = isinstance(error, policy.give_up_on)
    return policy.should_retry(error) or (Exception in policy.retry_on and not is_listed)
