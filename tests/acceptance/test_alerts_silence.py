"""The death of the last worker is reported by whoever is left: a system cron, the web process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.test import Client

from django_defer.alerts.conditions import watch
from django_defer.alerts.dispatch import send_due
from django_defer.alerts.gathering import GATHER, schedule_messages
from django_defer.alerts.slots import WATCH
from django_defer.clock import database_now
from django_defer.models import Alert, AlertChannel, Cluster
from django_defer.reports import cluster_reports
from tests.acceptance.harness import (
    LEASE_SECONDS,
    ROOT,
    SHORT_LEASE,
    wait_for_end,
    wait_until,
)
from tests.channels import lines_of
from tests.databases import environment
from tests.runs import DATABASE, defer_settings
from tests.testapp.defer import noop

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.harness import Tree, Trees


SECOND = timedelta(seconds=1)


def alerts_into(path: Path) -> dict[str, Any]:
    """Return settings by which alerts of workers are written into a file."""
    entry = {
        "channel": "tests.channels.FileChannel",
        "name": "file",
        "path": str(path),
        "events": ["no_workers", "run_recovered"],
    }
    return {**SHORT_LEASE, "ALERTS": [entry]}


def defer_alerts(settings: dict[str, Any]) -> str:
    """Do what a system cron does every minute; return what the command printed."""
    done = subprocess.run(
        [sys.executable, "-m", "django", "defer_alerts"],
        cwd=ROOT,
        env={**environment(), "DEFER_TEST_SETTINGS": json.dumps(settings)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def kill_all(tree: Tree) -> None:
    """Kill -9 the supervisor and all its children, and wait until its lease is over."""
    tree.send_to_group(signal.SIGKILL)
    tree.exit_code()

    def is_silent() -> bool:
        return not any(each.is_live for each in cluster_reports(database_now(DATABASE)))

    with defer_settings(**SHORT_LEASE):
        wait_until(is_silent, what="the end of the lease")


def test_the_death_of_the_last_worker_is_told_by_a_cron_and_so_is_its_return(
    trees: Trees, tmp_path: Path
) -> None:
    file = tmp_path / "alerts"
    settings = alerts_into(file)
    tree = trees(defer=settings)
    wait_for_end(noop())
    assert "0 messages sent" in defer_alerts(settings)
    kill_all(tree)
    waiting = noop()
    assert "1 message sent" in defer_alerts(settings)
    [[event, kind, _, title, text]] = lines_of(file)
    assert (event, kind, title) == ("no_workers", "opened", "no workers are alive")
    assert "No run begins." in text
    assert "0 messages sent" in defer_alerts(settings)  # the next minute

    trees(defer=settings)
    wait_for_end(waiting)
    defer_alerts(settings)  # or the new worker itself
    wait_until(lambda: len(lines_of(file)) >= 2, what="the message that it is over")
    assert [line[:3] for line in lines_of(file)] == [
        ["no_workers", "opened", ""],
        ["no_workers", "recovered", ""],
    ]
    assert not Alert.objects.filter(closed_at=None).exists()


def test_the_death_of_the_last_worker_is_told_by_the_web_process_that_is_asked_for_its_health(
    trees: Trees, tmp_path: Path
) -> None:
    file = tmp_path / "alerts"
    settings = alerts_into(file)
    tree = trees(defer=settings)
    kill_all(tree)
    noop()
    with defer_settings(**settings):
        client = Client()
        assert client.get("/defer/health").status_code == 503
        assert [*Alert.objects.values_list("event", flat=True)] == ["no_workers"]
        assert lines_of(file) == []
        Alert.objects.update(next_message_at=database_now(DATABASE))
        _let_the_pause_be_over()
        assert client.get("/defer/health").status_code == 503
        assert [line[:2] for line in lines_of(file)] == [["no_workers", "opened"]]


def _let_the_pause_be_over() -> None:
    assert AlertChannel.objects.filter(name=WATCH).update(not_before=None) == 1


def test_it_is_told_at_the_end_of_the_lease_and_not_before(trees: Trees, tmp_path: Path) -> None:
    """By clocks that are made up: the time itself is not waited for."""
    file = tmp_path / "alerts"
    settings = alerts_into(file)
    tree = trees(defer=settings)
    tree.send_to_group(signal.SIGKILL)
    tree.exit_code()
    waiting = noop()
    end = Cluster.objects.get().beat_at + timedelta(seconds=LEASE_SECONDS)
    with defer_settings(**settings):
        watch(DATABASE, end - SECOND)
        assert not Alert.objects.exists()
        watch(DATABASE, end)
        for _ in range(2):
            later = end + GATHER
            schedule_messages(DATABASE, later)
            send_due(DATABASE, later, 5)
        assert [line[:2] for line in lines_of(file)] == [["no_workers", "opened"]]
        trees(defer={**settings, "ALERTS": []})
        wait_for_end(waiting)
        now = database_now(DATABASE)
        watch(DATABASE, now)
        send_due(DATABASE, now, 5)
        assert [line[:2] for line in lines_of(file)][1:] == [["no_workers", "recovered"]]
