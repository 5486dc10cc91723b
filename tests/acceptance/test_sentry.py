"""What a Sentry receives from real workers: errors with their runs, and check-ins of slots."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from django_defer.clock import DatabaseNow
from django_defer.models import CronDefinition, Run
from django_defer.payloads import encode_call
from tests.acceptance.harness import wait_for_end, wait_until
from tests.receivers import listening
from tests.testapp import defer as functions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.harness import Trees
    from tests.receivers import Received

SECRET = "hunter2-and-more"
WATCHED = "testapp.watched"


@pytest.fixture
def sentry() -> Iterator[Received]:
    with listening() as received:
        yield received


def start(trees: Trees, sentry: Received, **env: str) -> Any:
    return trees(
        "--workers", "1", "--no-scheduler", env={"DEFER_TEST_SENTRY_DSN": sentry.dsn, **env}
    )


def fire() -> Run:
    """Make the run of a slot."""
    definition = CronDefinition.objects.get(function=WATCHED)
    run = Run(
        function_id=WATCHED,
        args=encode_call(WATCHED, (), (), {}),
        definition=definition,
        max_attempts=definition.max_attempts,
        slot=DatabaseNow(),
    )
    run.save()
    return run


def events(sentry: Received, count: int) -> list[dict[str, Any]]:
    """Return so many events, once they are there."""
    wait_until(lambda: len(sentry.items("event")) >= count, what=f"{count} events")
    return sentry.items("event")


def check_ins(sentry: Received, count: int) -> list[dict[str, Any]]:
    """Return so many check-ins, once they are there."""
    wait_until(lambda: len(sentry.items("check_in")) >= count, what=f"{count} check-ins")
    return sentry.items("check_in")


def error_of(event: dict[str, Any]) -> dict[str, Any]:
    error: dict[str, Any] = event["exception"]["values"][-1]
    return error


def test_each_failed_attempt_is_one_event_with_its_run_and_without_what_is_sensitive(
    trees: Trees, sentry: Received
) -> None:
    tree = start(trees, sentry)
    run = functions.fail_with_secret.using(label="user 17")("ada", SECRET)
    wait_for_end(run)
    assert tree.terminate() == 0
    first, last = events(sentry, 2)  # and no third one, of the line that is logged at its failure
    assert [first["level"], last["level"]] == ["warning", "error"]
    assert [error_of(each)["mechanism"]["handled"] for each in (first, last)] == [True, False]
    assert [each["tags"]["defer.attempt"] for each in (first, last)] in ([1, 2], ["1", "2"])
    assert last["transaction"] == "testapp.fail_with_secret"
    assert last["tags"]["defer.function"] == "testapp.fail_with_secret"
    assert last["tags"]["defer.run_id"] == str(run.pk)
    assert last["tags"]["defer.queue"] == "default"
    assert last["contexts"]["run"]["label"] == "user 17"
    assert error_of(last)["type"] == "ConnectionError"
    assert error_of(last)["value"] == "ada refused Bearer ••••••, 23 characters"
    frames = error_of(last)["stacktrace"]["frames"]
    own = next(frame for frame in frames if frame["function"] == "fail_with_secret")
    assert own["vars"] == {"name": "'ada'", "pin": "••••••"}
    assert [frame["function"] for frame in frames if frame.get("vars")] == ["fail_with_secret"]
    assert "Bearer ••••••" in json.dumps(last["breadcrumbs"], ensure_ascii=False)
    for body in sentry.bodies:
        assert SECRET.encode() not in body
        assert SECRET[::-1].encode() not in body


def test_what_a_function_reports_itself_is_not_reported_again_and_carries_its_run(
    trees: Trees, sentry: Received
) -> None:
    tree = start(trees, sentry)
    run = functions.fail_after_reporting()
    wait_for_end(run)
    wait_for_end(functions.say_hello_to_sentry())
    assert tree.terminate() == 0
    error, hello = events(sentry, 2)
    assert error["tags"]["defer.run_id"] == str(run.pk)
    assert error["tags"]["shop"] == "17"
    assert hello["transaction"] == "testapp.say_hello_to_sentry"
    assert "shop" not in hello["tags"]  # each run has a scope of its own


def test_a_function_that_asks_for_another_attempt_is_no_error(
    trees: Trees, sentry: Received
) -> None:
    tree = start(trees, sentry)
    wait_for_end(functions.ask_for_retry(0.05))
    assert tree.terminate() == 0
    assert sentry.items("event") == []


def test_a_slot_is_one_check_in_with_its_schedule(trees: Trees, sentry: Received) -> None:
    tree = start(trees, sentry)
    run = fire()
    assert wait_for_end(run).state == "succeeded"
    wait_for_end(CronDefinition.objects.get(function=WATCHED).run_now())  # which is no slot
    assert tree.terminate() == 0
    begin, end = check_ins(sentry, 2)
    assert [begin["status"], end["status"]] == ["in_progress", "ok"]
    assert {begin["check_in_id"], end["check_in_id"]} == {run.pk.hex}
    assert {begin["monitor_slug"], end["monitor_slug"]} == {"testapp-watched"}
    assert begin["monitor_config"] == {
        "schedule": {"type": "crontab", "value": "0 8 * * 1"},
        "timezone": "Europe/Vienna",
        "checkin_margin": 10,
        "max_runtime": 10,
    }
    assert 0 < end["duration"] < 10


@pytest.mark.parametrize(
    ("trouble", "statuses"),
    [
        ("fail once", ["in_progress", "in_progress", "ok"]),
        ("fail", ["in_progress", "in_progress", "error"]),
        ("cancel", ["in_progress", "ok"]),
    ],
)
def test_a_check_in_goes_on_until_the_run_has_ended_for_good(
    trees: Trees, sentry: Received, trouble: str, statuses: list[str]
) -> None:
    tree = start(trees, sentry, DEFER_TEST_TROUBLE=trouble)
    wait_for_end(fire())
    assert tree.terminate() == 0
    assert [each["status"] for each in check_ins(sentry, len(statuses))] == statuses


def test_a_loss_that_is_made_good_ends_no_check_in(trees: Trees, sentry: Received) -> None:
    tree = start(trees, sentry, DEFER_TEST_TROUBLE="die once")
    assert wait_for_end(fire()).state == "succeeded"
    assert tree.terminate() == 0
    (lost,) = events(sentry, 1)
    assert lost["level"] == "warning"
    statuses = [each["status"] for each in sentry.items("check_in")]
    assert statuses[-2:] == ["in_progress", "ok"]  # what the killed worker had not sent is lost
    assert set(statuses[:-1]) == {"in_progress"}


def test_what_is_lost_for_good_is_an_error_and_its_check_in_ends(
    trees: Trees, sentry: Received
) -> None:
    tree = start(trees, sentry, DEFER_TEST_TROUBLE="die")
    run = fire()
    assert wait_for_end(run).state == "failed"
    assert tree.terminate() == 0
    found = events(sentry, 3)
    assert [each["level"] for each in found] == ["warning", "warning", "error"]
    assert all(each["tags"]["defer.run_id"] == str(run.pk) for each in found)
    assert "lost 3 times" in found[-1]["message"]
    assert found[-1]["transaction"] == WATCHED
    end = check_ins(sentry, 1)[-1]
    assert (end["status"], end["check_in_id"]) == ("error", run.pk.hex)


def test_the_setting_leaves_sentry_to_the_project(trees: Trees, sentry: Received) -> None:
    trees("--workers", "1", defer={"SENTRY": False}, env={"DEFER_TEST_SENTRY_DSN": sentry.dsn})
    wait_for_end(functions.fail())
    (found,) = events(sentry, 1)  # of the log line, by Sentry's own integration
    assert found["logger"] == "django_defer.runs"
    assert "defer.run_id" not in found.get("tags", {})


def test_a_sentry_that_does_not_answer_delays_no_run_and_no_stop(trees: Trees) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:  # takes, and never answers
        port = silent.getsockname()[1]
        tree = trees(
            "--workers",
            "1",
            env={"DEFER_TEST_SENTRY_DSN": f"http://key@127.0.0.1:{port}/1"},
        )
        wait_for_end(functions.fail())  # what is loaded once is loaded
        began = time.monotonic()
        runs = [functions.fail() for _ in range(20)]
        for run in runs:
            assert wait_for_end(run).state == "failed"
        assert time.monotonic() - began < 5
        began = time.monotonic()
        assert tree.terminate() == 0
        assert time.monotonic() - began < 8
