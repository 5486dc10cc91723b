"""Log lines of runs: what is kept, of whom, how much of it, and what becomes of it."""

from __future__ import annotations

import io
import logging
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from django.db import DataError, IntegrityError, OperationalError, transaction

from django_defer import log_writing
from django_defer import prune as prune_module
from django_defer.admin.run_log import MOST_LINES
from django_defer.checks.settings import check_settings
from django_defer.context import CurrentRun, running
from django_defer.log_writing import LogWriter
from django_defer.models import LogLine, Progress, Run
from django_defer.prune import prune
from django_defer.retention import Retention
from django_defer.run_logs import HEAD_LINES, MAX_MESSAGE, Recorder, RunLogHandler, Scribe
from django_defer.spool import Spool
from django_defer.states import State
from django_defer.testing import drain
from tests import runs
from tests.admin_rows import HOSTILE, log_in_with, make_run
from tests.runs import DATABASE, captured, defer_settings, new_run, rolled_back
from tests.testapp import defer as functions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.test import Client

pytestmark = runs.in_transaction


@pytest.fixture(autouse=True)
def _not_in_reports(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep what is logged here out of pytest's own reports, which hold no lone surrogate."""

    def refuse(record: logging.LogRecord) -> bool:
        return False

    handler = request.config.pluginmanager.get_plugin("logging-plugin").report_handler  # type: ignore[union-attr]
    handler.addFilter(refuse)
    yield
    handler.removeFilter(refuse)


@pytest.fixture(autouse=True)
def _quiet_root(caplog: pytest.LogCaptureFixture) -> None:
    """Let the root logger have handlers, as a project's has."""


def said(run: Run) -> list[str]:
    return list(LogLine.objects.filter(run=run.pk).values_list("message", flat=True))


class Desk:
    """A worker's scribe, the writer that takes from its spool, and the run of an attempt."""

    def __init__(self) -> None:
        self.scribe, self.writer = Scribe(Spool()), LogWriter(DATABASE)
        self.writer.spools.append(self.scribe.spool)
        self.run = new_run(state=State.RUNNING)
        self.recorder = Recorder(self.scribe, self.run.pk, 1)
        self.current = CurrentRun(
            id=self.run.pk, function="x", attempt=1, is_last_attempt=True, root_id=self.run.pk
        )

    def say(self, *messages: str) -> None:
        for message in messages:
            self.recorder.say(logging.INFO, "shop", message, time.time())

    def numbers(self) -> list[int]:
        return list(LogLine.objects.filter(run=self.run.pk).values_list("number", flat=True))


@pytest.fixture
def desk() -> Desk:
    return Desk()


# -- what is kept ------------------------------------------------------------------------------


def test_a_line_is_kept_with_its_level_time_logger_and_number() -> None:
    before = datetime.now(UTC)
    run = functions.talk("hello", lines=2)
    drain()
    first, second = LogLine.objects.filter(run=run.pk)
    assert (first.attempt, first.number, first.level_name) == (1, 1, "INFO")
    assert (first.logger, first.message) == ("testapp.talk", "hello 1")
    assert (second.number, second.message) == (2, "hello 2")
    assert before <= first.at <= second.at <= datetime.now(UTC)
    assert str(first) == "INFO testapp.talk: hello 1"
    assert list(run.log_lines.all()) == [first, second]


def test_each_attempt_has_its_own_lines_and_a_traceback_is_in_the_message() -> None:
    run = functions.talk_and_fail_once("hello")
    drain()
    drain(now=datetime.now(UTC) + timedelta(hours=1))
    lines = [(line.attempt, line.number, line.message) for line in run.log_lines.all()]
    assert [line[:2] for line in lines] == [(1, 1), (1, 2), (2, 1)]
    assert lines[2][2] == "hello at attempt 2"
    assert lines[1][2].startswith("it went wrong\nTraceback")
    assert lines[1][2].endswith("ValueError: hello")


def test_only_what_carries_the_context_of_the_run_is_taken() -> None:
    run = functions.talk_from_threads("hello")
    drain()
    assert said(run) == ["hello in context"]


def test_coroutines_their_tasks_and_their_threads_carry_it() -> None:
    run = functions.talk_async("hello")
    drain()
    assert said(run) == [f"hello in a {place}" for place in ("coroutine", "task", "thread")]


def test_a_forked_child_says_nothing() -> None:
    run = functions.talk_in_child("hello")
    drain()
    assert said(run) == ["hello before", "hello after"]


def test_lines_that_nobody_can_store_are_kept_as_they_can_be() -> None:
    run = functions.talk_badly()
    assert drain().succeeded == 1
    unstorable, long, aloof = said(run)
    assert unstorable == "nul \\x00 and surrogate \\udcff"
    assert "5,007 characters left out" in long
    assert long.endswith("xthe end")
    assert MAX_MESSAGE <= len(long) < MAX_MESSAGE + 50
    assert aloof == "from one that passes nothing on"


def test_a_line_whose_arguments_do_not_fit_is_kept_without_them(desk: Desk) -> None:
    record = logging.LogRecord("shop", logging.INFO, "", 1, "%d items", ("no",), None)
    with running(desk.current, desk.recorder):
        RunLogHandler(desk.scribe, "INFO").handle(record)
    desk.writer.finish()
    assert said(desk.run) == ["%d items (its arguments do not fit: TypeError)"]


def test_the_lowest_level_is_a_setting() -> None:
    with defer_settings(LOG_LEVEL="WARNING"):
        run = functions.talk_and_fail_once("hello")
        drain()
    assert [message.partition("\n")[0] for message in said(run)] == ["it went wrong"]
    with defer_settings(LOG_LEVEL=None):
        run = functions.talk_and_fail_once("hello")
        drain()
    assert said(run) == []


def test_prints_are_kept_only_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    run = functions.talk("quiet")
    drain()
    assert said(run) == ["quiet 1"]
    with defer_settings(LOG_PRINTS=True):
        run = functions.talk("loud")
        drain()
    assert said(run) == ["loud 1", "printed loud"]
    assert run.log_lines.get(message="printed loud").logger == "print"
    assert capsys.readouterr().out == "printed quiet\nprinted loud\n"


def test_a_print_without_an_end_is_kept_at_the_end_of_the_attempt(desk: Desk) -> None:
    desk.recorder.print("one\ntw")
    desk.recorder.print("o\n\n")
    desk.recorder.print("x" * MAX_MESSAGE)
    desk.recorder.print("three")
    desk.recorder.close()
    desk.writer.finish()
    assert said(desk.run) == ["one", "two", "x" * MAX_MESSAGE, "three"]


def test_sensitive_arguments_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    with defer_settings(LOG_PRINTS=True):
        run = functions.talk_of_secret("swordfish-17")
        drain()
    assert said(run) == ["the token is ••••••", "it is ••••••"]
    assert Progress.objects.get(pk=run.pk).message == "with ••••••"


def test_loggers_and_standard_output_are_left_as_they_were() -> None:
    loggers = [logging.getLogger(), functions.aloof_log]
    before, stream = [[*logger.handlers] for logger in loggers], sys.stdout
    with defer_settings(LOG_PRINTS=True):
        run = functions.talk_badly()
        drain()
    assert len(said(run)) == 3
    assert [logger.handlers for logger in loggers] == before
    assert sys.stdout is stream


def test_what_is_said_after_the_end_of_the_attempt_is_nobodys(desk: Desk) -> None:
    with desk.scribe.listening():
        with running(desk.current, desk.recorder):
            functions.talk_log.info("in time")
        with running(desk.current):  # a thread that went on, with a copy of the context
            functions.talk_log.info("too late")
            desk.current.progress(3)
    desk.writer.finish()
    assert said(desk.run) == ["in time"]
    assert not Progress.objects.exists()


def test_of_two_that_listen_only_the_runs_own_takes_its_lines(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        defer_settings(LOG_PRINTS=True),
        desk.scribe.listening(),
        running(desk.current, desk.recorder),
    ):
        run = functions.talk("inner")
        drain()
        functions.talk_log.info("outer")
    desk.writer.finish()
    assert said(run) == ["inner 1", "printed inner"]
    assert said(desk.run) == ["outer"]
    assert capsys.readouterr().out == "printed inner\n"


def test_a_warning_that_nobody_handles_is_on_standard_error_as_without_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, stream = logging.getLogger(), io.StringIO()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(sys, "stderr", stream)
    with defer_settings(LOG_LEVEL="ERROR"), Scribe(Spool()).listening():
        functions.talk_log.warning("unheard")
        functions.talk_log.info("unseen")
        monkeypatch.setattr(functions.talk_log, "handlers", [logging.NullHandler()])
        functions.talk_log.warning("heard")
    assert stream.getvalue() == "unheard\n"


def test_a_line_in_a_signal_handler_amid_another_is_left_out(desk: Desk) -> None:
    desk.scribe._write(lambda: desk.say("in between"))
    desk.say("afterwards")
    desk.writer.finish()
    assert said(desk.run) == ["afterwards"]


@pytest.mark.parametrize("level", ["LOUD", 20, "", True])
def test_a_level_that_means_nothing_is_an_error_of_check(level: Any) -> None:
    with defer_settings(LOG_LEVEL=level):
        (error,) = check_settings()
    assert "LOG_LEVEL" in error.msg
    assert "'INFO'" in str(error.hint)


@pytest.mark.parametrize("level", ["DEBUG", "CRITICAL", None])
def test_levels_that_mean_something_are_none(level: Any) -> None:
    with defer_settings(LOG_LEVEL=level, LOG_PRINTS=True):
        assert check_settings() == []


# -- how much is kept --------------------------------------------------------------------------


def test_of_a_flood_the_first_and_the_latest_lines_are_kept() -> None:
    run = functions.flood(3000)
    drain()
    numbers = list(run.log_lines.values_list("number", flat=True))
    assert numbers == [*range(1, HEAD_LINES + 1), *range(2501, 3001)]
    assert run.log_lines.get(number=3000).message == "line 3000"


def test_many_characters_are_a_flood_too(desk: Desk) -> None:
    for n in range(100):
        desk.say(f"{n:05}" * 2000)
        desk.writer.collect()
    desk.writer.finish()
    numbers = desk.numbers()
    assert numbers == [*range(1, 14), *range(88, 101)]


def test_lines_that_are_no_longer_among_the_latest_are_deleted(desk: Desk) -> None:
    for n in range(8):
        desk.say(*(f"{n}-{m}" for m in range(300)))
        desk.writer.finish()
        numbers = desk.numbers()
        total = 300 * (n + 1)
        first_of_latest = max(HEAD_LINES + 1, total - log_writing.TAIL_LINES + 1)
        assert numbers == [
            *range(1, min(HEAD_LINES, total) + 1),
            *range(first_of_latest, total + 1),
        ]


def test_a_write_whose_answer_was_lost_is_repeated_and_does_no_harm(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.say("first", *map(str, range(600)))
    monkeypatch.setattr(LogWriter, "_write_steps", lambda self: None)
    with monkeypatch.context() as patch:
        patch.setattr(desk.writer, "_insert", _written_and_then_away(desk.writer))
        with pytest.raises(OperationalError):
            desk.writer.finish()
    assert desk.writer.is_waiting
    desk.writer.finish()
    assert desk.numbers() == list(range(1, 602))
    assert not desk.writer.is_waiting


def _written_and_then_away(writer: LogWriter) -> Any:
    insert = writer._insert

    def inserted(lines: Any) -> None:
        insert(lines)
        raise OperationalError("the connection is lost")

    return inserted


def test_while_the_database_is_away_lines_wait_and_are_bounded(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writing, "MOST_WAITING", 1000)
    for n in range(200):  # runs of a hundred lines each
        desk.recorder = Recorder(desk.scribe, UUID(int=n), 1)
        desk.say(*map(str, range(100)))
        desk.writer.collect()
    waiting = len(desk.writer._first) + sum(len(t.waiting) for t in desk.writer._tails.values())
    assert 1000 < waiting < 10_000
    for _ in range(20):  # each takes no longer than it may
        desk.writer.finish()
    kept = set(LogLine.objects.values_list("run", flat=True))
    assert UUID(int=0) in kept
    assert UUID(int=199) in kept
    assert LogLine.objects.filter(run=UUID(int=199)).count() == 100


def test_writing_takes_a_break_and_goes_on_at_the_next_round(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writing, "CHUNK", 10)
    monkeypatch.setattr(log_writing, "STINT", -1.0)
    desk.say(*map(str, range(30)))
    desk.writer.step()
    assert desk.numbers() == []
    assert desk.writer.seconds_until_next() == 0
    monkeypatch.setattr(log_writing, "STINT", 10.0)
    desk.writer.step()
    assert len(desk.numbers()) == 30


def test_it_writes_at_once_and_then_at_most_every_two_seconds(desk: Desk) -> None:
    desk.say("one")
    desk.writer.step()
    desk.say("two")
    with captured() as queries:
        desk.writer.step()
    assert not queries.captured_queries
    assert said(desk.run) == ["one"]
    assert 0 < desk.writer.seconds_until_next() <= 2
    desk.writer._next_at = time.monotonic()
    desk.writer.step()
    assert said(desk.run) == ["one", "two"]


def test_without_lines_nothing_is_asked_of_the_database() -> None:
    writer = LogWriter(DATABASE)
    writer.spools.append(Spool())
    with captured() as queries:
        writer.step()
        writer.finish()
    assert not queries.captured_queries
    assert writer.seconds_until_next() == log_writing.INTERVAL


def test_what_the_database_refuses_is_said_once_and_the_rest_is_written(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise DataError("too much")

    with monkeypatch.context() as patch:
        patch.setattr("django.db.models.query.QuerySet.bulk_create", refuse)
        for text in ("one", "two"):
            desk.say(text)
            desk.writer.finish()
    assert len([r for r in caplog.records if "log.not_written" in r.message]) == 1
    desk.say("three")
    desk.writer.finish()
    assert said(desk.run) == ["three"]


def test_a_place_is_taken_once(desk: Desk) -> None:
    desk.say("one")
    desk.writer.finish()
    line = LogLine.objects.get(run=desk.run.pk)
    line.pk = None
    with pytest.raises(IntegrityError), transaction.atomic(using=DATABASE):
        line.save()


# -- what becomes of it ------------------------------------------------------------------------


@pytest.fixture
def old_and_new() -> Iterator[tuple[Run, Run]]:
    now = datetime.now(UTC)
    old = new_run(state=State.SUCCEEDED, finished_at=now - timedelta(days=9))
    new = new_run(state=State.SUCCEEDED, finished_at=now)
    for run in (old, new):
        Progress.objects.create(run=run, attempt=1, done=1, at=now)
        LogLine.objects.bulk_create(
            LogLine(run=run, attempt=1, number=n, level=20, at=now, message=str(n))
            for n in range(1, 26)
        )
    with defer_settings(KEEP_LAST=0):
        yield old, new


def test_pruning_takes_lines_and_progress_along(old_and_new: tuple[Run, Run]) -> None:
    old, new = old_and_new
    assert prune(DATABASE, datetime.now(UTC)).total() == 1
    assert not Run.objects.filter(pk=old.pk).exists()
    assert set(LogLine.objects.values_list("run", flat=True)) == {new.pk}
    assert set(Progress.objects.values_list("pk", flat=True)) == {new.pk}


def test_lines_are_pruned_some_at_a_time_before_their_run(
    old_and_new: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = old_and_new
    monkeypatch.setattr(prune_module, "MOST_LINES", 10)
    now = datetime.now(UTC)
    walk = prune_module.Walk(Retention.read(DATABASE, now))
    left = []
    while not walk.is_over:
        walk.step()
        left.append((old.log_lines.count(), Run.objects.filter(pk=old.pk).exists()))
    assert left == [(15, True), (5, True), (0, False)]
    assert walk.removed.total() == 1
    assert new.log_lines.count() == 25


def test_a_dry_walk_deletes_no_lines(old_and_new: tuple[Run, Run]) -> None:
    assert prune(DATABASE, datetime.now(UTC), dry_run=True).total() == 1
    assert LogLine.objects.count() == 50


def test_a_drain_in_a_transaction_that_is_rolled_back_leaves_no_lines() -> None:
    with rolled_back():
        run = functions.talk()
        drain()
        assert said(run) == ["hello 1"]
    assert said(run) == []


# -- on the run's page -------------------------------------------------------------------------


def page(client: Client, run: Run) -> str:
    response = client.get(f"/admin/django_defer/run/{run.pk}/change/")
    assert response.status_code == 200
    return response.content.decode().replace("\xa0", " ")


def line_of(run: Run, number: int, message: str = "", **columns: Any) -> None:
    at = datetime(2026, 7, 1, 8, 4, 12, 123456, tzinfo=UTC)
    values = {"attempt": 1, "level": logging.INFO, "at": at, "logger": "shop", **columns}
    LogLine.objects.create(run=run, number=number, message=message or f"<{number}>", **values)


def test_the_page_has_no_log_where_nothing_was_said(admin_client: Client) -> None:
    assert "<h2>Log</h2>" not in page(admin_client, make_run())


def test_the_page_shows_the_newest_attempt_first_and_says_what_was_left_out(
    admin_client: Client,
) -> None:
    run = make_run(state=State.RUNNING, attempt=2)
    line_of(run, 3, "third")
    line_of(run, 4, "fourth", level=logging.ERROR)
    line_of(run, 1239, "last\nTraceback", level=logging.WARNING)
    line_of(run, 1, "again", attempt=2)
    text = page(admin_client, run)
    text = text[text.index("Attempt 2") :]
    places = [
        text.index(part)
        for part in (
            "Attempt 2",
            "again",
            "Attempt 1",
            "2 lines left out",
            "third",
            "fourth",
            "1,234 lines left out",
            "last",
        )
    ]
    assert places == sorted(places)
    assert "left out" not in text[text.index("last\nTraceback") :]
    assert text.count("08:04:12.123<") == 4
    assert text.count(">2026-07-01<") == 2  # once an attempt
    assert "2026-07-01 08:04:12.123456 UTC" in text
    assert '<span class="defer-badge defer-badge--failed">ERROR</span>' in text
    assert "Only the latest" not in text


def test_the_page_shows_so_many_lines_and_says_so(admin_client: Client) -> None:
    run = make_run(state=State.RUNNING, attempt=1)
    at = datetime.now(UTC)
    LogLine.objects.bulk_create(
        LogLine(run=run, attempt=1, number=n, level=20, at=at, message=f"[{n}]")
        for n in range(1, MOST_LINES + 2)
    )
    text = page(admin_client, run)
    assert "[1]" not in text
    assert "[2]" in text
    assert f"Only the latest {MOST_LINES} lines are shown." in text
    assert "left out" not in text


def test_hostile_lines_stay_text(admin_client: Client) -> None:
    run = make_run(state=State.RUNNING, attempt=1)
    line_of(run, 1, HOSTILE, logger=HOSTILE)
    line_of(run, 2, f"{HOSTILE}\n{HOSTILE}")
    Progress.objects.create(
        run=run, attempt=1, done=1, total=2, message=HOSTILE, at=datetime.now(UTC)
    )
    assert HOSTILE not in page(admin_client, run)


def test_who_may_view_runs_sees_their_lines(client: Client) -> None:
    run = make_run(state=State.RUNNING, attempt=1)
    line_of(run, 1, "for all to see")
    log_in_with(client, "view_run")
    assert "for all to see" in page(client, run)
