"""`defer_explain` and its sentences: every state, every reason, a definition, a function."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_defer import explain_text, pauses, subjects
from django_defer.clock import DatabaseNow, database_now
from django_defer.definition_explanations import definition_in_words
from django_defer.explanations import REASONS, SENTENCES, state_in_words
from django_defer.ids import uuid7
from django_defer.models import Attempt, BackgroundFunction, CronDefinition, Run
from django_defer.states import MOVES, Outcome, Reason, State
from django_defer.subjects import NotFound, find
from tests import runs
from tests.runs import DATABASE, captured, fresh, new_cluster, new_definition, new_run
from tests.scratch import Project

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = runs.in_transaction

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)  # a Wednesday
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
KEY = "shop.weekly"


def explain(name: object) -> list[str]:
    """Return the lines that the command prints."""
    out = StringIO()
    call_command("defer_explain", str(name), stdout=out, stderr=out)
    return out.getvalue().splitlines()


def fact(lines: list[str], name: str) -> str:
    """Return what is said of a fact, "" if it is not there."""
    found = [line for line in lines if line.startswith(f"{name}  ")]
    return found[0].removeprefix(name).strip() if found else ""


def said(row: Run) -> str:
    """Return the sentence of a run at noon."""
    return state_in_words(fresh(row), NOON).replace("\xa0", " ")


def told(row: CronDefinition, at: datetime = NOON, last: Run | None = None) -> list[str]:
    """Return the sentences of a definition."""
    return [each.replace("\xa0", " ") for each in definition_in_words(row, last, at)]


# -- every state and every reason ------------------------------------------------------------------


def test_every_state_has_its_sentence() -> None:
    assert set(SENTENCES) == set(State)


def test_every_reason_has_its_sentence_in_a_state_that_it_leads_to() -> None:
    assert {reason for _, reason in REASONS} == set(Reason)
    ends = {State.PARKED, State.FAILED, State.DISCARDED, State.SKIPPED}
    assert {state for state, _ in REASONS} <= ends & (
        set().union(*MOVES.values()) | {State.SKIPPED}
    )


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("reason", ["", *Reason])
@pytest.mark.parametrize("is_bare", [True, False])
def test_any_run_is_explained_in_whole_sentences(state: State, reason: str, is_bare: bool) -> None:
    columns: dict[str, Any] = {} if is_bare else {"attempt": 2, "failures": 1, "losses": 1}
    if not is_bare:
        columns |= {"slot": NOON, "definition": new_definition(), "discard_after": NOON}
    run = new_run(state=state, reason=reason, **columns)
    first, *rest = explain(run.pk)
    assert first.endswith(".")
    assert first[0].isupper()
    assert "%(" not in first
    if reason and "_" in reason:
        assert reason not in first
    assert fact(rest, "function") == "testapp.noop"


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_of_an_attempt_has_its_word(outcome: Outcome) -> None:
    run = new_run(state=State.FAILED)
    Attempt.objects.create(run=run, number=1, outcome=outcome)
    assert explain(run.pk)[-1].split("  ")[1:3] == ["1", str(outcome.label)]


# -- a run -----------------------------------------------------------------------------------------


def test_a_run_without_code_says_which_code_is_missing() -> None:
    run = new_run("shop.compute", State.PARKED, reason=Reason.NO_CODE)
    assert explain(run.pk)[0] == "Waits: no live worker's code has shop.compute."


def test_a_run_of_a_paused_queue_says_who_paused_it_until_when_and_why() -> None:
    run = new_run(queue="mail", queued_at=NOON - 3 * MINUTE)
    pauses.pause_queue("mail", actor="ada", until=NOON + 2 * HOUR, reason="provider down.")
    assert said(run) == (
        "Due for 3 min 0 s, and waits: the queue “mail” is paused by ada "
        "until 2026-11-25 14:00:00 UTC: provider down."
    )


@pytest.mark.parametrize("state", [State.QUEUED, State.PARKED])
def test_a_run_of_a_paused_function_says_it_too(state: State) -> None:
    function = BackgroundFunction.objects.create(key="shop.compute")
    run = new_run("shop.compute", state, queued_at=NOON, reason=Reason.FUNCTION_PAUSED)
    pauses.pause(function, actor="ada")
    Run.objects.filter(pk=run.pk).update(state=state)
    assert said(run).endswith(" is paused by ada.")
    pauses.pause(function)
    assert said(run).endswith(" is paused.")


def test_a_retry_says_which_attempt_when_and_after_what() -> None:
    run = new_run(
        state=State.SCHEDULED,
        attempt=2,
        failures=2,
        error_class="ConnectionError",
        run_after=NOON + timedelta(minutes=4, seconds=12),
    )
    assert said(run) == (
        "Retrying: attempt 3 of 17 at 2026-11-25 12:04:12 UTC (in 4 min), after ConnectionError."
    )
    with timezone.override("Asia/Tokyo"):
        assert "at 2026-11-25 21:04:12 Asia/Tokyo" in said(run)


def test_a_delayed_run_that_nobody_promotes_says_what_is_missing() -> None:
    run = new_run(state=State.SCHEDULED, run_after=NOON - 5 * MINUTE)
    assert said(run) == (
        "Due since 2026-11-25 11:55:00 UTC (5 min ago), and no scheduler has queued it. "
        "Start one with manage.py defer_worker."
    )
    later = new_run(state=State.SCHEDULED, run_after=NOON - MINUTE)
    assert said(later).startswith("Waits until ")


def skipped(slot: datetime = NOON - 4 * HOUR, **columns: Any) -> Run:
    """Insert a slot at 08:00 that was skipped for an overlap, a second late."""
    return new_run(
        KEY,
        State.SKIPPED,
        **{
            "reason": Reason.OVERLAP,
            "slot": slot,
            "finished_at": slot + timedelta(seconds=1),
            "started_at": None,
            **columns,
        },
    )


def test_a_skipped_slot_names_the_run_that_was_in_its_way() -> None:
    row, eight = new_definition(KEY), NOON - 4 * HOUR
    run = skipped(definition=row)
    assert said(run) == "Skipped: the run of another slot was not finished."
    # Over by then, skipped itself, a later slot, another definition's: none was in the way.
    began = {"started_at": eight - HOUR, "definition": row}
    over = eight - timedelta(seconds=1)
    new_run(KEY, State.SUCCEEDED, slot=eight - 2 * MINUTE, finished_at=over, **began)
    skipped(eight - MINUTE, definition=row, finished_at=NOON)
    new_run(KEY, State.RUNNING, slot=eight + MINUTE, **began)
    other = {**began, "definition": new_definition("shop.other")}
    new_run(KEY, State.RUNNING, slot=eight - 3 * MINUTE, **other)
    assert said(run) == "Skipped: the run of another slot was not finished."
    new_run(KEY, State.RUNNING, slot=eight - DAY, **began)
    assert said(run) == "Skipped: the run of Tuesday 2026-11-24 08:00 UTC was still running."
    found = new_run(KEY, State.SUCCEEDED, slot=eight - 5 * MINUTE, finished_at=NOON, **began)
    assert said(run) == "Skipped: the run of 07:55 UTC was still running."
    Run.objects.filter(pk=found.pk).update(started_at=NOON - HOUR)
    assert said(run) == "Skipped: the run of 07:55 UTC was not finished."


def test_a_run_shows_the_facts_one_acts_upon() -> None:
    parent = new_run(KEY, State.SUCCEEDED)
    run = new_run(
        "shop.compute",
        State.SCHEDULED,
        label="for Ada",
        queue="mail",
        parent=parent,
        rerun_of_id=uuid4(),
        attempt=2,
        failures=1,
        losses=1,
        enqueued_by=KEY,
        run_after=DatabaseNow(HOUR),
        discard_after=DatabaseNow(2 * HOUR),
        args={"args": ["secret"], "kwargs": {}},
    )
    Attempt.objects.create(
        run=run,
        number=1,
        outcome=Outcome.RETRIED,
        started_at=NOON,
        finished_at=NOON + timedelta(seconds=3),
        error_class="ConnectionError",
        error_message="no\nroute \x1b[31mto host",
    )
    Attempt.objects.create(run=run, number=2, outcome=Outcome.LOST, started_at=NOON + MINUTE)
    for state in (State.FAILED, State.SUCCEEDED, State.SUCCEEDED):
        new_run(state=state, parent=run)
    lines = explain(run.pk)
    assert lines[0].startswith("Lost, starts again at ")
    assert fact(lines, "run") == str(run.pk)
    assert fact(lines, "label") == "for Ada"
    assert fact(lines, "queue") == "mail"
    assert fact(lines, "enqueued by") == KEY
    assert fact(lines, "due").endswith(" UTC (in 60 min)")
    assert fact(lines, "deadline").endswith(" UTC (in 2 h)")
    assert fact(lines, "attempts") == "1 of 17, lost once"
    assert fact(lines, "parent") == f"{parent.pk} (shop.weekly, succeeded)"
    assert fact(lines, "rerun of") == f"{run.rerun_of_id} (pruned)"
    assert fact(lines, "children") == "3: 2 succeeded, 1 failed"
    assert lines[-3:] == [
        "Attempts",
        "  1  retried  2026-11-25 12:00:00 UTC  3.0 s  ConnectionError: no route �[31mto host",
        "  2  lost     2026-11-25 12:01:00 UTC  –",
    ]
    assert "secret" not in "\n".join(lines)


def test_the_attempt_that_succeeded_is_listed_and_of_many_the_latest() -> None:
    run = new_run(state=State.SUCCEEDED, attempt=31)
    for number in range(1, 31):
        Attempt.objects.create(run=run, number=number, outcome=Outcome.RETRIED)
    lines = [line.split()[:2] for line in explain(run.pk) if line.startswith("  ")]
    assert len(lines) == explain_text.MOST_ATTEMPTS + 1
    assert lines[0] == ["11", "retried"]
    assert lines[-1] == ["31", "succeeded"]


def test_hostile_text_cannot_steer_the_terminal() -> None:
    run = new_run(
        "shop.\x1b[2J",
        State.FAILED,
        label="\x1b]0;title\x07",
        error_class="E",
        error_message="\x1b[31mred\r\nsecond",
    )
    out = "".join(explain(run.pk))
    assert not set("\x1b\x07\r") & set(out)


# -- a definition ----------------------------------------------------------------------------------


def test_a_definition_says_when_it_is_due_and_shows_its_slots_in_both_zones() -> None:
    new_definition(KEY, code_timezone="Europe/Paris", next_slot_at=database_now(DATABASE) + HOUR)
    lines = explain(KEY)
    assert lines[0].startswith("Next due at ")
    assert fact(lines, "schedule") == "0 8 * * MON Europe/Paris"
    assert fact(lines, "in words") == "at 08:00 on Monday (Europe/Paris)"
    title = lines.index("Next slots")
    assert len(lines[title + 1 :]) == 5
    for line in lines[title + 1 :]:
        assert " 08:00 Europe/Paris  Mon " in line
        assert "0 UTC  in " in line


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (
            {
                "paused_at": NOON - HOUR,
                "paused_by": "ada",
                "paused_until": NOON + HOUR,
                "pause_reason": "provider down",
            },
            "Paused by ada since 2026-11-25 11:00:00 UTC until 2026-11-25 13:00:00 UTC: "
            "provider down",
        ),
        (
            {"orphaned_at": NOON - HOUR},
            "Not in the code since 2026-11-25 11:00:00 UTC; its history is kept.",
        ),
        ({"enabled": False}, "Switched off by its code (enabled=)."),
        (
            {"ends_at": NOON - HOUR},
            "Fires no more: it ended at 2026-11-25 11:00:00 UTC (60 min ago).",
        ),
        ({"ends_at": NOON + HOUR}, "Fires no more: its schedule has no slot any more."),
        ({}, "Has no next slot yet: run manage.py defer_sync."),
        (
            {"next_slot_at": NOON - 5 * MINUTE},
            "Was due at 2026-11-25 11:55:00 UTC (5 min ago), and no scheduler has fired it. "
            "Start one with manage.py defer_worker.",
        ),
        ({"next_slot_at": NOON + MINUTE}, "Next due at 2026-11-25 12:01:00 UTC (in 60 s)."),
        (
            {"next_slot_at": NOON + MINUTE, "error": "bad"},
            "Fires nothing; looked at again at 2026-11-25 12:01:00 UTC (in 60 s).",
        ),
    ],
)
def test_a_definition_says_why_it_does_not_fire(columns: dict[str, Any], sentence: str) -> None:
    assert told(new_definition(KEY, **columns)) == [sentence]


def test_the_command_names_the_error_of_a_definition_first() -> None:
    new_definition(KEY, "not cron", enabled=False)
    assert explain(KEY)[0].startswith("Cannot fire: ")
    new_definition("shop.marked", error="Two\nlines.")
    assert explain("shop.marked")[0] == "Cannot fire: Two."


def test_a_definition_whose_function_alone_is_paused_says_so() -> None:
    row = new_definition(KEY, next_slot_at=NOON + HOUR)
    BackgroundFunction.objects.filter(pk=KEY).update(paused_at=NOON, paused_by="ada")
    assert told(row)[0] == "It fires, and its runs wait: its function is paused by ada."


def test_a_definition_says_what_became_of_its_last_slot() -> None:
    row = new_definition(KEY, last_slot_at=NOON)
    assert "No slot has fired yet." not in explain(KEY)
    assert "Last slot: Wednesday 2026-11-25 12:00 UTC; its run was removed." in explain(KEY)
    run = new_run(
        KEY,
        State.SUCCEEDED,
        definition=row,
        slot=NOON,
        missed_slots=2,
        started_at=NOON + 7 * MINUTE,
        finished_at=NOON + 8 * MINUTE,
    )
    CronDefinition.objects.filter(pk=row.pk).update(last_run=run)
    lines = explain(KEY)
    at = lines.index(
        "Last slot: Wednesday 2026-11-25 12:00 UTC; started 7 min 0 s after it; "
        "stands for its slot and 2 missed ones before it."
    )
    assert lines[at + 1] == "Succeeded in 1 min 0 s."
    assert fact(lines, "last run") == f"{run.pk} (shop.weekly, succeeded)"
    CronDefinition.objects.filter(pk=row.pk).update(last_run=None, last_slot_at=None)
    assert "No slot has fired yet." in explain(KEY)


def test_a_definition_says_that_its_last_slot_was_skipped_and_why() -> None:
    row, eight = new_definition(KEY), NOON - 4 * HOUR
    began = {"definition": row, "started_at": eight - 4 * MINUTE}
    new_run(KEY, State.RUNNING, slot=eight - 5 * MINUTE, **began)
    run = skipped(definition=row)
    CronDefinition.objects.filter(pk=row.pk).update(last_run=run, last_slot_at=run.slot)
    sentence = (
        "Its slot of Wednesday 2026-11-25 08:00 UTC was skipped: "
        "the run of 07:55 UTC was still running."
    )
    assert explain(KEY).count(sentence) == 1
    Run.objects.filter(pk=run.pk).update(reason=Reason.MISSED, missed_slots=2)
    assert told(row, last=fresh(run))[-1] == (
        "Its slot of Wednesday 2026-11-25 08:00 UTC was skipped: no scheduler ran at that time, "
        "and its catch-up left it out. It stands for its slot and 2 missed ones before it."
    )


@pytest.mark.parametrize(
    ("expression", "spring", "autumn"),
    [
        (
            "30 2 * * *",
            "The slot of Sunday 2027-03-28 02:30 Europe/Paris falls into the spring gap: "
            "fires at 03:00.",
            "The clock shows Sunday 2027-10-31 02:30 Europe/Paris twice: "
            "that slot fires the first time only (00:30 UTC).",
        ),
        (
            "0,20,40 2 * * *",
            "The slots of Sunday 2027-03-28 02:00, 02:20, 02:40 Europe/Paris fall into the spring "
            "gap: one run at 03:00 for all of them.",
            "The clock shows Sunday 2027-10-31 02:00, 02:20, 02:40 Europe/Paris twice: "
            "these slots fire the first time only.",
        ),
        (
            "*/5 2 * * *",
            "The slots of Sunday 2027-03-28 02:00, 02:05, 02:10, …, 02:55 Europe/Paris fall into "
            "the spring gap: do not fire that day.",
            "The clock shows Sunday 2027-10-31 02:00, 02:05, 02:10, …, 02:55 Europe/Paris twice: "
            "these slots fire both times.",
        ),
    ],
)
def test_a_definition_says_what_clock_changes_do_to_its_slots(
    expression: str, spring: str, autumn: str
) -> None:
    row = new_definition(KEY, expression, code_timezone="Europe/Paris", next_slot_at=NOON + HOUR)
    assert told(row)[1:] == [spring, autumn]
    row.orphaned_at = NOON
    assert not [each for each in told(row) if "2027" in each]


# -- a function ------------------------------------------------------------------------------------


def test_a_function_says_whether_it_is_paused_what_waits_and_what_failed_last() -> None:
    function = BackgroundFunction.objects.create(
        key="shop.compute", queue="mail", module="shop.defer", line=7, synced_at=NOON
    )
    assert explain("shop.compute")[0] == "Active: each call of it makes a run."
    new_run("shop.compute")
    new_run("shop.compute", State.SCHEDULED)
    new_run("shop.compute", State.RUNNING)
    new_run("shop.compute", State.FAILED, error_class="E", error_message="older")
    failed = new_run("shop.compute", State.FAILED, error_class="E", error_message="newer\nmore")
    new_run("shop.other", State.FAILED)
    pauses.pause(function, actor="ada", reason="provider down")
    lines = explain("shop.compute")
    assert lines[0].startswith("Paused by ada since ")
    assert lines[0].endswith(" UTC: provider down")
    assert fact(lines, "defined in") == "shop.defer:7"
    assert fact(lines, "waiting") == "2"
    assert fact(lines, "running") == "1"
    assert fact(lines, "failed last").startswith(f"{failed.pk} ")
    assert fact(lines, "failed last").endswith(" E: newer")
    BackgroundFunction.objects.update(orphaned_at=NOON)
    assert explain("shop.compute")[0].startswith("Not in the code since 2026-11-25 12:00:00 UTC")


def test_a_function_that_only_runs_know_is_explained_all_the_same() -> None:
    new_run("shop.unheard")
    assert explain("shop.unheard")[0] == "Not known from any code: run manage.py defer_sync."


def test_waiting_runs_are_counted_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain_text, "MOST_WAITING", 2)
    for _ in range(3):
        new_run("shop.unheard")
    assert fact(explain("shop.unheard"), "waiting") == "2+"


# -- what is meant by a name -----------------------------------------------------------------------


def test_a_run_is_found_by_its_id_its_beginning_and_its_end() -> None:
    run = new_run(id=UUID("0190aaaa-bbbb-7ccc-8ddd-eeee12345678"))
    new_run(id=UUID("0191aaaa-bbbb-7ccc-8ddd-eeee87654321"))
    for text in (
        str(run.pk),
        run.pk.hex.upper(),
        "0190aaaa-bbbb",
        "0190…",
        "0190...",
        "12345678",
        " 0190aa ",
    ):
        assert find(text) == run, text


def test_an_older_run_is_found_by_its_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "NEWEST", 1)
    run = new_run(id=UUID("0190aaaa-bbbb-7ccc-8ddd-eeee12345678"))
    newest = new_run(id=UUID("0191aaaa-bbbb-7ccc-8ddd-eeee87654321"))
    assert find("12345678") == run
    assert find("87654321") == newest


def test_several_runs_that_match_are_named() -> None:
    first = new_run(id=UUID("0190aaaa-bbbb-7ccc-8ddd-eeee12345678"))
    second = new_run(id=UUID("0190aaaa-cccc-7ccc-8ddd-eeee12345678"))
    for text in ("0190aaaa", "12345678"):
        with pytest.raises(NotFound) as caught:
            find(text)
        assert str(caught.value) == (
            f"Several runs match {text!r}: write one of {second.pk} (testapp.noop, queued); "
            f"{first.pk} (testapp.noop, queued)."
        )


def test_a_key_wins_over_an_id_and_a_definition_over_its_function() -> None:
    new_run(id=UUID("cafe0000-bbbb-7ccc-8ddd-eeee12345678"))
    function = BackgroundFunction.objects.create(key="cafe")
    assert find("cafe") == function
    row = new_definition("cafe")
    assert find("cafe") == row


@pytest.mark.parametrize("text", ["shop.weakly", "weekly", "SHOP.WEEKLY", "shop.weekly()"])
def test_an_unknown_name_says_which_keys_are_near(text: str) -> None:
    new_definition(KEY)
    BackgroundFunction.objects.create(key="other.thing")
    with pytest.raises(CommandError) as caught:
        explain(text)
    assert str(caught.value) == f"Nothing is called {text!r}: did you mean shop.weekly?"
    assert caught.value.returncode == 1


@pytest.mark.parametrize(
    "text", ["", "  ", "\x00", "…", "01", "deadbeef", "f" * 32, "é", "x" * 999]
)
def test_a_name_that_means_nothing_says_what_to_write(text: str) -> None:
    with pytest.raises(CommandError, match=r"id of a run, .*or the key of a function"):
        explain(text)


def test_nothing_is_written_and_many_attempts_and_children_cost_no_more_queries() -> None:
    run = new_run(state=State.SCHEDULED, attempt=1, failures=1, run_after=DatabaseNow(HOUR))
    counts = []
    for _ in range(2):
        for number in range(5):
            Attempt.objects.create(run=run, number=number, outcome=Outcome.RETRIED)
            new_run(parent=run)
        with captured() as queries:
            explain(run.pk)
        statements = runs.statements(queries)
        assert all(sql.startswith("SELECT") for sql in statements)
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 10


INSERT = """
import django
django.setup()
from django_defer.models import Run
Run(function_id="shop.compute", state="parked", reason="no_code").save()
"""


def test_it_needs_neither_code_nor_sound_settings_and_speaks_in_the_project_s_zone(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path, DEFER={"NO_SUCH_KEY": 1}, TIME_ZONE="Asia/Tokyo")
    assert project.manage("check").returncode == 1
    assert project.manage("migrate", "--skip-checks").returncode == 0
    assert project.python("-c", INSERT).returncode == 0
    error = project.manage("defer_explain", "0").stderr
    assert error == (
        "CommandError: Nothing is called '0': write the id of a run, its first characters or its "
        "last 8 digits, or the key of a function such as shop.weekly. A function that is new in "
        "the code is known after manage.py defer_sync.\n"
    )
    done = project.manage("defer_explain", "01")
    assert (done.returncode, done.stdout) == (1, "")
    function = project.manage("defer_explain", "shop.compute")
    assert (function.returncode, function.stderr) == (0, "")
    done = project.manage("defer_explain", uuid7().hex[:4])
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = done.stdout.splitlines()
    assert first == "Waits: no live worker's code has shop.compute."
    assert " Asia/Tokyo (" in fact(rest, "enqueued")


def test_a_live_worker_that_serves_the_queue_is_waited_for() -> None:
    run = new_run(queued_at=DatabaseNow(-MINUTE))
    assert "no live worker serves the queue “default”" in explain(run.pk)[0]
    new_cluster()
    assert explain(run.pk)[0] == (
        "Due for 1 min 0 s, waits for a free worker of the queue “default”."
    )
