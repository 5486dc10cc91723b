"""RetryPolicy: how soon, how often, and after which errors."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_defer.exceptions import (
    Cancel,
    InvalidRetryPolicy,
    Retry,
    RunAborted,
    TimeLimitExceeded,
)
from django_defer.retries import RetryPolicy


def middle() -> float:
    return 0.5


def test_the_default_policy_lasts_about_a_day() -> None:
    policy = RetryPolicy()
    delays = [policy.delay(failures, random=middle) for failures in range(1, policy.max_attempts)]
    assert timedelta(hours=23) < sum(delays, timedelta(0)) < timedelta(hours=26)


def test_delays_double_up_to_the_longest() -> None:
    policy = RetryPolicy(initial_interval="10s", max_interval="1m")
    seconds = [policy.delay(failures, random=middle).total_seconds() for failures in range(1, 6)]
    assert seconds == [10, 20, 40, 60, 60]


def test_durations_become_timedeltas() -> None:
    policy = RetryPolicy(initial_interval=5, max_interval="2h")
    assert (policy.initial_interval, policy.max_interval) == (timedelta(0, 5), timedelta(hours=2))


def test_the_factor_spreads_delays_both_ways() -> None:
    policy = RetryPolicy(initial_interval="10s", randomization_factor=0.5)
    assert policy.delay(1, random=lambda: 0.0) == timedelta(seconds=5)
    assert policy.delay(1, random=lambda: 1.0) == timedelta(seconds=15)


def test_without_a_factor_nothing_is_random() -> None:
    policy = RetryPolicy(initial_interval="10s", randomization_factor=0)
    assert policy.delay(1) == policy.delay(1) == timedelta(seconds=10)


@settings(derandomize=True, deadline=None, database=None)
@given(
    initial=st.timedeltas(timedelta(0), timedelta(days=400)),
    longest=st.timedeltas(timedelta(0), timedelta(days=400)),
    multiplier=st.floats(1, 1e308) | st.integers(1, 10**300),
    factor=st.floats(0, 1),
    failures=st.integers(1, 10**12),
    chance=st.floats(0, 1),
)
def test_a_delay_stays_within_its_bounds(
    initial: timedelta,
    longest: timedelta,
    multiplier: float,
    factor: float,
    failures: int,
    chance: float,
) -> None:
    policy = RetryPolicy(
        initial_interval=initial,
        max_interval=longest,
        multiplier=multiplier,
        randomization_factor=factor,
    )
    delay = policy.delay(failures, random=lambda: chance)
    least = min(initial, longest).total_seconds() * (1 - factor)
    assert delay >= timedelta(seconds=least) - timedelta(microseconds=1)
    assert delay <= timedelta(seconds=longest.total_seconds() * (1 + factor))


@settings(derandomize=True, deadline=None, database=None)
@given(st.integers(1, 40), st.floats(0, 1))
def test_delays_never_get_shorter(failures: int, chance: float) -> None:
    policy = RetryPolicy()
    assert policy.delay(failures, lambda: chance) <= policy.delay(failures + 1, lambda: chance)


def test_the_longest_interval_python_can_count_is_possible() -> None:
    policy = RetryPolicy(initial_interval=timedelta.max, max_interval=timedelta.max)
    assert policy.delay(3, random=lambda: 1.0) == timedelta.max


def test_failures_count_from_one() -> None:
    with pytest.raises(ValueError, match="from 1"):
        RetryPolicy().delay(0)


def test_give_up_on_wins_over_retry_on() -> None:
    policy = RetryPolicy(retry_on=OSError, give_up_on=(FileNotFoundError,))
    assert policy.retry_on == (OSError,)
    assert policy.should_retry(ConnectionError())
    assert not policy.should_retry(FileNotFoundError())
    assert not policy.should_retry(ValueError())


def test_a_time_out_is_retried_unless_given_up_on() -> None:
    assert RetryPolicy(retry_on=OSError).should_retry(TimeLimitExceeded())
    assert not RetryPolicy(give_up_on=TimeLimitExceeded).should_retry(TimeLimitExceeded())


def test_what_the_function_or_an_operator_says_comes_first() -> None:
    assert RetryPolicy(retry_on=()).should_retry(Retry())
    assert not RetryPolicy().should_retry(Cancel())
    assert not RetryPolicy(retry_on=BaseException).should_retry(RunAborted())


def test_an_exit_is_not_retried_by_default() -> None:
    assert not RetryPolicy().should_retry(SystemExit())


@pytest.mark.parametrize(
    ("option", "attempts"), [(True, 17), (False, 1), (0, 1), (1, 2), (5, 6), (29_999, 30_000)]
)
def test_the_option_may_be_a_flag_or_a_number_of_retries(option: Any, attempts: int) -> None:
    assert RetryPolicy.from_option(option) == RetryPolicy(max_attempts=attempts)


def test_the_option_may_be_a_policy() -> None:
    policy = RetryPolicy(max_attempts=3)
    assert RetryPolicy.from_option(policy) is policy


@pytest.mark.parametrize(
    "option", [-1, 30_000, pytest.param(10**5000, id="5001 digits"), 1.5, "3", None, RetryPolicy]
)
def test_any_other_option_is_refused(option: Any) -> None:
    with pytest.raises(InvalidRetryPolicy, match=r"write True, False, a number of retries"):
        RetryPolicy.from_option(option)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_attempts": 0}, "max_attempts=0 is not possible; write a whole number from 1"),
        ({"max_attempts": 32768}, "max_attempts=32768 is not possible"),
        ({"max_attempts": True}, "max_attempts=True"),
        ({"max_attempts": 2.0}, "max_attempts=2.0"),
        ({"initial_interval": "soon"}, "initial_interval='soon' is not a duration; write"),
        ({"max_interval": -1}, "max_interval=-1 is negative"),
        ({"multiplier": 0.5}, "multiplier=0.5 is not possible; write 1 or more"),
        ({"multiplier": math.nan}, "multiplier=nan"),
        ({"multiplier": math.inf}, "multiplier=inf"),
        ({"multiplier": 10**400}, "multiplier is too large"),
        ({"multiplier": "2"}, "multiplier='2'"),
        ({"randomization_factor": 1.1}, "randomization_factor=1.1 .* a number from 0 to 1"),
        ({"randomization_factor": -0.1}, "randomization_factor=-0.1"),
        ({"randomization_factor": True}, "randomization_factor=True"),
        ({"retry_on": "OSError"}, "retry_on='OSError' .* write an exception class or a tuple"),
        ({"retry_on": (OSError, 5)}, "retry_on="),
        ({"give_up_on": int}, "give_up_on=<class 'int'>"),
        ({"give_up_on": [OSError]}, "give_up_on="),
    ],
)
def test_impossible_values_are_refused_with_a_sentence(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRetryPolicy, match=message):
        RetryPolicy(**options)


def test_a_policy_is_a_value() -> None:
    policy = RetryPolicy(max_interval="1h")
    assert policy == RetryPolicy(max_interval=3600)
    assert hash(policy) == hash(RetryPolicy(max_interval=3600))
    assert pickle.loads(pickle.dumps(policy)) == copy.deepcopy(policy) == policy
    assert dataclasses.replace(policy, max_attempts=2).max_interval == timedelta(hours=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.max_attempts = 1  # type: ignore[misc]
