"""Every date and time that the pages on schedules show is computed again."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from django_defer.cron import CronSchedule
from django_defer.cron_fields import ALIASES
from django_defer.exceptions import InvalidCronExpression
from tests.unit.test_cron_properties import deviation_of_cronsim, slots_of

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = (DOCS / "reference" / "cron.md").read_text()
EXPLANATION = (DOCS / "explanation" / "schedules.md").read_text()
START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
KEY = "shop.compute"


def section(page: str, heading: str) -> str:
    """Return what is below a heading of level two."""
    text = page.partition(f"## {heading}\n")[2]
    assert text, f"no section {heading!r}"
    return re.split(r"^## ", text, flags=re.MULTILINE)[0]


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of a section's table, without its header and without backticks."""
    lines = re.findall(r"^\| (.+) \|$", section(page, heading), re.MULTILINE)
    return [[cell.strip().strip("`") for cell in line.split("|")] for line in lines[2:]]


DIALECT = rows(REFERENCE, "What it can say")
REFUSED = rows(REFERENCE, "What is refused")
WARNED = rows(REFERENCE, "What is warned about")
NIGHTS = rows(EXPLANATION, "My cron on the night the clock changes")


@pytest.mark.parametrize(("expression", "words", "due"), DIALECT)
def test_an_expression_of_the_dialect_is_due_as_the_page_says(
    expression: str, words: str, due: str
) -> None:
    schedule = CronSchedule(expression, key=KEY)
    slots = slots_of(schedule, START - SECOND, START + timedelta(days=150))[:3]
    assert due == ", ".join(f"{slot:%a %Y-%m-%d %H:%M}" for slot in slots)
    assert words == schedule.describe()


def test_all_aliases_are_on_the_page() -> None:
    assert set(ALIASES) <= set(re.findall(r"`(@\w+)`", section(REFERENCE, "What it can say")))


@pytest.mark.parametrize("expression", [row[0] for row in REFUSED])
def test_what_the_page_says_is_refused_is(expression: str) -> None:
    with pytest.raises(InvalidCronExpression):
        CronSchedule(expression)


@pytest.mark.parametrize(("expression", "zone", "code"), [row[:3] for row in WARNED])
def test_what_the_page_says_is_warned_about_is(expression: str, zone: str, code: str) -> None:
    found = CronSchedule(expression, zone).warnings(now=START)
    assert [warning.code for warning in found] == [code]


def test_each_deviation_from_cronsim_is_on_the_page() -> None:
    names = re.findall(r'return "(.+)"', inspect.getsource(deviation_of_cronsim))
    listed = re.findall(r"^- (it .+)", section(REFERENCE, "Where it differs from others"), re.M)
    assert names
    assert len(listed) == len(names)
    for name, line in zip(names, listed, strict=True):
        assert line.startswith(name)


@pytest.mark.parametrize(("expression", "zone", "start", "local", "utc", "_"), NIGHTS)
def test_the_night_of_the_change_is_as_the_page_says(
    expression: str, zone: str, start: str, local: str, utc: str, _: str
) -> None:
    tz = ZoneInfo(zone)
    begin = datetime.fromisoformat(start).replace(tzinfo=tz).astimezone(UTC)
    end = begin + timedelta(hours=5)
    slots = slots_of(CronSchedule(expression, zone), begin - SECOND, end)
    assert local == (", ".join(f"{slot.astimezone(tz):%H:%M}" for slot in slots) or "never")
    assert utc == (", ".join(f"{slot:%H:%M}" for slot in slots) or "never")
    if zone != "UTC":
        assert begin.astimezone(tz).utcoffset() != end.astimezone(tz).utcoffset()


def test_the_nights_show_both_kinds_of_schedule() -> None:
    expressions = {row[0] for row in NIGHTS}
    assert {"30 2 * * *", "0 0-23 * * *", "0 * * * *", "0 0 * * *"} <= expressions
