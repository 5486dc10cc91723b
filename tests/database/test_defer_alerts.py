"""`defer_alerts`: one pass for a system cron, a test message, and how the channels are doing."""

from __future__ import annotations

import logging
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from django_defer.alerts import foreground, gathering
from django_defer.clock import database_now
from django_defer.models import Alert, AlertChannel, AlertDelivery, AlertEvent
from django_defer.states import State
from tests import runs
from tests.channels import lines_of
from tests.runs import DATABASE, defer_settings, new_run
from tests.scratch import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = runs.committing

FILE = "tests.channels.FileChannel"


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Undo what a command does to log for a person."""
    logger = logging.getLogger("django_defer")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """Let alerts be written into a file, which this is."""
    path = tmp_path / "alerts"
    with defer_settings(ALERTS=({"channel": FILE, "name": "file", "path": str(path)},)):
        yield path


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing."""
    monkeypatch.setattr(gathering, "GATHER", gathering.GATHER * 0)


at_once = pytest.mark.usefixtures("_at_once")


def command(*arguments: str, **options: Any) -> str:
    """Run the command in this process; return what it printed."""
    out = StringIO()
    call_command("defer_alerts", *arguments, stdout=out, stderr=out, **options)
    return out.getvalue()


# -- one pass --------------------------------------------------------------------------------------


@at_once
def test_one_pass_notices_and_sends(file: Path) -> None:
    new_run()
    assert "1 message sent, 0 to be sent later." in command()
    [[event, kind, subject, title, text]] = lines_of(file)
    assert (event, kind, subject, title) == ("no_workers", "opened", "", "no workers are alive")
    assert "No run begins." in text
    assert "0 messages sent" in command()
    assert len(lines_of(file)) == 1


def test_what_is_over_at_the_second_look_is_not_told(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_run()
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        runs.new_cluster()

    monkeypatch.setattr("time.sleep", wait)
    assert "0 messages sent" in command()
    assert waited == [pytest.approx(10.1)]
    assert lines_of(file) == []
    assert not Alert.objects.filter(closed_at=None).exists()


def test_it_takes_no_longer_than_it_may_and_leaves_the_rest_to_the_next(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_run()
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    assert "0 messages sent" in command("--seconds", "3")
    assert waited == []
    assert lines_of(file) == []
    Alert.objects.update(next_message_at=database_now(DATABASE))
    assert "1 message sent" in command("--seconds", "3")
    assert len(lines_of(file)) == 1


def test_what_nobody_asks_for_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_run(state=State.FAILED)
    AlertEvent.objects.create(event="run_failed", subject="testapp.noop")
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    entry = {"channel": FILE, "name": "file", "path": str(tmp_path / "a"), "events": ["run_slow"]}
    with defer_settings(ALERTS=(entry,)):
        command()
        Alert.objects.update(next_message_at=database_now(DATABASE))
        command()
        waited.clear()
        command()
    assert waited == []


@at_once
def test_what_cannot_be_sent_now_is_said_and_is_no_error() -> None:
    new_run()
    with defer_settings(ALERTS=({"channel": "tests.channels.BrokenChannel", "name": "b"},)):
        assert "0 messages sent, 1 to be sent later." in command()
    assert AlertDelivery.objects.get().attempts == 1


def test_with_nothing_to_tell_it_says_nothing_where_nothing_is_asked(file: Path) -> None:
    assert command(verbosity=0) == ""


def test_without_channels_it_says_that_nobody_is_told() -> None:
    new_run()
    with defer_settings(ALERTS=()):
        assert "The setting ALERTS has no channel" in command()
        assert "The setting ALERTS has no channel" in command("--list")


# -- --test ----------------------------------------------------------------------------------------


def test_a_test_message_is_sent_and_the_answer_printed(file: Path) -> None:
    assert command("--test", "file") == "file answered: written\n"
    [[_, kind, subject, title, text]] = lines_of(file)
    assert (kind, subject, title) == ("test", "", 'test: the channel "file" works')
    assert "nothing has failed" in text
    assert not AlertDelivery.objects.exists()
    assert not AlertChannel.objects.exists()


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"channel": "tests.channels.RefusingChannel"}, "404 no_service"),
        (
            {"channel": "tests.channels.BrokenChannel", "url": "https://hooks.example/secret"},
            "ZeroDivisionError: cannot reach",
        ),
        ({"channel": FILE}, "path"),
        ({"channel": "tests.channels.Missing"}, "Missing"),
    ],
    ids=str,
)
def test_a_test_that_fails_is_an_error_without_secrets(entry: dict[str, Any], says: str) -> None:
    with (
        defer_settings(ALERTS=({"name": "bad", **entry},)),
        pytest.raises(CommandError, match=r'The channel "bad" failed: ') as caught,
    ):
        command("--test", "bad")
    assert caught.value.returncode == 1
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_channel_that_is_not_there_is_said_with_those_that_are(file: Path) -> None:
    with pytest.raises(CommandError, match=r'has no channel "slak"; it has "file"\.'):
        command("--test", "slak")


# -- --list ----------------------------------------------------------------------------------------


def test_the_list_shows_how_each_channel_is_doing(file: Path) -> None:
    now = database_now(DATABASE)
    AlertChannel.objects.create(
        name="file", last_sent_at=now, last_error_at=now, last_error="503\nagain", not_before=now
    )
    lines = command("--list").splitlines()
    at = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    assert lines[0] == "file"
    assert lines[1] == f"  class       {FILE}"
    assert "run_failed" in lines[2]
    assert lines[3:] == [
        f"  last sent   {at}",
        f"  last error  {at}: 503 again",
        f"  not before  {at}",
    ]


def test_a_channel_that_was_never_used_is_listed_too(file: Path) -> None:
    assert "  last sent   never" in command("--list").splitlines()


# -- without a database ----------------------------------------------------------------------------


def test_a_database_that_is_away_is_said_with_an_exit_code_of_its_own(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(using: str) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(foreground, "database_now", fail)
    with pytest.raises(CommandError, match="The database does not answer") as caught:
        command()
    assert caught.value.returncode == 2


def test_a_process_of_its_own_ends_with_these_codes(tmp_path: Path) -> None:
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "gone" / "db")}
    log = {"channel": "log"}
    project = Project(tmp_path, DATABASES={"default": database}, DEFER={"ALERTS": [log]})
    gone = project.manage("defer_alerts")
    assert gone.returncode == 2
    assert "The database does not answer" in gone.stderr
    assert "Traceback" not in gone.stderr
    tested = project.manage("defer_alerts", "--test", "log")
    assert (tested.returncode, tested.stdout) == (0, "log answered: logged\n")
    assert project.manage("defer_alerts", "--test", "slack").returncode == 1


def test_missing_tables_are_no_database_that_is_away(tmp_path: Path) -> None:
    project = Project(tmp_path, DEFER={"ALERTS": [{"channel": "log"}]})
    done = project.manage("defer_alerts")
    assert done.returncode == 1
    assert "run `manage.py migrate`" in done.stderr


@at_once
def test_what_ended_long_ago_is_nobody_s_death(file: Path) -> None:
    new_run(state=State.SUCCEEDED)
    command()
    assert lines_of(file) == []
