"""Docs and code agree: what the reference lists is what exists, no more and no less."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import django_defer
from django_defer import exceptions
from django_defer.conf import DEFAULTS
from django_defer.states import MOVES, Outcome, Reason, State

PACKAGE = Path(django_defer.__file__).parent
DOCS = PACKAGE.parent / "docs"
REFERENCE = DOCS / "reference"


def first_cells(page: str, heading: str = "") -> list[str]:
    """Return what the first cells of a page's tables hold in backticks, below `heading`."""
    text = (REFERENCE / page).read_text()
    if heading:
        text = re.split(r"^## ", text.partition(f"## {heading}\n")[2], flags=re.MULTILINE)[0]
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def check_ids() -> set[str]:
    """Return the ids of all system checks."""
    source = "".join(path.read_text() for path in (PACKAGE / "checks").glob("*.py"))
    return set(re.findall(r"defer\.[EWI]\d{3}", source))


def commands() -> list[str]:
    """Return the names of all management commands."""
    files = (PACKAGE / "management" / "commands").glob("[!_]*.py")
    return sorted(path.stem for path in files)


def test_every_check_has_its_line_and_every_line_its_check() -> None:
    assert sorted(first_cells("checks.md")) == sorted(check_ids())


def test_every_setting_has_its_line_and_every_line_its_setting() -> None:
    assert sorted(first_cells("settings.md")) == sorted(DEFAULTS)


def test_the_command_page_has_a_section_for_each_command() -> None:
    sections = re.findall(r"^## `(\w+)", (REFERENCE / "commands.md").read_text(), re.MULTILINE)
    assert sorted(sections) == commands()


@pytest.mark.parametrize("command", commands())
def test_every_option_of_a_command_is_on_its_page(command: str) -> None:
    text = (REFERENCE / "commands.md").read_text()
    section = re.split(r"^## ", text.partition(f"## `{command}")[2], flags=re.MULTILINE)[0]
    source = (PACKAGE / "management" / "commands" / f"{command}.py").read_text()
    options = set(re.findall(r"""add_argument\(\s*["'](--[a-z-]+)["']""", source))
    assert options <= set(re.findall(r"--[a-z-]+", section)), f"{command} in commands.md"


def test_every_state_outcome_and_reason_has_its_line() -> None:
    assert first_cells("states.md", "States") == list(State)
    assert first_cells("states.md", "Outcomes of an attempt") == list(Outcome)
    assert first_cells("states.md", "Reasons") == list(Reason)


def test_the_table_of_moves_is_the_one_that_transitions_obeys() -> None:
    text = (REFERENCE / "states.md").read_text().partition("## Moves\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE)
    documented = {state: set(re.findall(r"`(\w+)`", targets)) for state, targets in rows}
    assert documented == {str(old): {str(new) for new in news} for old, news in MOVES.items()}


def errors() -> set[str]:
    """Return the names of all errors."""
    return {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and value.__module__ == exceptions.__name__
    }


def test_every_error_a_user_can_meet_can_be_imported_from_the_package() -> None:
    assert errors() <= set(django_defer.__all__)


def test_every_error_a_user_can_meet_is_in_the_reference() -> None:
    assert errors() <= set(re.findall(r"\w+", (REFERENCE / "api.md").read_text()))


def test_everything_public_is_in_the_reference() -> None:
    names = set(django_defer.__all__)
    assert names <= set(re.findall(r"\w+", (REFERENCE / "api.md").read_text()))
