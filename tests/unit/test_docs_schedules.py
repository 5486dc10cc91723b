"""Every date and time that the pages on schedules show is computed again."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from cronsim import CronSim

from django_defer.cron import CronSchedule
from django_defer.cron_fields import ALIASES
from django_defer.exceptions import InvalidCronExpression
from tests.unit.test_cron_properties import deviation_of_cronsim, slots_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = (DOCS / "reference" / "cron.md").read_text()
EXPLANATION = (DOCS / "explanation" / "schedules.md").read_text()
START = datetime(2026, 1, 1, tzinfo=UTC)
KEY = "shop.compute"
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
# When the clocks go forward and back in 2026.
CHANGES = {
    "Europe/Paris": ("2026-03-29T01:00", "2026-10-25T01:00"),
    "America/Santiago": ("2026-09-06T04:00", "2026-04-05T03:00"),
}


def section(page: str, heading: str) -> str:
    """Return what is below a heading of level two."""
    text = page.partition(f"## {heading}\n")[2]
    assert text, f"no section {heading!r}"
    return re.split(r"^## ", text, flags=re.MULTILINE)[0]


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the rows of a section's tables, without their headers."""
    lines = re.findall(r"^\|(.+)\|$", section(page, heading), re.MULTILINE)
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]
    return [row for row, before in zip(cells[2:], cells[1:], strict=False) if row and before]


def code(cell: str) -> str:
    return cell.strip("`")


def dates(moments: Iterable[datetime], with_time: bool = False) -> str:
    """Return "Mon 5 Jan, Tue 6 Jan", with the time or the year where it isn't the obvious."""
    return ", ".join(
        f"{moment:%a} {moment.day} {moment:%b}"
        + (f" {moment.year}" if moment.year != START.year else "")
        + (f" {moment:%H:%M}" if with_time else "")
        for moment in moments
    )


def ours(expression: str) -> list[datetime]:
    schedule, moment, found = CronSchedule(expression, key=KEY), START, list[datetime]()
    while len(found) < 3:
        slot = schedule.next_after(moment)
        assert slot is not None
        moment = slot
        found.append(slot)
    return found


def cronsims(expression: str) -> list[datetime]:
    return list(islice(CronSim(expression, START), 3))


def croniters(expression: str) -> list[datetime]:
    iterator = croniter(expression, START, hash_id=KEY.encode())
    return [iterator.get_next(datetime) for _ in range(3)]


def shown(library: Callable[[str], list[datetime]], expression: str) -> str:
    """Return the next dates as the table has them, "refused" if there are none."""
    try:
        return dates(library(expression), with_time=True)
    except ValueError:
        return "refused"
    except Exception as error:
        assert type(error).__name__ == "CronSimError"
        return "refused"


@pytest.mark.parametrize("row", rows(REFERENCE, "The fields"), ids=lambda row: row[0])
def test_each_example_of_the_dialect_has_its_next_dates(row: list[str]) -> None:
    expression, _, found = row
    assert found == dates(ours(code(expression)), with_time=True)


@pytest.mark.parametrize("row", rows(REFERENCE, "Aliases"), ids=lambda row: row[0])
def test_each_alias_stands_for_what_the_page_says(row: list[str]) -> None:
    assert ALIASES[code(row[0])] == code(row[1])


def test_all_aliases_are_on_the_page() -> None:
    assert {code(row[0]) for row in rows(REFERENCE, "Aliases")} == set(ALIASES)


@pytest.mark.parametrize("row", rows(REFERENCE, "What is refused"), ids=lambda row: row[0])
def test_what_the_page_says_is_refused_is_and_the_replacement_is_not(row: list[str]) -> None:
    refused, _, instead = row
    with pytest.raises(InvalidCronExpression):
        CronSchedule(code(refused))
    for expression in re.findall(r"`([^`@]+ [^`]+)`", instead):
        if not expression.startswith("manage.py"):
            CronSchedule(expression, key=KEY)


@pytest.mark.parametrize("row", rows(REFERENCE, "What is warned about"), ids=lambda row: row[0])
def test_what_the_page_says_is_warned_about_is(row: list[str]) -> None:
    expression, warning, instead = row
    found = CronSchedule(code(expression), "Europe/Paris").warnings(now=START)
    assert [each.code for each in found] == re.findall(r"`(\w+)`", warning)
    for replacement in re.findall(r"`([^`@]+ [^`]+)`", instead):
        assert not CronSchedule(replacement, "Europe/Paris").warnings(now=START)


@pytest.mark.parametrize(
    "row", rows(REFERENCE, "Where other libraries differ"), ids=lambda row: row[0]
)
def test_others_read_an_expression_as_the_page_says(row: list[str]) -> None:
    expression = code(row[0])
    expected = shown(ours, expression)
    assert row[1] == expected
    for cell, library in zip(row[2:], (cronsims, croniters), strict=True):
        assert cell == shown(library, expression).replace(expected, "the same")
    assert row[2:] != ["the same", "the same"]


def test_each_way_in_which_cronsim_leaves_its_rule_is_on_the_page() -> None:
    names = set(re.findall(r'return "(.+)"', inspect.getsource(deviation_of_cronsim)))
    listed = {row[0] for row in rows(REFERENCE, "Where cronsim leaves its own rule")}
    assert len(names) == 2
    assert listed == names | {"it starts in the hour that is repeated"}


@pytest.mark.parametrize(
    "row", rows(REFERENCE, "Where cronsim leaves its own rule"), ids=lambda row: row[1]
)
def test_cronsim_leaves_its_rule_as_the_page_says(row: list[str]) -> None:
    name, expression, zone, after, here, there = row
    tz = ZoneInfo(code(zone))
    start = datetime.strptime(after, "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)
    slot = CronSchedule(code(expression), code(zone)).next_after(start)
    assert slot is not None
    simulated = next(CronSim(code(expression), start.astimezone(tz)))
    assert f"{slot.astimezone(tz):%Y-%m-%d %H:%M%z}" == here
    assert f"{simulated:%Y-%m-%d %H:%M%z}" == there
    assert here != there
    if name.startswith("it starts"):
        assert simulated.astimezone(UTC) < start
    else:
        assert deviation_of_cronsim(code(expression), code(zone), start + MINUTE) == name


NIGHTS = rows(EXPLANATION, "My cron on the night the clock changes")


@pytest.mark.parametrize("row", NIGHTS, ids=lambda row: f"{row[0]} {row[1]}")
def test_the_night_of_the_change_is_as_the_page_says(row: list[str]) -> None:
    expression, zone, *cells = row
    schedule, tz = CronSchedule(code(expression), code(zone)), ZoneInfo(code(zone))
    expected = []
    for change in CHANGES[code(zone)]:
        moment = datetime.fromisoformat(change).replace(tzinfo=UTC)
        slots = slots_of(schedule, moment - HOUR - MINUTE, moment + HOUR + MINUTE)
        expected.append(" ".join(f"{slot.astimezone(tz):%H:%M}" for slot in slots))
        expected.append(" ".join(f"{slot:%H:%M}" for slot in slots))
    assert cells == expected


def test_the_changes_that_the_page_speaks_of_are_real() -> None:
    for zone, (forward, back) in CHANGES.items():
        tz = ZoneInfo(zone)
        for text, ahead in ((forward, HOUR), (back, -HOUR)):
            change = datetime.fromisoformat(text).replace(tzinfo=UTC)
            before, after = ((change + d).astimezone(tz).utcoffset() for d in (-MINUTE, 0 * MINUTE))
            assert before is not None
            assert after == before + ahead


def test_both_ends_of_the_rule_are_in_the_table() -> None:
    assert {code(row[1]) for row in NIGHTS} == set(CHANGES)
    assert {"30 2 * * *", "0 0-23 * * *", "0 * * * *", "*/15 * * * *", "0 0 * * *"} <= {
        code(row[0]) for row in NIGHTS
    }
