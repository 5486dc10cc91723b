"""`current_run().progress(…)` and `.track(…)`: what can be said, and where it is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from django_defer.admin.run_log import progress_in_words
from django_defer.context import CurrentRun, running
from django_defer.log_writing import LogWriter
from django_defer.models import Progress, Run
from django_defer.run_logs import Recorder, Scribe
from django_defer.spool import Spool
from django_defer.states import State
from django_defer.testing import drain
from tests import runs
from tests.admin_rows import make_run
from tests.runs import DATABASE, captured, new_run
from tests.testapp import defer as functions

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

pytestmark = runs.in_transaction

NOW = datetime(2026, 7, 1, 8, 4, 12, tzinfo=UTC)


def a_run(run_id: UUID | None = None, attempt: int = 1) -> CurrentRun:
    run_id = run_id or uuid4()
    return CurrentRun(
        id=run_id, function="x", attempt=attempt, is_last_attempt=False, root_id=run_id
    )


class Desk:
    """What takes down an attempt's progress, and what writes it."""

    def __init__(self) -> None:
        self.scribe, self.writer = Scribe(Spool()), LogWriter(DATABASE)
        self.writer.spools.append(self.scribe.spool)
        self.row = new_run(state=State.RUNNING)

    def attempt(self, number: int = 1) -> Any:
        run = a_run(self.row.pk, number)
        return running(run, Recorder(self.scribe, run.id, number)), run

    @property
    def progress(self) -> Any:
        rows = Progress.objects.filter(pk=self.row.pk)
        return rows.values_list("attempt", "done", "total", "message").first()


@pytest.fixture
def desk() -> Desk:
    return Desk()


# -- saying it ---------------------------------------------------------------------------------


def test_the_last_progress_stays_with_the_run() -> None:
    run = functions.talk(progress=120)
    before = datetime.now(UTC)
    drain()
    progress = Progress.objects.get(pk=run.pk)
    assert (progress.attempt, progress.done, progress.total) == (1, 120, 300)
    assert progress.message == "hello"
    assert before <= progress.at <= datetime.now(UTC)
    assert Run.objects.get(pk=run.pk).progress == progress
    assert str(progress) == "120 of 300"


def test_tracking_shows_how_many_items_are_done() -> None:
    run = functions.track_items(7)
    drain()
    progress = Progress.objects.get(pk=run.pk)
    assert (progress.done, progress.total, progress.message) == (7, 7, "counting")


def test_an_item_counts_when_it_is_done() -> None:
    run, seen = a_run(), list[Any]()

    class Notes:
        def show(self, done: int, total: int | None, message: str) -> None:
            seen.append((done, total, message))

        def close(self) -> None:
            seen.append("closed")

    with running(run, Notes()):  # type: ignore[arg-type]
        items = run.track("ab", message="letters")
        assert seen == [(0, 2, "letters")]
        assert next(items) == "a"
        assert seen[1:] == []
        assert next(items) == "b"
        assert seen[1:] == [(1, 2, "letters")]
        assert list(items) == []
        assert list(run.track(iter("c"))) == ["c"]
        assert list(run.track(iter("d"), total=9)) == ["d"]
    assert seen[2:] == [
        (2, 2, "letters"),
        (0, None, ""),
        (1, None, ""),
        (0, 9, ""),
        (1, 9, ""),
        "closed",
    ]


@pytest.mark.parametrize("done", [-1, 1.5, "1", None, True, 2**63])
def test_done_is_a_whole_number(done: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"progress\(done="):
        a_run().progress(done)


@pytest.mark.parametrize("total", [-1, 1.5, "1", False])
def test_total_is_a_whole_number_or_none(total: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"progress\(total="):
        a_run().track([], total=total)
    with pytest.raises((TypeError, ValueError), match=r"progress\(total="):
        a_run().progress(1, total)


def test_the_message_is_text() -> None:
    with pytest.raises(TypeError, match="message"):
        a_run().progress(1, 2, b"bytes")  # type: ignore[arg-type]


def test_outside_of_an_attempt_it_goes_nowhere() -> None:
    run = a_run()
    run.progress(1, 2, "x")
    assert list(run.track([1, 2])) == [1, 2]


# -- writing it --------------------------------------------------------------------------------


def test_however_often_it_is_shown_one_row_is_written(desk: Desk) -> None:
    inside, run = desk.attempt()
    with inside:
        for done in range(1000):
            run.progress(done)
        with captured() as queries:
            desk.writer.finish()
        assert len(queries.captured_queries) <= 2
        assert desk.progress == (1, 999, None, "")
        run.progress(1000, 1000, "x" * 300)
    desk.writer.finish()
    assert desk.progress == (1, 1000, 1000, "x" * 200)


def test_the_last_of_an_attempt_is_not_hidden_by_the_next_attempt_in_the_same_seat(
    desk: Desk,
) -> None:
    inside, run = desk.attempt()
    with inside:
        run.progress(5)
    other = new_run(state=State.RUNNING)
    current = a_run(other.pk)
    with running(current, Recorder(desk.scribe, other.pk, 1)):
        current.progress(6)
        desk.writer.finish()
    assert desk.progress == (1, 5, None, "")
    assert Progress.objects.get(pk=other.pk).done == 6


def test_a_later_attempt_goes_before_an_earlier_one(desk: Desk) -> None:
    for number, done in ((2, 1), (1, 9)):  # the earlier one's is written last
        inside, run = desk.attempt(number)
        with inside:
            run.progress(done)
        desk.writer.finish()
        assert desk.progress == (2, 1, None, "")


def test_text_that_no_database_takes_is_kept_as_it_can_be(desk: Desk) -> None:
    inside, run = desk.attempt()
    with inside:
        run.progress(1, None, "\x00 \udcff")
    desk.writer.finish()
    assert desk.progress == (1, 1, None, "\\x00 \\udcff")


@pytest.mark.parametrize("number", [0, 2**63 - 1])
def test_the_smallest_and_the_largest_number_fit(desk: Desk, number: int) -> None:
    inside, run = desk.attempt()
    with inside:
        run.progress(number, number)
    desk.writer.finish()
    assert desk.progress == (1, number, number, "")


# -- showing it --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "total", "message", "words"),
    [
        (120, 300, "sending mails", "120 of 300, 40 %: sending mails"),
        (1, 3, "", "1 of 3, 33 %"),
        (1234567, 2469134, "", "1,234,567 of 2,469,134, 50 %"),
        (999, 1000, "", "999 of 1,000, 99 %"),
        (310, 300, "", "310 of 300, 100 %"),
        (7, None, "", "7 done"),
        (7, None, "reading", "7 done: reading"),
        (0, 0, "", "0 of 0"),
        (1, 2, "100 %s", "1 of 2, 50 %: 100 %s"),
    ],
)
def test_progress_in_words(done: int, total: int | None, message: str, words: str) -> None:
    progress = Progress(attempt=1, done=done, total=total, message=message, at=NOW)
    assert progress_in_words(progress) == words


@pytest.fixture
def show(admin_client: Client) -> Callable[[Run], str]:
    def shown(run: Run) -> str:
        response = admin_client.get(f"/admin/django_defer/run/{run.pk}/change/")
        assert response.status_code == 200
        return response.content.decode()

    return shown


def test_the_page_shows_a_bar_and_words(show: Any) -> None:
    run = make_run(state=State.RUNNING, attempt=1)
    assert "<h2>Progress</h2>" not in show(run)
    Progress.objects.create(run=run, attempt=1, done=120, total=300, message="mails", at=NOW)
    text = show(run)
    assert '<progress class="defer-progress" max="300" value="120" aria-label="Progress">' in text
    assert "120 of 300, 40 %: mails" in text
    assert "style=" not in text[text.index("<progress") : text.index("</progress>")]


def test_the_page_says_of_which_attempt_the_progress_is_if_not_of_this_one(show: Any) -> None:
    run = make_run(state=State.RUNNING, attempt=2)
    Progress.objects.create(run=run, attempt=1, done=7, at=NOW)
    text = show(run)
    assert "7 done (attempt 1)" in text
    assert "<progress" not in text
