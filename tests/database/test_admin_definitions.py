"""The list and the pages of cron definitions, readable or not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.utils.html import strip_tags

from django_defer import pauses
from django_defer.explanations import REASONS
from django_defer.models import BackgroundFunction, CronDefinition, Run
from django_defer.states import Reason, State
from django_defer.sync import sync
from tests.admin_pages import read, words
from tests.admin_rows import HOSTILE, ago, make_finished, make_run, make_slot

if TYPE_CHECKING:
    from django.test import Client

pytestmark = pytest.mark.django_db

SLOT = datetime(2026, 11, 23, 8, tzinfo=UTC)


def weekly(**columns: Any) -> CronDefinition:
    sync()
    CronDefinition.objects.filter(function="testapp.weekly").update(**columns)
    return CronDefinition.objects.get(function="testapp.weekly")


def test_a_definition_shows_its_schedule_in_words_and_its_next_slots(
    admin_client: Client,
) -> None:
    text = words(admin_client, "crondefinition", weekly())
    assert "0 8 * * MON UTC" in text
    assert "at 08:00 on Monday" in text
    assert text.count(" 08:00 UTC in ") == 5
    assert "Next due at " in text


def test_the_next_slots_are_shown_in_the_zone_of_the_definition_and_in_utc(
    admin_client: Client,
) -> None:
    text = words(admin_client, "crondefinition", weekly(code_timezone="Asia/Kolkata"))
    assert text.count(" 08:00 Asia/Kolkata Mon ") == 5
    assert text.count(" 02:30 UTC in ") == 5


def test_an_override_is_shown_beside_what_code_says(admin_client: Client) -> None:
    row = weekly(
        expression_override="0 9 * * *",
        timezone_override="Europe/Paris",
        overridden_by="ada",
        overridden_at=datetime(2026, 11, 1, 7, tzinfo=UTC),
    )
    text = words(admin_client, "crondefinition", row)
    assert "In force 0 9 * * * Europe/Paris" in text
    assert "In the code 0 8 * * MON UTC" in text
    assert "Overridden by ada" in text
    assert "Overridden at 2026-11-01 07:00:00 UTC" in text


def test_a_definition_shows_what_came_of_its_last_slot(admin_client: Client) -> None:
    row = weekly()
    run = make_slot(row, datetime(2026, 11, 23, 8, tzinfo=UTC), succeeded=2, failed=1)
    row.refresh_from_db()
    text = read(admin_client, "crondefinition", row)
    assert f"/admin/django_defer/run/{run.pk}/change/" in text
    assert "Monday 2026-11-23 08:00 UTC" in text
    assert "2 of 3 succeeded, 1 failed." in strip_tags(text)
    assert "succeeded" in read(admin_client, "crondefinition")


def test_a_paused_definition_says_who_paused_it_and_what_it_would_do(
    admin_client: Client,
) -> None:
    row = weekly()
    until = datetime(2027, 1, 4, tzinfo=UTC)
    pauses.pause(row, actor="ada", reason="holidays", until=until)
    text = words(admin_client, "crondefinition", row)
    assert "Paused by ada since " in text
    assert "until 2027-01-04 00:00:00 UTC: holidays" in text
    assert "Next slots once it is resumed" in text
    assert "paused" in read(admin_client, "crondefinition")


def test_a_definition_that_left_the_code_says_so(admin_client: Client) -> None:
    row = weekly(orphaned_at=ago(days=1), next_slot_at=None)
    text = words(admin_client, "crondefinition", row)
    assert "Not in the code since " in text
    assert "Next slots" not in text


@pytest.mark.parametrize("broken", ["61 * * * *", HOSTILE])
def test_a_broken_definition_is_shown_with_its_error(admin_client: Client, broken: str) -> None:
    row = weekly(expression_override=broken, overridden_by=HOSTILE, error=f"cannot read {HOSTILE}")
    for text in (read(admin_client, "crondefinition", row), read(admin_client, "crondefinition")):
        assert "<script>alert" not in text
    assert "error" in read(admin_client, "crondefinition")


def test_definitions_are_found_by_function_and_expression(admin_client: Client) -> None:
    weekly()
    assert "testapp.weekly</a>" in read(admin_client, "crondefinition", q="week")
    assert "testapp.weekly</a>" in read(admin_client, "crondefinition", q="MON")
    assert "testapp.weekly</a>" not in read(admin_client, "crondefinition", q="TUE")


def every(**columns: Any) -> CronDefinition:
    BackgroundFunction.objects.create(key="shop.poll")
    values = {
        "kind": CronDefinition.Kind.EVERY,
        "code_expression": "10s",
        "interval": timedelta(seconds=10),
        "anchor": SLOT,
    }
    return CronDefinition.objects.create(function_id="shop.poll", **values | columns)


# -- what it says of its schedule ----------------------------------------------------------------


def test_an_interval_has_no_zone_and_its_slots_have_seconds(admin_client: Client) -> None:
    row = every()
    text = words(admin_client, "crondefinition", row)
    assert "In force every 10s " in text
    assert "every 10s UTC" not in text
    assert "Counted from 2026-11-23 08:00:00 UTC" in text
    assert len(row.next_slots(5, SLOT)) == text.count(" UTC in ") == 5
    assert "0 UTC in 4" in text.partition("Next slots")[2]
    assert "every 10s" in words(admin_client, "crondefinition")


def test_an_override_is_a_sentence_with_what_the_code_says(admin_client: Client) -> None:
    row = weekly(expression_override="0 9 * * *", overridden_by="ada", overridden_at=SLOT)
    text = words(admin_client, "crondefinition", row)
    assert "Overridden by ada at 2026-11-23 08:00:00 UTC; the code says 0 8 * * MON UTC." in text
    assert "active overridden" in words(admin_client, "crondefinition")


def test_options_that_say_nothing_are_left_out(admin_client: Client) -> None:
    text = words(admin_client, "crondefinition", weekly())
    for name in ("Jitter", "Starts", "Ends", "waits for a retry", "Enabled by", "Earlier pauses"):
        assert name not in text, name


def test_options_are_said_in_words(admin_client: Client) -> None:
    row = weekly(
        catch_up="all",
        catch_up_window=timedelta(days=2),
        overlap="queue",
        supersede=True,
        jitter=timedelta(minutes=5),
        starts_at=SLOT,
        ends_at=datetime(2026, 11, 24, tzinfo=UTC),
        enabled=False,
        next_slot_at=None,
    )
    text = words(admin_client, "crondefinition", row)
    assert "Missed slots a run for every missed slot, no older than 2d" in text
    assert "Earlier run not finished wait for it" in text
    assert "Earlier run waits for a retry a new slot discards it" in text
    assert "Jitter up to 5m after the slot, at random" in text
    assert "Starts 2026-11-23 08:00:00 UTC" in text
    assert "Ends 2026-11-24 00:00:00 UTC" in text
    assert "Switched off by its code (enabled=)." in text
    assert "Next slots if it were enabled" in text


# -- the last slot -------------------------------------------------------------------------------


def last_slot(**columns: Any) -> CronDefinition:
    row = weekly(last_slot_at=SLOT)
    run = make_finished(function_id=row.function_id, definition=row, slot=SLOT, **columns)
    CronDefinition.objects.filter(pk=row.pk).update(last_run=run)
    row.refresh_from_db()
    return row


def test_a_last_slot_says_how_late_it_started_and_for_how_many_it_stands(
    admin_client: Client,
) -> None:
    row = last_slot(started_at=SLOT + timedelta(hours=2, minutes=5), missed_slots=2)
    run = Run.objects.get()
    for model, each in (("crondefinition", row), ("run", run)):
        text = words(admin_client, model, each)
        assert "How late started 2 h 5 min after it" in text
        assert "Stands for its slot and 2 missed ones before it" in text


def test_a_retry_says_which_attempt_started_how_late(admin_client: Client) -> None:
    row = last_slot(attempt=3, started_at=SLOT + timedelta(minutes=7), missed_slots=1000)
    text = words(admin_client, "crondefinition", row)
    assert "How late attempt 3 started 7 min 0 s after it" in text
    assert "Stands for its slot and 1,000 or more missed ones before it" in text


def test_a_skipped_slot_says_why_and_has_not_started(admin_client: Client) -> None:
    row = last_slot(state=State.SKIPPED, reason=Reason.OVERLAP, started_at=None)
    text = words(admin_client, "crondefinition", row)
    assert "State Skipped: the run of another slot was not finished." in text
    assert "How late" not in text


# -- pauses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unfired", "sentence"),
    [
        (SLOT - timedelta(days=700), "First slot not fired: Monday 2024-12-23 08:00 UTC ("),
        (SLOT + timedelta(days=7000), "First slot that will not fire: "),
    ],
)
def test_a_pause_says_which_slot_is_the_first_it_leaves_out(
    admin_client: Client, unfired: datetime, sentence: str
) -> None:
    row = weekly(paused_at=ago(days=1), unfired_slot_at=unfired, next_slot_at=None)
    assert sentence in words(admin_client, "crondefinition", row)


def test_earlier_pauses_are_listed_newest_first(admin_client: Client) -> None:
    row = weekly()
    for reason in ("the first", "the second"):
        row.pause(reason=reason, actor="ada")
        row.resume(actor="bob")
    text = words(admin_client, "crondefinition", row).partition("Earlier pauses")[2]
    assert "ada the second bob" in text
    assert text.index("the second") < text.index("the first")


@pytest.mark.parametrize(
    "pauses_", [None, "nonsense", [7, {}, {"from": HOSTILE, "to": 7, "reason": HOSTILE}]]
)
def test_a_record_of_pauses_that_is_none_is_shown_as_it_is(
    admin_client: Client, pauses_: Any
) -> None:
    text = read(admin_client, "crondefinition", weekly(pauses=pauses_ or []))
    assert "<script>alert" not in text


# -- what cannot be read -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"code_timezone": "Europe/Atlantis"}, "'Europe/Atlantis' is not a time zone"),
        ({"code_timezone": HOSTILE}, "is not a time zone"),
        ({"code_expression": "61 * * * *"}, "61"),
        ({"kind": "every", "interval": None, "code_expression": "10s"}, "run defer_sync"),
        ({"kind": "every", "expression_override": "soon", "anchor": SLOT}, "soon"),
    ],
)
def test_a_definition_that_cannot_be_read_is_listed_and_has_a_page(
    admin_client: Client, columns: dict[str, Any], reason: str
) -> None:
    row = weekly(**columns)
    text = words(admin_client, "crondefinition", row)
    assert reason in text.partition("Its schedule can't be read")[2].partition("Schedule ")[0]
    assert "None: the schedule can't be read." in text
    assert reason in words(admin_client, "crondefinition")
    assert "<script>alert" not in read(admin_client, "crondefinition", row)


def test_an_error_is_shown_in_full_with_when_it_is_looked_at_again(admin_client: Client) -> None:
    error = "no such zone: " + "x" * 900
    row = weekly(
        code_timezone="Europe/Atlantis",
        error=error,
        next_slot_at=datetime(2030, 1, 1, tzinfo=UTC),
        unfired_slot_at=SLOT - timedelta(days=700),
    )
    text = words(admin_client, "crondefinition", row)
    assert error in text
    assert "Fires nothing; looked at again at 2030-01-01 00:00:00 UTC" in text
    assert "First slot not fired: " in text
    assert "Next due" not in text
    assert "2030" not in words(admin_client, "crondefinition")


# -- the filter ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "columns"),
    [
        ("active", {}),
        ("paused", {"paused_at": SLOT}),
        ("orphaned", {"orphaned_at": SLOT}),
        ("error", {"error": "cannot be read"}),
        ("off", {"enabled": False}),
        ("overridden", {"timezone_override": "Asia/Tokyo"}),
    ],
)
def test_definitions_are_filtered_by_what_keeps_them_from_firing(
    admin_client: Client, status: str, columns: dict[str, Any]
) -> None:
    weekly(**columns)
    also = {"active"} if status == "overridden" else set()
    for each in ("active", "paused", "orphaned", "error", "off", "overridden"):
        is_listed = "testapp.weekly</a>" in read(admin_client, "crondefinition", status=each)
        assert is_listed == (each in {status} | also), each


# -- runs of slots -------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.SKIPPED, State.DISCARDED, State.PARKED])
@pytest.mark.parametrize("reason", list(Reason))
def test_no_run_shows_the_code_of_a_reason(
    admin_client: Client, state: State, reason: Reason
) -> None:
    text = words(admin_client, "run", make_run(state=state, reason=reason, slot=SLOT))
    assert f": {reason}." not in text


def test_every_reason_has_a_sentence() -> None:
    assert {reason for _, reason in REASONS} == set(Reason)


def test_a_missed_slot_says_how_many_it_stands_for(admin_client: Client) -> None:
    run = make_run(state=State.SKIPPED, reason=Reason.MISSED, slot=SLOT, missed_slots=3)
    text = words(admin_client, "run", run)
    assert "Skipped: no scheduler ran at that time, and its catch-up left it out. " in text
    assert "It stands for its slot and 3 missed ones before it." in text
