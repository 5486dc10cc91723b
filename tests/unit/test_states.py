"""The table of states and moves: complete, closed, and as the words describe it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import django_defer
from django_defer import attempts, claims
from django_defer.states import (
    ACTIVE,
    FINISHED,
    MOVES,
    UNFINISHED,
    WAITING,
    Outcome,
    Reason,
    State,
    is_allowed,
)

PACKAGE = Path(django_defer.__file__).parent


def test_every_state_has_its_moves() -> None:
    assert set(MOVES) == set(State)


def test_a_state_is_waiting_or_active_or_finished_and_only_one_of_these() -> None:
    groups = (WAITING, ACTIVE, FINISHED)
    assert sorted(state for group in groups for state in group) == sorted(State)
    assert UNFINISHED == WAITING | ACTIVE


def test_nothing_leaves_a_finished_state() -> None:
    assert not any(MOVES[state] for state in FINISHED)


def test_every_unfinished_state_leads_to_an_end() -> None:
    for state in UNFINISHED:
        assert MOVES[state] & FINISHED


def test_every_state_but_skipped_can_be_reached() -> None:
    reached = {new for moves in MOVES.values() for new in moves}
    assert reached == set(State) - {State.SKIPPED}  # a skipped slot is inserted as such


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (State.SCHEDULED, State.RUNNING),
        (State.QUEUED, State.RUNNING),  # only what was claimed may start
        (State.PARKED, State.CLAIMED),
        (State.RUNNING, State.QUEUED),  # what was lost waits a moment first
        (State.RUNNING, State.CLAIMED),
        (State.RUNNING, State.DISCARDED),
    ],
)
def test_no_step_can_be_left_out(old: State, new: State) -> None:
    assert not is_allowed(old, new)


@pytest.mark.parametrize("new", [State.SUCCEEDED, State.FAILED, State.CANCELLED, State.SCHEDULED])
def test_an_end_is_accepted_although_the_start_was_forgotten(new: State) -> None:
    assert is_allowed(State.CLAIMED, new)


@pytest.mark.parametrize("choices", [State, Outcome, Reason])
def test_every_word_has_a_label_and_fits_its_column(
    choices: type[State] | type[Outcome] | type[Reason],
) -> None:
    for word in choices:
        assert word.label
        assert len(word.value) <= (500 if choices is Reason else 12)


def handwritten() -> list[str]:
    """Return the SQL that moves runs, wherever in the package it is written."""
    return [
        node.value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.search(r"\bSET state\b", node.value)
    ]


def states_in(sql: str, clause: str) -> list[State]:
    """Return the states that a statement names in a comparison after `clause`."""
    found = re.findall(rf"\b{clause}\b[^;]*?\bstate (?:= ('\w+')|IN \(([^)]+)\))", sql)
    return [State(word) for match in found for word in re.findall(r"'(\w+)'", "".join(match))]


def test_statements_written_by_hand_move_as_the_table_allows() -> None:
    statements = handwritten()
    assert set(statements) == {
        attempts._START,
        attempts._SUCCEED,
        claims._POSTGRESQL,
        claims._SQLITE,
    }
    for sql in statements:
        old, (new,) = states_in(sql, "WHERE"), states_in(sql, "SET")
        assert old, f"this moves runs out of any state:\n{sql}"
        for state in old:
            # A start is repeated when the answer to it was lost.
            assert new == state or is_allowed(state, new), f"{state} to {new}:\n{sql}"
