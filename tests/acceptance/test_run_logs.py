"""Log lines and progress of real workers: live, after a kill, in a flood, and never mixed up."""

from __future__ import annotations

import itertools
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from django_defer.models import Cluster, LogLine, Progress, Run
from django_defer.run_logs import HEAD_LINES
from django_defer.states import State
from tests.acceptance.harness import (
    Trees,
    outcomes,
    wait_for_end,
    wait_for_state,
    wait_until,
)
from tests.testapp import defer as functions

if TYPE_CHECKING:
    from pathlib import Path

SOON = 10.0  # seconds; it is about two on a machine that has nothing else to do


def said(run: Run) -> list[str]:
    return list(LogLine.objects.filter(run=run.pk).values_list("message", flat=True))


def wait_for_lines(run: Run, *messages: str, timeout: float = SOON) -> None:
    try:
        wait_until(lambda: said(run) == list(messages), timeout, what="the log lines")
    except AssertionError as error:
        raise AssertionError(f"{error}: {said(run)}") from None


def progress_of(run: Run) -> Any:
    return Progress.objects.filter(pk=run.pk).values_list("done", "total", "message").first()


def test_lines_and_progress_are_there_while_the_function_runs(trees: Trees, tmp_path: Path) -> None:
    trees("--workers", "1")
    go = tmp_path / "go"
    run = functions.talk("hello", lines=2, until_file=str(go), progress=120)
    wait_for_lines(run, "hello 1", "hello 2")
    wait_until(lambda: progress_of(run) == (120, 300, "hello"), SOON, what="the progress")
    run.refresh_from_db()
    assert run.state == State.RUNNING
    go.touch()
    wait_for_end(run)
    assert progress_of(run) == (120, 300, "hello")


def test_progress_goes_on_while_the_function_hangs_at_an_item(trees: Trees, tmp_path: Path) -> None:
    trees("--workers", "1")
    go = tmp_path / "go"
    run = functions.track_items(100_000, until_file=str(go))
    wait_until(lambda: progress_of(run) == (100_000, 100_000, "counting"), SOON, what="progress")
    assert Run.objects.get(pk=run.pk).state == State.RUNNING
    go.touch()
    wait_for_end(run)


@pytest.mark.postgres
def test_lines_are_there_while_the_function_sits_in_its_own_transaction(
    trees: Trees, tmp_path: Path
) -> None:
    trees("--workers", "1")
    go = tmp_path / "go"
    run = functions.talk_atomically("hello", str(go))
    wait_for_lines(run, "hello written")
    wait_until(lambda: progress_of(run) == (1, 2, "hello"), SOON, what="the progress")
    assert Run.objects.get(pk=run.pk).state == State.RUNNING
    go.touch()
    wait_for_end(run)
    wait_for_lines(run, "hello written", "hello committing")


@pytest.mark.sqlite
def test_lines_are_there_once_the_function_lets_go_of_the_one_write_lock(
    trees: Trees, tmp_path: Path
) -> None:
    tree = trees("--workers", "2")
    go = tmp_path / "go"
    other = functions.talk("before")
    wait_for_end(other)
    run = functions.talk_atomically("hello", str(go))
    wait_for_state(run, State.RUNNING)
    time.sleep(2.5)  # longer than it takes to try writing: nothing blocks, nothing is lost
    go.touch()
    assert wait_for_end(run).state == State.SUCCEEDED
    wait_for_lines(run, "hello written", "hello committing")
    assert progress_of(run) == (1, 2, "hello")
    assert said(other) == ["before 1"]
    assert tree.said("declared_dead") == 0


def test_lines_of_a_worker_that_is_killed_are_there(trees: Trees, tmp_path: Path) -> None:
    tree = trees("--workers", "1", defer={"LOG_PRINTS": True})
    go = tmp_path / "go"
    run = functions.talk("last words", lines=3, until_file=str(go), progress=7)
    wait_for_state(run, State.RUNNING)
    wait_until(lambda: tree.said("printed last words"), what="the function's print")
    tree.kill(tree.pid_of(run))  # its lines may be in its spool alone
    go.touch()
    wait_for_end(run)
    assert outcomes(run) == ["lost", "succeeded"]
    expected = [
        *((1, f"last words {n}") for n in (1, 2, 3)),
        (1, "printed last words"),
        *((2, f"last words {n}") for n in (1, 2, 3)),
        (2, "printed last words"),
    ]
    lines = LogLine.objects.filter(run=run.pk).values_list("attempt", "message")
    wait_until(lambda: list(lines.all()) == expected, SOON, what="the lines of both attempts")


def test_lines_of_a_function_that_is_killed_at_the_end_of_the_grace_are_there(
    trees: Trees, tmp_path: Path
) -> None:
    tree = trees("--workers", "1", defer={"SHUTDOWN_GRACE": "0.2s"})
    run = functions.talk("hello", until_file=str(tmp_path / "never"))
    wait_for_state(run, State.RUNNING)
    tree.send(signal.SIGTERM)
    assert tree.exit_code() == 0
    assert said(run) == ["hello 1"]


@pytest.mark.parametrize("how", ["drained", "stopped"])
def test_the_last_words_are_there_when_the_cluster_has_gone(
    trees: Trees, tmp_path: Path, how: str
) -> None:
    go = tmp_path / "go"
    run = functions.talk("hello", until_file=str(go), progress=9, last="goodbye")
    tree = trees("--workers", "1", *(["--drain"] if how == "drained" else []))
    wait_for_lines(run, "hello 1")  # the next write would be in two seconds
    if how == "stopped":
        tree.send(signal.SIGTERM)
    go.touch()
    assert tree.exit_code() == 0
    assert said(run) == ["hello 1", "goodbye"]
    assert progress_of(run) == (9, 300, "hello")


def test_what_is_printed_is_kept_if_asked_for_and_still_printed(trees: Trees) -> None:
    tree = trees("--workers", "1", defer={"LOG_PRINTS": True, "LOG_LEVEL": None})
    run = functions.talk("hello")
    wait_for_end(run)
    wait_for_lines(run, "printed hello")
    assert tree.said("printed hello") == 1


def test_lines_of_two_workers_are_not_mixed_up_and_none_is_lost(trees: Trees) -> None:
    runs = {f"run-{n}": functions.talk(f"run-{n}", lines=n % 7) for n in range(60)}
    trees("--workers", "2")
    for run in runs.values():
        wait_for_end(run)
    expected = {
        (run.pk, m, f"{name} {m}")
        for n, (name, run) in enumerate(runs.items())
        for m in range(1, n % 7 + 1)
    }

    def found() -> set[Any]:
        return set(LogLine.objects.values_list("run", "number", "message"))

    wait_until(lambda: found() == expected, SOON, what="the lines of all runs")


def test_a_flood_is_cut_and_does_not_slow_the_heart_of_the_supervisor(
    trees: Trees, tmp_path: Path
) -> None:
    trees("--workers", "1", defer={"BEAT_INTERVAL": "0.5s"})
    go = tmp_path / "go"
    lines = 100_000
    run = functions.flood(lines, str(go))
    beats: set[Any] = set()
    last = LogLine.objects.filter(run=run.pk, message=f"line {lines}")

    def is_over() -> bool:
        beats.update(Cluster.objects.values_list("beat_at", flat=True))
        return last.exists()

    wait_until(is_over, 60, what="the last line")
    numbers = list(LogLine.objects.filter(run=run.pk).values_list("number", flat=True))
    go.touch()
    took = wait_for_end(run).result
    assert numbers == [*range(1, HEAD_LINES + 1), *range(lines - 499, lines + 1)]
    in_order = sorted(beats)
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(in_order)]
    print(f"100,000 lines in {took:.2f} s; longest time between two beats: {max(gaps):.2f} s")
    assert max(gaps) < 3
