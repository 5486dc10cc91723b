"""`--drain`, `--queue`, and runs for which no live worker has the code."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from django_defer.models import Cluster, Queue, Run
from tests.acceptance.harness import (
    ROOT,
    enqueue_unknown,
    outcomes,
    state_of,
    wait_for_end,
    wait_for_state,
)
from tests.testapp import defer as functions

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.harness import Trees


def test_a_drain_does_what_can_be_done_now_and_says_what_waits(trees: Trees) -> None:
    runs = [functions.leave_effect(f"{number}") for number in range(10)]
    runs += [functions.noop.using(queue="of no function")() for _ in range(30)]
    parent = functions.fan_out(3)
    later = functions.noop.using(delay="1h")()
    unknown = enqueue_unknown("elsewhere.unknown")
    tree = trees("--drain", ready=False, verbosity=1)
    assert tree.exit_code() == 0
    for run in (*runs, parent, *Run.objects.children_of(parent.pk)):
        assert state_of(run) == "succeeded"
    assert Run.objects.children_of(parent.pk).count() == 3
    assert (state_of(later), state_of(unknown)) == ("scheduled", "parked")
    assert f"next at {later.run_after:%Y-%m-%d %H:%M:%S} UTC" in tree.log
    assert "1 parked" in tree.log
    assert not Cluster.objects.exists()


def test_a_drain_waits_for_its_running_functions_only(trees: Trees) -> None:
    run = functions.sleep(1)
    failing = functions.always_fail_for_now()
    tree = trees("--drain", ready=False)
    assert tree.exit_code() == 0
    assert state_of(run) == "succeeded"
    assert state_of(failing) == "scheduled"  # its retry is later
    assert outcomes(failing) == ["retried"]


def test_a_drain_ends_although_a_queue_is_paused(trees: Trees) -> None:
    functions.noop.using(queue="stopped")()
    Queue.objects.create(name="stopped", paused_at="2026-01-01T00:00:00Z")
    tree = trees("--drain", ready=False)
    assert tree.exit_code() == 0
    assert Run.objects.count_by_state() == {"queued": 1}


def test_a_cluster_serves_the_queues_it_was_told_to_and_no_others(trees: Trees) -> None:
    trees("--queue", "mail", "--queue", "reports", "--workers", "1")
    other = functions.noop.using(queue="slow")()
    plain = functions.noop()
    for queue in ("mail", "reports"):
        assert wait_for_end(functions.noop.using(queue=queue)()).state == "succeeded"
    assert (state_of(other), state_of(plain)) == ("queued", "queued")
    trees("--workers", "1")
    assert wait_for_end(other).state == wait_for_end(plain).state == "succeeded"


@pytest.fixture
def newer_code(tmp_path: Path) -> dict[str, str]:
    """The environment of a worker whose code has one more app, with one more function."""
    app = tmp_path / "newer"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "defer.py").write_text(
        textwrap.dedent(
            """
            from django_defer import defer

            @defer
            def greet():
                return "from newer code"
            """
        )
    )
    (tmp_path / "newer_settings.py").write_text(
        'from tests.settings import *\nINSTALLED_APPS += ["newer"]\n'
    )
    return {"PYTHONPATH": f"{tmp_path}:{ROOT}", "DJANGO_SETTINGS_MODULE": "newer_settings"}


def test_a_run_that_no_live_code_knows_is_parked_blocks_nobody_and_runs_once_the_code_is_there(
    trees: Trees, newer_code: dict[str, str]
) -> None:
    trees("--workers", "1", defer={"BEAT_INTERVAL": "0.5s"})
    unknown = [enqueue_unknown("newer.greet", priority=50) for _ in range(3)]
    assert wait_for_end(functions.add(1)).state == "succeeded"
    for run in unknown:
        wait_for_state(run, "parked")
        assert run.reason == "no_code"
    trees("--workers", "1", defer={"BEAT_INTERVAL": "0.5s"}, env=newer_code)
    for run in unknown:
        assert wait_for_end(run).result == "from newer code"
        assert (run.attempt, run.reason) == (1, "")
