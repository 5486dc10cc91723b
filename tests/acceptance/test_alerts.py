"""A failure is told by real processes, whatever becomes of them or of the channel."""

from __future__ import annotations

import re
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from django_defer.models import AlertDelivery, AlertEvent, Cluster
from tests.acceptance.harness import PATIENCE, state_of, wait_for_end, wait_for_state, wait_until
from tests.alerts import FILE
from tests.testapp import defer as functions
from tests.worker_processes import is_alive

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.harness import Tree, Trees

LOG = {"ALERTS": [{"channel": "log"}]}
SOON = 30  # seconds: a first message waits for 10 s


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the file that the channel of `told_in` writes to."""
    return tmp_path / "sent"


def told_in(file: Path, how: str = "") -> dict[str, Any]:
    return {"ALERTS": [{"channel": FILE, "name": "file", "path": str(file), "how": how}]}


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def alerters(tree: Tree) -> list[int]:
    return [int(pid) for pid in re.findall(r"alerter\.started pid=(\d+)", tree.log)]


def test_a_failure_is_told_within_seconds(trees: Trees) -> None:
    tree = trees("--workers", "1", defer=LOG)
    run = functions.fail()
    wait_for_state(run, "failed")
    tree.wait_for_log("alert.run_failed testapp.fail failed", SOON)
    wait_until(lambda: AlertDelivery.objects.exclude(sent_at=None).exists(), what="the answer")
    assert AlertDelivery.objects.get().answer == "logged"
    assert tree.terminate() == 0


def test_without_channels_nothing_is_forked(trees: Trees) -> None:
    tree = trees("--workers", "1")
    wait_for_state(functions.fail(), "failed")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 5, what="five seconds")
    assert not alerters(tree)
    assert not AlertEvent.objects.exists()
    assert len(tree.children) == 2  # the worker and the pusher


def test_a_channel_that_hangs_delays_no_run_and_no_stop(trees: Trees, file: Path) -> None:
    tree = trees("--workers", "1", defer=told_in(file, "hang"))
    wait_for_state(functions.fail(), "failed")
    wait_until(lambda: AlertDelivery.objects.filter(attempts=1).exists(), SOON, what="the sending")
    for _ in range(5):
        assert wait_for_end(functions.noop(), 3).state == "succeeded"
    (child,) = [pid for pid in alerters(tree) if is_alive(pid)]
    began = time.monotonic()
    assert tree.terminate() == 0
    assert time.monotonic() - began < 10
    assert not is_alive(child)
    assert AlertDelivery.objects.filter(sent_at=None, given_up_at=None).count() == 1


def test_the_child_ends_with_its_supervisor(trees: Trees, file: Path) -> None:
    tree = trees("--workers", "1", defer=told_in(file, "hang"))
    wait_for_state(functions.fail(), "failed")
    wait_until(lambda: AlertDelivery.objects.filter(attempts=1).exists(), SOON, what="the sending")
    children = [pid for pid in alerters(tree) if is_alive(pid)]
    assert len(children) == 1
    tree.kill(tree.pid)
    wait_until(lambda: not any(map(is_alive, children)), 2, what="the child's end")


def test_what_nobody_was_told_when_all_were_killed_is_told_by_the_next(
    trees: Trees, file: Path
) -> None:
    tree = trees("--workers", "1", defer=told_in(file))
    wait_for_state(functions.fail(), "failed")
    tree.destroy()
    assert not lines(file)
    trees("--workers", "1", defer=told_in(file))
    wait_until(lambda: lines(file), SOON, what="the message")
    assert [line.split(" ", 1)[1] for line in lines(file)] == ["opened testapp.fail failed"]


def test_a_child_that_is_killed_after_sending_is_no_end_of_it(trees: Trees, file: Path) -> None:
    tree = trees("--workers", "1", defer=told_in(file, "die"))
    wait_for_state(functions.fail(), "failed")
    wait_until(lambda: lines(file), SOON, what="the message")
    wait_until(lambda: not any(map(is_alive, alerters(tree))), what="the child's death")
    AlertDelivery.objects.update(due_at="2026-01-01T00:00:00Z")  # the lease is over
    wait_until(lambda: len(lines(file)) == 2, SOON, what="the repetition")
    first, second = lines(file)
    assert first == second
    wait_until(lambda: AlertDelivery.objects.exclude(sent_at=None).exists(), what="the answer")
    assert tree.process.poll() is None


def test_a_drain_tells_before_it_ends(trees: Trees, file: Path) -> None:
    functions.fail()
    tree = trees("--drain", "--workers", "1", ready=False, defer=told_in(file))
    assert tree.exit_code() == 0
    assert [line.split(" ", 1)[1] for line in lines(file)] == ["opened testapp.fail failed"]


def test_of_two_clusters_each_failure_is_told_by_one(trees: Trees, file: Path) -> None:
    two = [trees("--workers", "1", defer=told_in(file)) for _ in range(2)]
    run = functions.fail()
    wait_for_state(run, "failed")
    wait_until(lambda: lines(file), SOON, what="the message")
    assert len(lines(file)) == 1
    assert [len(alerters(tree)) > 0 for tree in two] == [True, False]  # the oldest does it
    two[0].send(signal.SIGKILL)
    wait_for_state(functions.fail(), "failed")
    wait_until(lambda: alerters(two[1]), PATIENCE + 30, what="the other one's turn")


def test_a_scheduler_without_workers_tells_too(trees: Trees, file: Path) -> None:
    run = functions.fail()
    assert state_of(run) == "queued"
    AlertEvent.objects.create(event="run_failed", subject="testapp.fail")
    tree = trees(command="defer_scheduler", ready=False, defer=told_in(file))
    wait_until(lambda: lines(file), SOON, what="the message")
    assert not Cluster.objects.exists()
    assert tree.terminate() == 0
