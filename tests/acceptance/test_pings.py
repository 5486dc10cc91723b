"""A dead man's switch and real workers: it is told, and its own death delays nothing."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from django_defer.models import CronDefinition, Ping, Run
from tests.acceptance.harness import outcomes, wait_for_end, wait_until
from tests.receivers import listening

if TYPE_CHECKING:
    from tests.acceptance.harness import Trees

WATCHED = "testapp.watched"


def run_watched() -> Run:
    return CronDefinition.objects.get(function=WATCHED).run_now()


@pytest.mark.parametrize(
    ("trouble", "end", "tried"),
    [
        ("", "", []),
        ("fail once", "", ["retried", "succeeded"]),
        ("fail", "/fail", ["retried", "failed"]),
        ("die once", "", ["lost", "succeeded"]),
        ("die", "/fail", ["lost", "lost", "lost"]),
    ],
)
def test_it_is_told_of_the_start_and_of_the_end_for_good(
    trees: Trees, trouble: str, end: str, tried: list[str]
) -> None:
    with listening() as switch:
        env = {"DEFER_TEST_PING_URL": f"{switch.url}/abc", "DEFER_TEST_TROUBLE": trouble}
        trees("--workers", "1", "--no-scheduler", env=env)
        run = run_watched()
        wait_for_end(run)
        wait_until(lambda: not Ping.objects.exists(), what="the pings' end")
        assert switch.paths == [
            f"/abc/start?rid={run.pk}",
            f"/abc{end}?rid={run.pk}",
        ]
    assert outcomes(run) == (tried or ["succeeded"])


def test_one_that_never_answers_delays_nothing(trees: Trees) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/abc"
        tree = trees("--workers", "1", "--no-scheduler", env={"DEFER_TEST_PING_URL": url})
        wait_for_end(run_watched())
        began = time.monotonic()
        for run in [run_watched() for _ in range(10)]:
            assert wait_for_end(run).state == "succeeded"
        assert time.monotonic() - began < 5
        assert Ping.objects.filter(function=WATCHED).count() == 22
        assert tree.terminate() == 0
