"""When a failed attempt is tried again: exponential back-off with jitter, as one frozen value.

A policy decides from its own values and the error alone; it never looks at the clock or the
database. Losses (a killed worker) are not failures and are counted elsewhere.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from django_defer.durations import DurationLike, parse_duration
from django_defer.exceptions import (
    Cancel,
    InvalidDuration,
    InvalidRetryPolicy,
    Retry,
    RunAborted,
    TimeLimitExceeded,
    UnreadablePayload,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Errors: TypeAlias = tuple[type[BaseException], ...]

MAX_ATTEMPTS = 30_000  # the number of an attempt is a smallint, and losses count towards it too

# What the function or an operator said itself comes before what the policy lists.
_ALWAYS_RETRIED: Errors = (Retry, TimeLimitExceeded)
_NEVER_RETRIED: Errors = (Cancel, RunAborted, UnreadablePayload)


@dataclass(frozen=True, slots=True, init=False)
class RetryPolicy:
    """How often and how soon a failed run is tried again. The default lasts about a day.

    The delay starts at `initial_interval`, grows by `multiplier` up to `max_interval`, and is
    spread by ± `randomization_factor` so that failures of one outage do not return together.
    """

    max_attempts: int
    initial_interval: timedelta
    multiplier: float
    max_interval: timedelta
    randomization_factor: float
    retry_on: Errors
    give_up_on: Errors

    # Written by hand: it takes durations as people write them, the fields are timedeltas.
    def __init__(
        self,
        *,
        max_attempts: int = 17,
        initial_interval: DurationLike = "30s",
        multiplier: float = 2,
        max_interval: DurationLike = "3h",
        randomization_factor: float = 0.5,
        retry_on: type[BaseException] | Errors = (Exception,),
        give_up_on: type[BaseException] | Errors = (),
    ) -> None:
        values = {
            "max_attempts": _attempts(max_attempts),
            "initial_interval": _interval("initial_interval", initial_interval),
            "multiplier": _number("multiplier", multiplier, 1, math.inf, "1 or more, such as 2"),
            "max_interval": _interval("max_interval", max_interval),
            "randomization_factor": _number(
                "randomization_factor", randomization_factor, 0, 1, "a number from 0 to 1"
            ),
            "retry_on": _errors("retry_on", retry_on),
            "give_up_on": _errors("give_up_on", give_up_on),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_option(cls, value: bool | int | RetryPolicy) -> RetryPolicy:
        """Return the policy that the option `retry=value` means.

        True is the default policy, False a single attempt, a number that many retries.
        """
        if isinstance(value, RetryPolicy):
            return value
        if isinstance(value, bool):
            return cls() if value else cls(max_attempts=1)
        retries: Any = value
        if isinstance(retries, int) and 0 <= retries < MAX_ATTEMPTS:
            return cls(max_attempts=retries + 1)
        raise InvalidRetryPolicy(
            f"retry={_shown(value)} is not possible; write True, False, a number of retries from "
            f"0 to {MAX_ATTEMPTS - 1}, or RetryPolicy(…)."
        )

    def should_retry(self, error: BaseException) -> bool:
        """Say whether this kind of error is worth another attempt; `give_up_on` wins.

        A time-out and `raise Retry` are retried whatever `retry_on` lists. How many attempts are
        left is not looked at.
        """
        if isinstance(error, (*_NEVER_RETRIED, *self.give_up_on)):
            return False
        return isinstance(error, (*_ALWAYS_RETRIED, *self.retry_on))

    def delay(self, failures: int, random: Callable[[], float] = random.random) -> timedelta:
        """Return how long to wait after the `failures`-th failure (the first is 1).

        That is min(max_interval, initial_interval * multiplier ** (failures - 1)), times a
        uniform factor in [1 - f, 1 + f], where f is the randomization factor. The result is
        therefore never above max_interval * (1 + f).
        """
        if failures < 1:
            raise ValueError(f"delay() counts failures from 1, not from {failures}.")
        seconds = self._interval_seconds(failures)
        try:
            return timedelta(seconds=seconds * (1 + self.randomization_factor * (2 * random() - 1)))
        except OverflowError:
            return timedelta.max

    def _interval_seconds(self, failures: int) -> float:
        longest = self.max_interval.total_seconds()
        try:
            growth = float(self.multiplier) ** (failures - 1)
        except OverflowError:
            growth = math.inf
        first = self.initial_interval.total_seconds()
        return min(longest, first * growth) if first else 0.0


def _attempts(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_ATTEMPTS:
        raise InvalidRetryPolicy(
            f"max_attempts={_shown(value)} is not possible; write a whole number from 1 (no retry) "
            f"to {MAX_ATTEMPTS}."
        )
    return value


def _interval(name: str, value: DurationLike) -> timedelta:
    try:
        return parse_duration(value, name=name)
    except InvalidDuration as error:
        raise InvalidRetryPolicy(str(error)) from None


def _number(name: str, value: Any, low: float, high: float, instead: str) -> float:
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not numeric or not low <= value <= high or value == math.inf:
        raise InvalidRetryPolicy(f"{name}={_shown(value)} is not possible; write {instead}.")
    try:
        float(value)
    except OverflowError:
        raise InvalidRetryPolicy(f"{name} is too large; write {instead}.") from None
    return value  # type: ignore[no-any-return]


def _errors(name: str, value: Any) -> Errors:
    classes = value if isinstance(value, tuple) else (value,)
    if all(isinstance(item, type) and issubclass(item, BaseException) for item in classes):
        return classes
    raise InvalidRetryPolicy(
        f"{name}={_shown(value)} is not possible; write an exception class or a tuple of them, "
        f"such as {name}=(ConnectionError, TimeoutError)."
    )


def _shown(value: object) -> str:
    try:
        return repr(value)
    except ValueError:  # an int of more than 4300 digits
        return "…"
