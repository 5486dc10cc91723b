"""What `defer_worker` refuses before it forks anything, and what a drain says at its end."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command

from django_defer import serve
from django_defer.models import BackgroundFunction
from django_defer.registry import Problem, registry
from django_defer.serve import left_for_later
from django_defer.states import State
from tests import runs
from tests.runs import DATABASE, new_run
from tests.scratch import installed_app, own_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = runs.in_transaction

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Idle:
    """A supervisor that has nothing to do and forks nobody."""

    started = 0
    stop_requests = 0

    def __init__(self, options: object) -> None:
        pass

    def run(self) -> None:
        Idle.started += 1


@pytest.fixture(autouse=True)
def _nobody_is_forked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Idle, "started", 0)
    monkeypatch.setattr(serve, "Supervisor", Idle)
    logger = logging.getLogger("django_defer")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


def defer_worker(*arguments: str) -> str:
    """Run the command, without Django's system checks; return what it printed."""
    out = StringIO()
    call_command("defer_worker", *arguments, stdout=out, stderr=out)
    return out.getvalue()


# -- code that is broken ---------------------------------------------------------------------------


def test_a_module_that_cannot_be_imported_keeps_it_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"defer.py": "from nowhere import nothing\n"}
    with (
        installed_app(tmp_path, files, monkeypatch),
        pytest.raises(CommandError, match=r"shop\.defer: ModuleNotFoundError: No module named"),
    ):
        defer_worker()
    assert not Idle.started
    assert not BackgroundFunction.objects.exists()  # nor has it synced what is left of the code


def test_every_broken_module_is_named_with_its_error() -> None:
    with own_registry():
        registry.problems += [
            Problem("shop.defer", SyntaxError("invalid syntax", ("shop/defer.py", 3, 1, "def"))),
            Problem("mail.defer", ValueError("no luck")),
        ]
        with pytest.raises(CommandError) as caught:
            defer_worker("--no-sync")
    assert "shop.defer: SyntaxError: invalid syntax (defer.py, line 3)" in str(caught.value)
    assert "mail.defer: ValueError: no luck" in str(caught.value)
    assert not Idle.started


# -- the end of a drain ----------------------------------------------------------------------------


def test_a_drain_that_leaves_nothing_says_so() -> None:
    assert defer_worker("--drain") == "Nothing left to do now.\n"
    assert Idle.started == 1


def test_a_worker_that_does_not_drain_says_nothing_at_its_end() -> None:
    new_run(state=State.SCHEDULED)
    assert defer_worker() == ""
    assert Idle.started == 1


@pytest.mark.parametrize(
    ("left", "sentence"),
    [
        ([State.SCHEDULED], "1 run waits, next at 2030-01-01 12:00:00 UTC."),
        ([State.SCHEDULED] * 2, "2 runs wait, next at 2030-01-01 12:00:00 UTC."),
        ([State.PARKED], "1 parked."),
        ([State.QUEUED] * 2, "2 queued for other workers."),
        (
            [State.SCHEDULED, State.PARKED, State.QUEUED],
            "1 run waits, next at 2030-01-01 12:00:00 UTC; 1 parked; 1 queued for other workers.",
        ),
        ([State.RUNNING, State.CLAIMED, State.SUCCEEDED], ""),
    ],
)
def test_a_drain_says_what_is_left_for_later(left: list[State], sentence: str) -> None:
    for number, state in enumerate(left):
        columns: dict[str, Any] = {}
        if state == State.SCHEDULED:
            columns["run_after"] = NOON.replace(year=NOON.year + number)
        new_run(state=state, **columns)
    expected = f"Nothing left to do now: {sentence}" if sentence else "Nothing left to do now."
    assert left_for_later(DATABASE) == expected
