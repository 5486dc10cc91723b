"""Parsing of fields: what is parsed once, and for whom."""

from __future__ import annotations

import time
from typing import Any

import pytest

from django_defer.cron import CronSchedule
from django_defer.cron_fields import _expand_group, parse_fields
from django_defer.exceptions import InvalidCronExpression


def misses_of(cached: Any, expression: str) -> int:
    """Return how often a cached function is called for fifty functions with one expression."""
    parse_fields.cache_clear()
    _expand_group.cache_clear()
    for number in range(50):
        CronSchedule(expression, "Europe/Paris", key=f"shop.function_{number}")
    misses: int = cached.cache_info().misses
    return misses


def test_an_expression_without_h_is_parsed_once_for_all_keys() -> None:
    assert misses_of(parse_fields, "0 8 * * MON") == 1


def test_fields_without_h_are_parsed_once_for_all_keys() -> None:
    assert misses_of(_expand_group, "H 8 * * MON") == 50 + 4


@pytest.mark.parametrize("cached", [parse_fields, _expand_group])
def test_the_caches_are_bounded(cached: Any) -> None:
    assert cached.cache_parameters()["maxsize"] == 4096


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 */31 2 MON#5"])
def test_what_never_fires_is_found_out_at_once(expression: str) -> None:
    begin = time.perf_counter()
    with pytest.raises(InvalidCronExpression, match="never fires"):
        CronSchedule(expression)
    assert time.perf_counter() - begin < 0.05


@pytest.mark.parametrize("value", [["0", "8", "*", "*", "*"], {}, 5])
def test_what_cannot_be_a_key_of_the_cache_is_refused_with_a_sentence(value: Any) -> None:
    with pytest.raises(InvalidCronExpression, match="write a string of five fields"):
        CronSchedule(value)


@pytest.mark.parametrize(
    ("expression", "interval"),
    [("*/40 * * * *", "40m"), ("H/7 * * * *", "7m"), ("0 */5 * * *", "5h"), ("0 0 */2 * *", None)],
)
def test_an_uneven_step_of_the_clock_could_be_an_interval(
    expression: str, interval: str | None
) -> None:
    (warning,) = CronSchedule(expression).warnings()
    advice = f'or use an even interval with @defer.every("{interval}").'
    assert warning.message.endswith(advice) is bool(interval)
    assert ("defer.every" in warning.message) is bool(interval)
