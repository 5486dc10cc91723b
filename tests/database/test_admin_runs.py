"""The pages of runs: what the list and the page of one run say, and to whom."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin import AllValuesFieldListFilter, site
from django.test import RequestFactory, override_settings
from django.urls import reverse
from django.utils import timezone
from django.utils.html import strip_tags

from django_defer import pauses
from django_defer.admin import RunAdmin, search
from django_defer.admin.rendering import short_id
from django_defer.explanations import state_in_words
from django_defer.models import BackgroundFunction, Cluster, CronDefinition, Run
from django_defer.states import Outcome, Reason, State
from django_defer.sync import sync
from tests.admin_rows import (
    HOSTILE,
    TRACEBACK,
    ago,
    call,
    log_in_with,
    make_attempt,
    make_cluster,
    make_finished,
    make_retrying,
    make_run,
    make_slot,
)

if TYPE_CHECKING:
    from django.test import Client
    from pytest_django.fixtures import DjangoAssertNumQueries

pytestmark = pytest.mark.django_db

LIST = "/admin/django_defer/run/"
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def page_of(run: Run) -> str:
    return f"{LIST}{run.pk}/change/"


def read(client: Client, url: str, **query: Any) -> str:
    response = client.get(url, query)
    assert response.status_code == 200
    return response.content.decode().replace("\xa0", " ")


def ids_listed(client: Client, **query: Any) -> set[Any]:
    response = client.get(LIST, query)
    assert response.status_code == 200
    return {run.pk for run in response.context["cl"].result_list}


# -- the list ----------------------------------------------------------------------------------


def test_the_list_shows_what_a_person_asks_first(admin_client: Client) -> None:
    parent = make_finished(function_id="testapp.weekly")
    make_retrying(label="Ada", parent=parent, losses=1)
    text = read(admin_client, LIST)
    assert "testapp.recommend" in text
    assert "Ada" in text
    assert "retrying" in text
    assert "2 of 17, lost once" in text
    assert short_id(parent.pk) in text
    assert "9.0 s" in text
    assert "1.3 s" in text


def test_the_list_takes_the_same_number_of_queries_for_any_number_of_rows(
    admin_client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    parent = make_finished()
    make_retrying(parent=parent, root=parent)
    with django_assert_num_queries(8):
        read(admin_client, LIST)
    for number in range(20):
        make_retrying(label=str(number), parent=make_finished(), root=parent)
    with django_assert_num_queries(8):
        read(admin_client, LIST)


def test_the_list_leaves_arguments_and_results_in_the_database(admin_client: Client) -> None:
    make_finished()
    row = admin_client.get(LIST).context["cl"].result_list[0]
    assert row.get_deferred_fields() == {"args", "result", "metadata", "error_message"}


def test_a_run_of_a_function_without_a_row_is_listed_and_shown(admin_client: Client) -> None:
    run = make_run(function_id="shop.gone", state=State.PARKED, reason=Reason.NO_CODE)
    assert not BackgroundFunction.objects.filter(pk="shop.gone").exists()
    assert "shop.gone" in read(admin_client, LIST)
    text = read(admin_client, page_of(run))
    assert "Waits: no live worker&#x27;s code has shop.gone." in text


@pytest.mark.parametrize("state", State.values)
def test_a_state_can_be_filtered(admin_client: Client, state: str) -> None:
    runs = {each: make_run(state=each) for each in State.values}
    make_retrying()
    assert ids_listed(admin_client, state=state) == {runs[state].pk}


def test_retrying_is_a_state_of_its_own_in_the_filter(admin_client: Client) -> None:
    make_run(state=State.SCHEDULED)
    failed, lost = make_retrying(), make_run(state=State.SCHEDULED, losses=1)
    assert ids_listed(admin_client, state="retrying") == {failed.pk, lost.pk}


def test_runs_are_filtered_by_function_queue_parent_and_origin(admin_client: Client) -> None:
    sync()
    definition = CronDefinition.objects.get(function="testapp.weekly")
    slot = make_slot(definition, datetime(2026, 11, 23, 8, tzinfo=UTC), succeeded=1)
    child = Run.objects.get(parent=slot)
    alone = make_run(function_id="shop.gone", queue="mail")
    again = make_run(rerun_of=alone)
    assert ids_listed(admin_client, function="shop.gone") == {alone.pk}
    assert ids_listed(admin_client, queue="mail") == {alone.pk}
    assert ids_listed(admin_client, parent=slot.pk) == {child.pk}
    assert ids_listed(admin_client, parent="nonsense") == set()
    assert ids_listed(admin_client, definition=definition.pk) == {slot.pk}
    assert ids_listed(admin_client, definition="x") == set()
    assert ids_listed(admin_client, origin="slot") == {slot.pk}
    assert ids_listed(admin_client, origin="run") == {child.pk}
    assert ids_listed(admin_client, origin="rerun") == {again.pk}
    assert ids_listed(admin_client, origin="call") == {alone.pk}


@pytest.mark.parametrize("span", ["hour", "today", "day", "week"])
def test_runs_are_filtered_by_when_they_were_enqueued(admin_client: Client, span: str) -> None:
    new = make_run()
    make_run(enqueued_at=ago(days=8))
    assert ids_listed(admin_client, enqueued=span) == {new.pk}


def test_a_run_is_found_by_its_id_its_beginning_and_its_end(admin_client: Client) -> None:
    run = make_run()
    make_run(id="01800000-0000-7000-8000-000000000000")
    for text in (str(run.pk), run.pk.hex, str(run.pk)[:13], short_id(run.pk)):
        assert ids_listed(admin_client, q=text) == {run.pk}, text


def test_a_run_is_found_by_function_label_and_error(admin_client: Client) -> None:
    labelled = make_run(label="Ada Lovelace")
    failed = make_finished(State.FAILED, error_class="ValueError", error_message="no luck")
    elsewhere = make_run(function_id="shop.gone")
    assert ids_listed(admin_client, q="lovelace") == {labelled.pk}
    assert ids_listed(admin_client, q="no luck") == {failed.pk}
    assert ids_listed(admin_client, q="ValueError") == {failed.pk}
    assert ids_listed(admin_client, q="shop.") == {elsewhere.pk}
    assert ids_listed(admin_client, q="\x00") == {labelled.pk, failed.pk, elsewhere.pk}


def test_text_is_looked_for_in_the_newest_runs_only(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST_SEARCHED", 2)
    monkeypatch.setattr(search, "MOST_WITHIN", 2)
    make_run(label="mail")
    newest = [make_run(label="mail"), make_run(label="mail")]
    assert ids_listed(admin_client, q="mail") == {run.pk for run in newest}


# -- the page of one run -------------------------------------------------------------------------


def words(run: Run) -> str:
    run.refresh_from_db()
    return state_in_words(run, datetime.now(UTC)).replace("\xa0", " ")


def test_a_retry_says_which_attempt_it_will_be_and_when() -> None:
    at = datetime(2027, 1, 25, 8, 4, 12, tzinfo=UTC)
    run = make_retrying(run_after=at)
    assert words(run).startswith("Retrying: attempt 3 of 17 at 2027-01-25 08:04:12 UTC (in ")


def test_a_lost_run_says_when_it_starts_again_and_no_number_of_a_retry() -> None:
    at = datetime(2027, 1, 25, 8, 4, 12, tzinfo=UTC)
    run = make_retrying(run_after=at, attempt=3, losses=1)
    make_attempt(run, 3, outcome=Outcome.LOST)
    assert words(run).startswith("Lost, starts again at 2027-01-25 08:04:12 UTC (in ")
    make_attempt(run, 4)
    assert words(run).startswith("Retrying: attempt 3 of 17 at ")


def test_a_run_that_a_stopping_worker_gave_up_was_lost_without_counting() -> None:
    run = make_run(state=State.SCHEDULED, attempt=1, run_after=ago(seconds=-2))
    make_attempt(run, 1, outcome=Outcome.LOST)
    assert words(run).startswith("Lost, starts again at ")


@pytest.mark.parametrize(
    "columns",
    [
        {"state": State.SCHEDULED, "run_after": ago(hours=-3)},
        {"state": State.QUEUED},
        {"state": State.PARKED, "reason": Reason.FUNCTION_PAUSED},
    ],
    ids=["scheduled", "queued", "parked"],
)
@pytest.mark.parametrize(("attempt", "word"), [(0, "started"), (1, "started again")])
def test_a_waiting_run_says_by_when_it_must_have_started(
    columns: dict[str, Any], attempt: int, word: str
) -> None:
    until = datetime(2027, 1, 25, 8, tzinfo=UTC)
    run = make_run(**columns, discard_after=until, attempt=attempt, failures=attempt)
    end = f". Discarded if it has not {word} by 2027-01-25 08:00:00 UTC."
    assert words(run).endswith(end)
    Run.objects.filter(pk=run.pk).update(state=State.RUNNING, started_at=ago(seconds=1))
    assert "Discarded" not in words(run)


def test_a_deadline_is_shown_in_the_current_time_zone() -> None:
    run = make_run(discard_after=datetime(2027, 1, 25, 8, tzinfo=UTC))
    with timezone.override("Asia/Tokyo"):
        assert words(run).endswith("by 2027-01-25 17:00:00 Asia/Tokyo.")


def test_a_run_that_failed_since_a_retry_would_come_too_late_says_so() -> None:
    run = make_finished(
        State.FAILED,
        failures=1,
        error_class="ValueError",
        error_message="no luck.",
        reason=Reason.EXPIRED,
        discard_after=datetime(2026, 7, 1, 8, tzinfo=UTC),
    )
    assert words(run) == (
        "Failed for good after 1 attempt: ValueError: no luck. Not tried again: the next attempt "
        "could not have started by 2026-07-01 08:00:00 UTC."
    )


def test_a_delayed_run_says_until_when_it_waits() -> None:
    run = make_run(state=State.SCHEDULED, run_after=ago(hours=-3, seconds=-5))
    assert words(run).startswith("Waits until ")
    assert "UTC (in 3 h)" in words(run)


def test_a_queued_run_says_what_it_waits_for() -> None:
    sync()
    run = make_run(queue="mail", queued_at=ago(seconds=30))
    assert "no live worker serves the queue “mail”" in words(run)
    make_cluster(queues=["other"])
    assert "no live worker serves the queue “mail”" in words(run)
    make_cluster(queues=["mail"])
    assert "waits for a free worker of the queue “mail”" in words(run)
    BackgroundFunction.objects.filter(pk="testapp.add").update(paused_at=ago(days=1))
    assert "its function is paused" in words(run)
    pauses.pause_queue("mail")
    assert "the queue “mail” is paused" in words(run)


def test_a_silent_cluster_serves_no_queue() -> None:
    make_cluster(beat_at=ago(minutes=5))
    assert "no live worker" in words(make_run())


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"state": State.PARKED, "reason": Reason.FUNCTION_PAUSED}, "Waits: testapp.add is paused"),
        ({"state": State.PARKED}, "Waits: no reason was recorded."),
        ({"state": State.CLAIMED}, "Handed to a worker, about to start."),
        ({"state": State.SUCCEEDED, "attempt": 1}, "Succeeded in 1.3 s."),
        ({"state": State.SUCCEEDED, "attempt": 3}, "Succeeded at attempt 3, in 1.3 s."),
        (
            {
                "state": State.FAILED,
                "attempt": 17,
                "failures": 17,
                "error_class": "ValueError",
                "error_message": "no luck\nat all",
            },
            "Failed for good after 17 attempts: ValueError: no luck",
        ),
        ({"state": State.FAILED, "attempt": 3, "losses": 3}, "after 3 attempts (lost 3 times)."),
        ({"state": State.CANCELLED, "reason": "cancelled by ada"}, "Cancelled by ada."),
        ({"state": State.CANCELLED, "reason": "not needed"}, "Cancelled: not needed."),
        ({"state": State.SKIPPED, "reason": Reason.MISSED}, "Skipped: no scheduler ran"),
        ({"state": State.ABORTED}, "Aborted."),
        ({"state": State.ABORTED, "reason": "aborted by ada"}, "Aborted by ada."),
        ({"state": State.ABORTED, "reason": "not this one"}, "Aborted: not this one."),
        ({"state": State.DISCARDED}, "Discarded."),
        (
            {"state": State.DISCARDED, "reason": Reason.EXPIRED, "discard_after": NOON},
            "Discarded: it had not started by 2026-07-01 12:00:00 UTC.",
        ),
        (
            {
                "state": State.DISCARDED,
                "reason": Reason.EXPIRED,
                "discard_after": NOON,
                "attempt": 1,
            },
            "Discarded: it had not started again by 2026-07-01 12:00:00 UTC.",
        ),
        (
            {"state": State.DISCARDED, "reason": Reason.EXPIRED},
            "Discarded: it had not started by its deadline.",
        ),
    ],
)
def test_a_state_is_said_with_its_reason(columns: dict[str, Any], sentence: str) -> None:
    times = {"started_at": ago(seconds=91.3), "finished_at": ago(seconds=90)}
    assert sentence in words(make_run(**{**times, **columns}))


def test_a_running_run_says_where_and_for_how_long() -> None:
    cluster: Cluster = make_cluster()
    run = make_run(
        state=State.RUNNING, attempt=2, failures=1, started_at=ago(seconds=75), cluster=cluster.pk
    )
    assert words(run) == "Has run for 1 min 15 s on worker-1.internal:4711, attempt 2 of 17."
    requested = datetime(2026, 7, 1, 8, 4, 12, tzinfo=UTC)
    Run.objects.filter(pk=run.pk).update(abort_requested_at=requested, reason="aborted by ada")
    assert words(run) == (
        "Aborting since 2026-07-01 08:04:12 UTC (aborted by ada); has run for 1 min 15 s"
        " on worker-1.internal:4711."
    )


def test_every_state_has_a_sentence_and_a_colour(admin_client: Client) -> None:
    from pathlib import Path

    import django_defer

    css = (Path(django_defer.__file__).parent / "static/django_defer/admin.css").read_text()
    for state in State.values:
        run = make_run(state=state, started_at=ago(seconds=9), finished_at=ago(seconds=8))
        assert words(run)
        assert f"defer-badge--{state}" in read(admin_client, page_of(run))
    for kind in {*State.values, *Outcome.values, "retrying", "aborting", "paused", "active"}:
        assert f".defer-badge--{kind}" in css, kind


def test_the_page_shows_times_with_the_name_of_the_zone(admin_client: Client) -> None:
    run = make_run(enqueued_at=datetime(2026, 7, 1, 8, 4, 12, tzinfo=UTC))
    text = read(admin_client, page_of(run))
    assert '2026-07-01 08:04:12 <span class="defer-quiet">UTC</span>' in text
    with override_settings(TIME_ZONE="Europe/Paris"), timezone.override("Europe/Paris"):
        text = read(admin_client, page_of(run))
    assert '2026-07-01 10:04:12 <span class="defer-quiet">Europe/Paris</span>' in text


@override_settings(USE_TZ=False, TIME_ZONE="Europe/Paris")
def test_without_time_zones_times_are_in_utc(admin_client: Client) -> None:
    run = make_run(enqueued_at=datetime(2026, 7, 1, 8, 4, 12, tzinfo=UTC))
    for url in (LIST, page_of(run)):
        text = read(admin_client, url)
        assert "08:04:12" in text
        assert '<span class="defer-quiet">UTC</span>' in text


def test_the_page_shows_arguments_by_name_and_the_result(admin_client: Client) -> None:
    sync()
    run = make_finished(result={"sum": 3}, args=call(1, second={"$decimal": "2.50"}))
    text = read(admin_client, page_of(run))
    assert "first = 1\nsecond = Decimal(&#x27;2.50&#x27;)" in text
    assert "{&#x27;sum&#x27;: 3}" in text


def test_long_arguments_are_indented_and_cut(admin_client: Client) -> None:
    run = make_run(args=call({"names": ["a long name of somebody"] * 9}, "x" * 90_000))
    text = read(admin_client, page_of(run))
    assert "first = {\n    &#x27;names&#x27;: [\n        &#x27;a long name" in text
    assert "x" * 3000 in text
    assert "x" * 5000 not in text


@pytest.mark.parametrize("args", [[], {}, None, "text", {"args": 1}])
def test_arguments_of_an_unknown_form_are_shown_as_they_are(
    admin_client: Client, args: Any
) -> None:
    run = make_run(args={"kept": args})
    assert "kept" in read(admin_client, page_of(run))


def test_data_is_hidden_from_those_who_may_not_see_it(client: Client) -> None:
    log_in_with(client, "view_run")
    run = make_finished(args=call("secret argument"), result="secret result")
    text = read(client, page_of(run))
    assert "secret" not in text
    assert text.count("Hidden: you may not view arguments and results of runs.") == 2


def test_data_is_shown_to_those_who_may_see_it(client: Client) -> None:
    log_in_with(client, "view_run", "view_run_data")
    run = make_finished(args=call("secret argument"), result="secret result")
    text = read(client, page_of(run))
    assert "secret argument" in text
    assert "secret result" in text


def test_the_page_shows_the_error_and_every_attempt(admin_client: Client) -> None:
    run = make_finished(
        State.FAILED, attempt=3, failures=2, losses=1, error_class="E", error_message="last"
    )
    make_attempt(run, 1)
    make_attempt(
        run,
        2,
        outcome=Outcome.LOST,
        error_class="",
        error_message="killed, possibly out of memory",
        traceback="",
        exit_code=-9,
        signal="SIGKILL",
    )
    make_attempt(run, 3, outcome=Outcome.FAILED, traceback="the last traceback")
    text = read(admin_client, page_of(run))
    assert "the last traceback</pre>" in text
    assert "signal SIGKILL, exit code -9" in text
    assert "killed, possibly out of memory" in text
    assert TRACEBACK.splitlines()[-1] in text
    assert text.count("<details") == 2


def test_an_error_without_a_traceback_is_shown(admin_client: Client) -> None:
    run = make_finished(State.FAILED, losses=3, error_message="lost 3 times, last: host is gone")
    assert "lost 3 times, last: host is gone</pre>" in read(admin_client, page_of(run))


def test_the_page_of_a_run_with_thousands_of_attempts_shows_the_latest(
    admin_client: Client,
) -> None:
    run = make_run(attempt=60)
    for number in range(1, 61):
        make_attempt(run, number, traceback=f"traceback of {number}.")
    text = read(admin_client, page_of(run))
    assert "traceback of 60." in text
    assert "traceback of 11." in text
    assert "traceback of 10." not in text


def test_the_successful_attempt_is_listed_after_the_others(admin_client: Client) -> None:
    run = make_finished(attempt=2, failures=1)
    make_attempt(run, 1)
    text = read(admin_client, page_of(run))
    assert text.index("retried</span>") < text.rindex("succeeded</span>")


def test_the_page_links_parent_root_rerun_and_reruns(admin_client: Client) -> None:
    root, parent = make_finished(), make_finished()
    first = make_finished(State.FAILED, parent=parent, root=root)
    again = make_run(rerun_of=first, parent=parent, root=root)
    text = read(admin_client, page_of(first))
    for other in (root, parent, again):
        assert page_of(other) in text
    assert page_of(first) in read(admin_client, page_of(again))


def test_children_are_counted_by_state_with_links_to_them(admin_client: Client) -> None:
    parent = make_finished()
    for state, count in {State.SUCCEEDED: 3, State.FAILED: 1, State.SCHEDULED: 1}.items():
        for _ in range(count):
            make_run(parent=parent, state=state)
    make_retrying(parent=parent)
    text = read(admin_client, page_of(parent))
    link = f'<a href="{LIST}?parent={parent.pk}'
    assert (
        f'This run enqueued {link}">6</a>: {link}&amp;state=succeeded">3 succeeded</a>, '
        f'{link}&amp;state=scheduled">1 scheduled</a>, {link}&amp;state=retrying">1 retrying</a>, '
        f'{link}&amp;state=failed">1 failed</a>.'
    ) in text


def test_the_run_of_a_slot_says_how_its_fan_out_went(admin_client: Client) -> None:
    sync()
    definition = CronDefinition.objects.get(function="testapp.weekly")
    slot = datetime(2026, 11, 23, 8, tzinfo=UTC)
    run = make_slot(definition, slot, succeeded=4, retrying=2, failed=1)
    text = strip_tags(read(admin_client, page_of(run)))
    assert "Slot Monday 2026-11-23 08:00 UTC: 4 of 7 succeeded, 2 retrying, 1 failed." in text


def test_a_slot_of_which_nothing_succeeded_says_so(admin_client: Client) -> None:
    sync()
    definition = CronDefinition.objects.get(function="testapp.weekly")
    run = make_slot(definition, datetime(2026, 11, 23, 8, tzinfo=UTC), failed=2)
    assert "0 of 2 succeeded, 2 failed." in strip_tags(read(admin_client, page_of(run)))


def test_the_page_takes_the_same_number_of_queries_for_any_number_of_children(
    admin_client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    parent = make_finished(parent=make_finished())
    for _ in range(10):
        make_retrying(parent=parent)
    with django_assert_max_num_queries(13):
        read(admin_client, page_of(parent))


# -- hostile text --------------------------------------------------------------------------------


def test_hostile_text_stays_text_everywhere(admin_client: Client) -> None:
    run = make_finished(
        State.FAILED,
        function_id=HOSTILE,
        label=HOSTILE,
        queue=HOSTILE,
        reason=HOSTILE,
        args=call(HOSTILE, **{HOSTILE: [HOSTILE] * 9}),
        error_class=HOSTILE,
        error_message=HOSTILE,
        enqueued_by=HOSTILE,
    )
    make_attempt(
        run,
        error_class=HOSTILE,
        error_message=HOSTILE,
        traceback=HOSTILE,
        signal="<b>9",
        worker="<i>",
    )
    done = make_finished(function_id=HOSTILE, label=HOSTILE, result=HOSTILE, parent=run)
    again = make_run(function_id=HOSTILE, label=HOSTILE, parent=run, rerun_of=run)
    queries = [{}, {"function": HOSTILE}, {"queue": HOSTILE}, {"q": HOSTILE}, {"parent": HOSTILE}]
    for text in (
        *(read(admin_client, LIST, **query) for query in queries),
        *(read(admin_client, page_of(each)) for each in (run, done, again)),
    ):
        assert "<script>alert" not in text
        assert "<b>9" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in read(admin_client, page_of(run))


# -- what nobody may do --------------------------------------------------------------------------


def test_there_is_no_form_to_add_change_or_delete_a_run(admin_client: Client) -> None:
    run = make_run()
    text = read(admin_client, page_of(run))
    assert "_save" not in text
    assert admin_client.post(page_of(run), {"state": "failed"}).status_code == 405
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.get(f"{LIST}{run.pk}/delete/").status_code == 403
    assert "delete_selected" not in read(admin_client, LIST)


def test_a_person_without_the_permission_to_view_sees_nothing(client: Client) -> None:
    log_in_with(client, "view_cluster")
    run = make_run()
    assert client.get(LIST).status_code == 403
    assert client.get(page_of(run)).status_code == 403


@pytest.mark.parametrize("object_id", ["01800000-0000-7000-8000-0000deadbeef", "nonsense"])
def test_a_run_that_is_gone_leads_to_the_list(admin_client: Client, object_id: str) -> None:
    response = admin_client.get(f"{LIST}{object_id}/change/", follow=True)
    assert response.redirect_chain == [(LIST, 302)]
    assert "There is no such run (any more)." in response.content.decode()


def test_the_history_says_in_which_zone_its_times_are(admin_client: Client) -> None:
    run = make_run()
    url = reverse("admin:django_defer_run_history", args=[run.pk])
    assert "Times are in UTC." in read(admin_client, url)


# -- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lookup",
    [
        "args__args__0__startswith",
        "result__startswith",
        "metadata__secret",
        "error_message__contains",
        "key__startswith",
        "label",
        "state__in",
        "parent__args__args__0__startswith",
        "function__options__contains",
    ],
)
def test_an_address_asks_for_nothing_but_what_the_filters_offer(
    client: Client, lookup: str
) -> None:
    log_in_with(client, "view_run", "view_run_data")
    make_run(args=call("hunter2"))
    assert client.get(LIST, {lookup: "h"}).status_code == 400


def test_a_filter_added_by_a_project_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    model_admin, request = RunAdmin(Run, site), RequestFactory().get("/")
    added = ("priority", ("label", AllValuesFieldListFilter))
    monkeypatch.setattr(model_admin, "list_filter", (*RunAdmin.list_filter, *added))
    for lookup in ("priority", "priority__exact", "label__isnull", "state", "parent"):
        assert model_admin.lookup_allowed(lookup, "1", request)
    for lookup in ("args", "labels", "parent__args"):
        assert not model_admin.lookup_allowed(lookup, "1", request)


@pytest.mark.parametrize("model", ["backgroundfunction", "crondefinition", "cluster", "queue"])
def test_the_other_lists_ask_for_nothing_else_either(admin_client: Client, model: str) -> None:
    url = f"/admin/django_defer/{model}/"
    assert admin_client.get(url).status_code == 200
    for lookup in ("pk__startswith", "runs__args__startswith", "pause_reason__contains"):
        assert admin_client.get(url, {lookup: "h"}).status_code == 400
