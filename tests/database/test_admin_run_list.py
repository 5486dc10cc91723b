"""The list of runs: pages that stay where they are, numbers without counting, filters in bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_defer.admin import choice_filters, counting, reading, run_list
from django_defer.admin.counting import roughly
from django_defer.ids import first_uuid7_of
from django_defer.models import BackgroundFunction, CronDefinition, Run
from django_defer.states import State
from django_defer.sync import sync
from tests import runs
from tests.admin_rows import HOSTILE, log_in_with, make_finished, make_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.test import Client
    from pytest_django.fixtures import DjangoAssertNumQueries

pytestmark = runs.in_transaction

LIST = "/admin/django_defer/run/"
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def pages_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_defer.admin.RunAdmin.list_per_page", 3)


def changelist(client: Client, address: str = LIST, **query: Any) -> Any:
    response = client.get(address, query)
    assert response.status_code == 200
    return response.context["cl"]


def listed(client: Client, address: str = LIST, **query: Any) -> list[UUID]:
    return [run.pk for run in changelist(client, address, **query).result_list]


def text_of(client: Client, address: str = LIST, **query: Any) -> str:
    response = client.get(address, query)
    assert response.status_code == 200
    return " ".join(response.content.decode().replace("\xa0", " ").split())


def make_runs(count: int, **columns: Any) -> list[UUID]:
    """Return the ids of new runs, the newest first."""
    return [make_run(**columns).pk for _ in range(count)][::-1]


def all_pages(client: Client, **query: Any) -> list[list[UUID]]:
    """Follow "Older" to the end."""
    pages, url = [], "?" + "&".join(f"{name}={value}" for name, value in query.items())
    while url:
        shown = changelist(client, LIST + url)
        pages.append([run.pk for run in shown.result_list])
        url = shown.older_url
        assert len(pages) < 50
    return pages


# -- pages ---------------------------------------------------------------------------------------


def test_older_leads_through_all_runs_and_newer_back(admin_client: Client) -> None:
    ids = make_runs(8)
    assert all_pages(admin_client) == [ids[:3], ids[3:6], ids[6:]]
    last = changelist(admin_client, before=ids[5])
    assert last.older_url == ""
    middle = changelist(admin_client, LIST + last.newer_url)
    assert [run.pk for run in middle.result_list] == ids[3:6]
    assert listed(admin_client, LIST + middle.older_url) == ids[6:]
    assert listed(admin_client, LIST + middle.newer_url) == ids[:3]
    assert listed(admin_client, LIST + last.newest_url) == ids[:3]


def test_a_page_stays_where_it_is_while_runs_arrive(admin_client: Client) -> None:
    ids = make_runs(6)
    older = changelist(admin_client).older_url
    newer = make_runs(4)
    assert listed(admin_client, LIST + older) == ids[3:]
    back = changelist(admin_client, LIST + older).newer_url
    assert listed(admin_client, LIST + back) == ids[:3]
    assert listed(admin_client) == newer[:3]


def test_newer_fills_the_first_page(admin_client: Client) -> None:
    ids = make_runs(5)
    shown = changelist(admin_client, after=ids[1])
    assert [run.pk for run in shown.result_list] == ids[:3]
    assert shown.is_first_page
    assert shown.newer_url == ""


def test_the_links_keep_filters_and_search(admin_client: Client) -> None:
    ids = make_runs(7, label="Ada", queue="mail")
    make_runs(2, label="Ada")
    make_runs(2, queue="mail")
    first = changelist(admin_client, queue="mail", q="Ada")
    assert dict(parse_qsl(urlsplit(first.older_url).query)) == {
        "queue": "mail",
        "q": "Ada",
        "before": str(ids[2]),
    }
    second = changelist(admin_client, LIST + first.older_url)
    assert [run.pk for run in second.result_list] == ids[3:6]
    assert dict(parse_qsl(urlsplit(second.newer_url).query)) == {
        "queue": "mail",
        "q": "Ada",
        "after": str(ids[3]),
    }
    assert dict(parse_qsl(urlsplit(second.newest_url).query)) == {"queue": "mail", "q": "Ada"}


def test_a_filter_begins_with_the_first_page(admin_client: Client) -> None:
    ids = make_runs(5)
    text = text_of(admin_client, before=ids[2])
    assert "state=failed" in text
    assert text.count("before=") == text.count("after=") - 1 == 0
    assert 'name="before"' not in text


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "1",
        "62821d31-c8d6-49d2-9090-7c5556a2b42c",
        "'; --",
        "\x00",
        "0" * 32,
        "f" * 33,
        "💥",
    ],
)
@pytest.mark.parametrize("name", ["before", "after"])
def test_a_cursor_that_no_run_can_have_gives_the_first_page(
    admin_client: Client, name: str, cursor: str
) -> None:
    ids = make_runs(4)
    shown = changelist(admin_client, **{name: cursor})
    assert [run.pk for run in shown.result_list] == ids[:3]
    assert shown.is_first_page


@pytest.mark.parametrize("cursor", ["ffffffff-ffff-7fff-bfff-ffffffffffff", "0" * 12 + "7" * 20])
@pytest.mark.parametrize("name", ["before", "after"])
def test_a_cursor_at_an_end_of_time_is_a_place_to_go_back_from(
    admin_client: Client, name: str, cursor: str
) -> None:
    ids = make_runs(4)
    shown = changelist(admin_client, **{name: cursor})
    for url in filter(None, (shown.newer_url, shown.older_url)):
        assert len(listed(admin_client, LIST + url)) > 0
    assert listed(admin_client, LIST + shown.newest_url) == ids[:3]


def test_the_place_of_a_pruned_run_is_still_a_place(admin_client: Client) -> None:
    ids = make_runs(7)
    older = changelist(admin_client).older_url
    Run.objects.filter(pk__in=ids[1:4]).delete()
    assert listed(admin_client, LIST + older) == ids[4:]


def test_numbers_of_pages_and_orders_of_old_are_ignored(admin_client: Client) -> None:
    ids = make_runs(4)
    for query in ({"p": "2"}, {"p": "x"}, {"o": "3"}, {"o": "-1.2"}, {"all": ""}, {"o": "'"}):
        assert listed(admin_client, **query) == ids[:3]


def test_the_page_takes_few_queries_wherever_it_is(
    admin_client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    sync()
    ids = make_runs(12, queue="mail", parent=make_finished())
    for query in ({}, {"before": ids[4]}, {"after": ids[6]}, {"queue": "mail", "before": ids[4]}):
        with django_assert_max_num_queries(13):
            listed(admin_client, **query)


# -- how many ------------------------------------------------------------------------------------


def test_few_runs_are_counted_exactly_on_every_page(admin_client: Client) -> None:
    ids = make_runs(7, queue="mail")
    make_runs(2)
    for query in ({}, {"before": ids[2]}, {"before": ids[5]}, {"q": "testapp"}):
        assert "<span>7 runs</span>" in text_of(admin_client, queue="mail", **query)
    assert "<span>1 run</span>" in text_of(admin_client, q=str(ids[0]))
    assert "<span>0 runs</span>" in text_of(admin_client, state="failed")


def test_many_runs_are_not_counted(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "planned", lambda _rows: None)
    monkeypatch.setattr(run_list, "MOST_EXACT", 5)
    ids = make_runs(9)
    with CaptureQueriesContext(runs.database()) as queries:
        text = text_of(admin_client, before=ids[3])
        text_of(admin_client, q="testapp")
    assert "<span>6 or more runs</span>" in text
    assert not [query for query in queries if "COUNT(" in query["sql"].upper()]


@pytest.mark.postgres
def test_the_planner_says_how_many_there_are(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_list, "MOST_EXACT", 5)
    runs.fill(State.SUCCEEDED, 3012, enqueued_at="now()")
    runs.fill(State.FAILED, 1988, enqueued_at="now()", id=runs.uuid7_sql("now()"))
    assert "<span>about 5,000 runs</span>" in text_of(admin_client)
    assert "<span>about 2,000 runs</span>" in text_of(admin_client, state="failed")
    assert "Select all runs that match (about 2,000)" in text_of(admin_client, state="failed")
    assert "6 or more runs" in text_of(admin_client, q="testapp")


@pytest.mark.postgres
def test_the_estimate_of_a_time_is_not_made_small_twice(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_list, "MOST_EXACT", 5)
    at = "now() - n * interval '1 minute'"
    runs.fill(State.SUCCEEDED, 20_000, id=runs.uuid7_sql(at), enqueued_at=at)
    n = changelist(admin_client, enqueued="day").count.n
    assert 1300 <= n <= 1700


@pytest.mark.parametrize(
    ("estimate", "words"),
    [(7, "7"), (1_249, "1,200"), (4_987_654, "5,000,000"), (99_500, "100,000")],
)
def test_an_estimate_is_rounded(estimate: int, words: str) -> None:
    assert roughly(estimate).words == f"about {words}"


# -- filters that no index knows -----------------------------------------------------------------


def test_rare_runs_are_looked_for_part_by_part(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LOOKED_THROUGH", 4)
    monkeypatch.setattr(run_list, "LOOKED_THROUGH", 4)
    monkeypatch.setattr(counting, "planned", lambda rows: 0)  # other tests fill the table
    make_run(id=first_uuid7_of(NOON), queue="mail")
    make_run(id=first_uuid7_of(NOON + timedelta(hours=1)))
    for hour in range(2, 9):
        make_run(id=first_uuid7_of(NOON + timedelta(hours=hour)))
    text = text_of(admin_client, queue="mail")
    assert "4 runs were looked through, as far as 2026-07-01 17:00:00 UTC" in text
    assert "Look further back" in text
    assert "<span>perhaps some runs</span>" in text
    assert [len(page) for page in all_pages(admin_client, queue="mail")] == [0, 0, 1]
    last = changelist(admin_client, queue="mail", before=first_uuid7_of(NOON + timedelta(hours=1)))
    assert len(last.result_list) == 1
    back = changelist(admin_client, LIST + last.newer_url)
    assert back.looked_until == "2026-07-01 16:00:00 UTC"
    for _ in range(2):
        back = changelist(admin_client, LIST + back.newer_url)
    assert back.is_first_page


@pytest.mark.parametrize(
    "query",
    [
        {"state": "parked"},
        {"state": "queued", "queue": "mail"},
        {"parent": "01800000-0000-7000-8000-000000000000"},
        {"q": "testapp.add_async"},
        {"function": "testapp.add_async"},
        {"function": "testapp.add_async", "queue": "mail"},
        {"state": "failed"},
    ],
)
def test_runs_that_an_index_knows_are_found_however_old_they_are(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, query: dict[str, str]
) -> None:
    monkeypatch.setattr(reading, "LOOKED_THROUGH", 6)
    columns = {
        "state": query.get("state", "queued"),
        "queue": query.get("queue", "default"),
        "parent_id": query.get("parent"),
        "function_id": "testapp.add_async",
    }
    ids = make_runs(5, **columns)
    make_runs(9, state=State.SUCCEEDED)
    assert all_pages(admin_client, **query) == [ids[:3], ids[3:]]
    assert listed(admin_client, **query, after=ids[3]) == ids[:3]
    assert changelist(admin_client, **query).count.words == "5"


def test_a_text_is_looked_for_in_the_newest_of_a_function(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_defer.admin.search.MOST_SEARCHED", 3)
    monkeypatch.setattr("django_defer.admin.search.MOST_WITHIN", 3)
    ids = make_runs(3, function_id="shop.rare", label="Ada")
    make_runs(5)
    assert listed(admin_client, q="Ada") == []
    assert listed(admin_client, q="Ada", function="shop.rare") == ids
    assert listed(admin_client, q="Ada", queue="default") == []
    until = f"{datetime.now(UTC) + timedelta(minutes=2):%Y-%m-%dT%H:%M}"
    assert listed(admin_client, q="Ada", function="shop.rare", until=until) == ids


# -- from when until when ------------------------------------------------------------------------


@pytest.fixture
def hours() -> dict[int, UUID]:
    """A run enqueued at each hour of a day."""
    times = {hour: NOON.replace(hour=hour) for hour in range(24)}
    return {
        hour: make_run(id=first_uuid7_of(at + timedelta(seconds=20)), enqueued_at=at).pk
        for hour, at in times.items()
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"from": "2026-07-01T21:00"}, [23, 22, 21]),
        ({"from": "2026-07-01T21:00:01"}, [23, 22]),
        ({"until": "2026-07-01T02:00"}, [1, 0]),
        ({"from": "2026-07-01 08:00", "until": "2026-07-01 10:00"}, [9, 8]),
        ({"from": "", "until": ""}, [23, 22, 21]),
        ({"from": "2026-07-01T21:00", "enqueued": "hour"}, [23, 22, 21]),
    ],
)
def test_runs_are_filtered_from_and_until_a_time(
    admin_client: Client, hours: dict[int, UUID], query: dict[str, str], expected: list[int]
) -> None:
    assert listed(admin_client, **query) == [hours[hour] for hour in expected]


def test_the_times_are_in_the_current_zone(admin_client: Client, hours: dict[int, UUID]) -> None:
    with override_settings(TIME_ZONE="Europe/Paris"), timezone.override("Europe/Paris"):
        query = {"from": "2026-07-01T08:00", "until": "2026-07-01T10:00"}
        assert listed(admin_client, **query) == [hours[7], hours[6]]
        assert "In Europe/Paris." in text_of(admin_client)
    with override_settings(USE_TZ=False, TIME_ZONE="Europe/Paris"):
        assert listed(admin_client, **query) == [hours[9], hours[8]]
        assert "In UTC." in text_of(admin_client)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"from": "yesterday"}, "From: Enter a valid date/time."),
        ({"until": "2026-02-30T10:00"}, "Until: Enter a valid date/time."),
        ({"from": "0001-01-01T00:00"}, "From: Enter a year from 1971 to 8999."),
        ({"until": "9999-12-31T23:59"}, "Until: Enter a year from 1971 to 8999."),
        (
            {"from": "2026-07-02T00:00", "until": "2026-07-01T00:00"},
            "Until: This is not after “From”.",
        ),
        ({"from": HOSTILE}, "From: Enter a valid date/time."),
    ],
)
def test_a_time_that_cannot_be_understood_is_said_and_lists_nothing(
    admin_client: Client, hours: dict[int, UUID], query: dict[str, str], message: str
) -> None:
    text = text_of(admin_client, **query)
    assert f'<p class="errornote">{message} Nothing is listed until this is corrected.' in text
    assert 'aria-invalid="true"' in text
    assert listed(admin_client, **query) == []
    assert HOSTILE not in text
    post = {"action": "cancel_selected", "index": "0", "select_across": "1"}
    address = f"{LIST}?{'&'.join(f'{name}={value}' for name, value in query.items())}"
    page = admin_client.post(address, {**post, "_selected_action": "all"})
    assert "This is about all 0 runs" in " ".join(page.content.decode().split())


def test_a_time_that_does_not_exist_is_said(admin_client: Client) -> None:
    with override_settings(TIME_ZONE="Europe/Paris"), timezone.override("Europe/Paris"):
        text = text_of(admin_client, **{"from": "2026-03-29T02:30"})
    assert "may not exist" in text


def test_the_form_keeps_the_other_filters_and_the_spans_empty_it(admin_client: Client) -> None:
    ids = make_runs(4, queue="mail")
    query = {"queue": "mail", "q": "testapp", "from": "2026-07-01T08:00", "before": str(ids[2])}
    text = text_of(admin_client, **query)
    form = text[text.index('<form method="get" class="defer-filter" novalidate>') :]
    form = form[: form.index("</form>")]
    assert '<input type="hidden" name="queue" value="mail">' in form
    assert '<input type="hidden" name="q" value="testapp">' in form
    assert 'value="2026-07-01T08:00"' in form
    assert 'type="hidden" name="from"' not in form
    assert 'name="before"' not in form
    assert 'href="?enqueued=hour&amp;q=testapp&amp;queue=mail"' in text.replace(
        "&amp;", "&"
    ).replace("&", "&amp;")


# -- thousands to choose from --------------------------------------------------------------------


@pytest.fixture
def many_functions() -> None:
    BackgroundFunction.objects.bulk_create(
        BackgroundFunction(key=f"shop.f{n:04}", queue=f"q{n % 40}", module="shop.defer", line=n)
        for n in range(2_000)
    )
    CronDefinition.objects.bulk_create(
        CronDefinition(function_id=f"shop.f{n:04}", kind="cron", code_expression="0 8 * * *")
        for n in range(500)
    )


def links_of(text: str, name: str) -> int:
    return text.replace("&amp;", "&").count(f"?{name}=")


@pytest.mark.usefixtures("many_functions")
def test_thousands_are_not_listed(admin_client: Client) -> None:
    text = text_of(admin_client)
    for name in ("function", "definition", "queue"):
        assert links_of(text, name) == choice_filters.MOST_OFFERED
        assert f'name="find_{name}"' in text
    assert 'name="find_error"' not in text
    assert len(text) < 60_000


@pytest.mark.usefixtures("many_functions")
def test_a_box_finds_the_others_and_leaves_the_list_as_it_is(admin_client: Client) -> None:
    ids = make_runs(2, function_id="shop.f1234")
    text = text_of(admin_client, find_function="F123")
    assert links_of(text, "function") == 10
    assert "?function=shop.f1234" in text
    assert listed(admin_client, find_function="nothing") == ids
    assert "Nothing found." in text_of(admin_client, find_function="nothing")
    assert "find_function" not in changelist(admin_client, function="shop.f1234").older_url
    assert listed(admin_client, function="shop.f1234") == ids
    assert "shop.f1234</a>" in text_of(admin_client, function="shop.f1234")


def test_a_function_without_a_row_can_be_asked_for(admin_client: Client) -> None:
    ids = make_runs(1, function_id="shop.gone")
    assert listed(admin_client, function="shop.gone") == ids


def test_runs_are_filtered_by_attempts_and_class_of_error(admin_client: Client) -> None:
    first = make_finished(State.FAILED, attempt=2, failures=2, error_class="ValueError")
    second = make_finished(State.SUCCEEDED, attempt=2, losses=1)
    make_finished()
    assert listed(admin_client, trouble="attempts") == [second.pk, first.pk]
    assert listed(admin_client, trouble="losses") == [second.pk]
    assert listed(admin_client, error="ValueError") == [first.pk]
    assert "?error=ValueError" in text_of(admin_client)


@pytest.mark.parametrize(
    "name",
    ["state", "function", "queue", "definition", "trouble", "error", "origin", "parent", "from"],
)
def test_text_that_no_database_holds_is_no_error(admin_client: Client, name: str) -> None:
    assert admin_client.get(LIST, {name: "\x00"}, follow=True).status_code == 200
    assert admin_client.get(LIST, {f"find_{name}": "\x00"}, follow=True).status_code in (200, 400)


def test_a_person_who_may_only_view_finds_runs_too(client: Client) -> None:
    log_in_with(client, "view_run")
    ids = make_runs(4)
    assert all_pages(client) == [ids[:3], ids[3:]]
    assert 'name="action"' not in text_of(client)


# -- all that match ------------------------------------------------------------------------------


def select_all(client: Client, address: str) -> Any:
    fields = {"action": "cancel_selected", "index": "0", "select_across": "1"}
    return client.post(address, {**fields, "_selected_action": "all"})


def test_an_action_for_all_is_about_every_page(admin_client: Client) -> None:
    ids = make_runs(7, queue="mail")
    make_runs(2)
    page = select_all(admin_client, f"{LIST}?queue=mail&before={ids[2]}&find_function=x")
    text = " ".join(page.content.decode().split())
    assert "This is about all 7 runs that match" in text
    assert "<li>queue: mail</li>" in text
    assert "before:" not in text
    assert "find_function:" not in text
    assert LogEntry.objects.count() == 0


def test_what_is_done_to_many_is_not_counted(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "planned", lambda _rows: None)
    monkeypatch.setattr("django_defer.admin.all_matching.MOST_COUNTED", 4)
    make_runs(6)
    with CaptureQueriesContext(runs.database()) as queries:
        page = select_all(admin_client, LIST)
    text = " ".join(page.content.decode().split())
    assert "This is about all 5 or more runs" in text
    assert not [query for query in queries if "COUNT(" in query["sql"].upper()]


def test_selected_rows_of_a_later_page_are_acted_on(admin_client: Client) -> None:
    ids: Sequence[UUID] = make_runs(6)
    fields = {"action": "cancel_selected", "index": "0", "select_across": "0"}
    address = f"{LIST}?before={ids[2]}"
    chosen = {**fields, "_selected_action": [str(ids[3]), str(ids[5])]}
    response = admin_client.post(address, chosen, follow=True)
    assert response.redirect_chain == [(address, 302)]
    assert set(Run.objects.filter(state="cancelled").values_list("pk", flat=True)) == {
        ids[3],
        ids[5],
    }
