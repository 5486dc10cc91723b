"""The dashboard: each part says what is so, to those who may know, in a fixed number of queries."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin import AdminSite, site
from django.test import override_settings
from django.urls import path, reverse

from django_defer.admin import (
    BackgroundFunctionAdmin,
    ClusterAdmin,
    RunAdmin,
    judgement,
    timeline,
)
from django_defer.admin.dashboard_cards import MOST_FAILED
from django_defer.models import (
    AlertChannel,
    BackgroundFunction,
    Cluster,
    CronDefinition,
    Queue,
    Run,
)
from django_defer.reports import status
from django_defer.states import State
from django_defer.status_text import troubles
from tests.admin_rows import (
    HOSTILE,
    ago,
    log_in_with,
    make_alert,
    make_cluster,
    make_finished,
    make_run,
)
from tests.runs import captured, new_definition

if TYPE_CHECKING:
    from django.test import Client

pytestmark = pytest.mark.django_db

URL = "/admin/django_defer/"
NOON = datetime(2026, 11, 25, 12, 10, tzinfo=UTC)
runs_only = AdminSite(name="dashboard_runs_only")
runs_only.register(Run, RunAdmin)
workers_only = AdminSite(name="dashboard_workers_only")
workers_only.register(Cluster, ClusterAdmin)
workers_only.register(BackgroundFunction, BackgroundFunctionAdmin)

urlpatterns = [
    path("office/", site.urls),
    path("support/", runs_only.urls),
    path("workers/", workers_only.urls),
]


def page_of(client: Client, url: str = URL, **query: str) -> str:
    response = client.get(url, query)
    assert response.status_code == 200
    return response.content.decode().replace("\xa0", " ")


def text_of(page: str) -> str:
    """Return the text of a page or of a part of it, one space between words."""
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", page)).split())


def part(page: str, name: str) -> str:
    """Return the text of one section."""
    found = re.search(rf'<section[^>]* id="defer-{name}".*?</section>', page, re.DOTALL)
    assert found, f"there is no section {name}"
    return text_of(found.group())


def sections(page: str) -> list[str]:
    return re.findall(r'<section[^>]* id="defer-(\w+)"', page)


# -- what it says ----------------------------------------------------------------------------------


def test_its_parts_come_in_the_order_of_urgency(admin_client: Client) -> None:
    assert sections(page_of(admin_client)) == [
        "headline",
        "clusters",
        "queues",
        "alerts",
        "history",
        "failing",
        "busy",
        "failed",
        "slots",
        "definitions",
    ]


def test_with_a_worker_and_nothing_overdue_all_is_well(admin_client: Client) -> None:
    make_cluster()
    assert part(page_of(admin_client), "headline") == "All is well"


def test_without_a_worker_and_without_work_it_says_just_that(admin_client: Client) -> None:
    said = part(page_of(admin_client), "headline")
    assert said == "No worker is running, and nothing waits for one"


def test_troubles_are_counted_and_said(admin_client: Client) -> None:
    new_definition("shop.broken", error="unknown zone", next_slot_at=ago(minutes=-5))
    make_run()
    page = page_of(admin_client)
    said = part(page, "headline")
    assert said.startswith("2 things need attention No worker is running")
    assert "shop.broken cannot fire: unknown zone." in said
    assert "defer-headline--trouble" in page


@pytest.mark.parametrize("worker", [None, {}, {"queues": ["mail"]}, {"ticked_at": None}])
@pytest.mark.parametrize("work", ["nothing", "a run", "an overdue run", "a slot", "an error"])
def test_it_finds_as_many_troubles_as_the_command(
    admin_client: Client, admin_user: Any, rf: Any, worker: dict[str, Any] | None, work: str
) -> None:
    if worker is not None:
        make_cluster(**worker)
    if work == "a run":
        make_run(queued_at=ago(minutes=5))
    elif work == "an overdue run":
        make_run(state=State.SCHEDULED, run_after=ago(minutes=5))
    elif work == "a slot":
        new_definition(next_slot_at=ago(minutes=5))
    elif work == "an error":
        new_definition(next_slot_at=ago(minutes=-5), error="no such zone")
    request = rf.get(URL)
    request.user = admin_user
    found = status(datetime.now(UTC))
    viewer = judgement_viewer(request)
    assert len(list(judgement.troubles(found, viewer))) == len(list(troubles(found)))


def judgement_viewer(request: Any) -> Any:
    from django_defer.admin.viewers import Viewer

    return Viewer(request, site)


def test_a_cluster_shows_who_is_busy_and_who_is_idle(admin_client: Client) -> None:
    cluster = make_cluster()
    for worker in ("0.1", "1.1", "1.1"):
        make_run(state=State.RUNNING, attempt=1, cluster=cluster.pk, worker=worker)
    said = part(page_of(admin_client), "clusters")
    assert "worker-1.internal:4711 all live 2 s ago 2 2 3 h ago" in said
    assert "Scheduler: on time last tick 1 s ago" in said


def test_a_silent_cluster_is_said_to_be(admin_client: Client) -> None:
    make_cluster(beat_at=ago(minutes=5))
    make_cluster()
    page = page_of(admin_client)
    assert "silent 5 min ago" in part(page, "clusters")
    assert "1 cluster is silent" in part(page, "headline")


def test_a_scheduler_that_is_stalled_or_behind_is_said_to_be(admin_client: Client) -> None:
    new_definition(next_slot_at=ago(minutes=5))
    assert "Scheduler: stalled" in part(page_of(admin_client), "clusters")
    make_cluster()
    page = page_of(admin_client)
    assert "Scheduler: behind last tick 1 s ago" in part(page, "clusters")
    assert "testapp.weekly since" in part(page, "headline")


def test_queues_show_what_waits_how_long_and_what_is_paused(admin_client: Client) -> None:
    make_cluster(queues=["default"])
    for seconds in (10, 40):
        make_run(queued_at=ago(seconds=seconds))
    make_run(queue="mail", queued_at=ago(minutes=10))
    Queue.objects.create(name="bulk", paused_at=ago(hours=1), paused_by="ada", pause_reason="flu")
    said = part(page_of(admin_client), "queues")
    assert re.search(r"default open 2 4\d s ago 0", said)
    assert "mail no worker 1 10 min ago 0" in said
    assert re.search(r"bulk paused Paused by ada since [^:]*:.*: flu 0 – 0", said)


def test_the_numbers_of_the_hour_are_shown_and_drawn(admin_client: Client) -> None:
    for n in range(3):
        make_finished(State.FAILED if n == 2 else State.SUCCEEDED, failures=2 if n == 2 else 0)
    page = page_of(admin_client)
    said = part(page, "history")
    assert "failed 1 33.3 % of what ended" in said
    assert "took (median) 1.3 s 95 % within 1.3 s" in said
    assert 'aria-label="2 succeeded and 1 failed in the last hour"' in page
    assert page.count('class="defer-bar defer-bar--failed"') == 1
    assert part(page, "failing") == (
        "Functions by failures Function Failed runs Failed attempts testapp.add 1 2"
    )
    assert "testapp.add 3.9 s 3" in part(page, "busy")


@pytest.mark.parametrize(("span", "rows"), [("hour", 60), ("day", 48), ("week", 56), ("", 60)])
def test_each_span_has_a_table_of_its_parts(admin_client: Client, span: str, rows: int) -> None:
    page = page_of(admin_client, span=span)
    table = page.split('id="defer-table-parts"')[1].split("</table>")[0]
    assert table.count("<tr data-key") == rows
    assert table.count('<span class="defer-number">0</span>') == 2 * rows
    assert f'<a href="?span={span or "hour"}" aria-current="true">' in page


def test_a_span_that_is_none_is_the_hour(admin_client: Client) -> None:
    page = page_of(admin_client, span="'><script>")
    assert '<a href="?span=hour" aria-current="true">' in page
    assert "<script>" not in page


def test_a_sample_and_a_cap_are_said(admin_client: Client, monkeypatch: Any) -> None:
    from django_defer import history_statements

    monkeypatch.setattr(history_statements, "MOST_RUNS", 1)
    assert "Of the runs that were enqueued" in part(page_of(admin_client), "history")
    make_finished()
    make_finished()
    said = part(page_of(admin_client), "history")
    assert "Of the newest" in said or "Estimates from a sample" in said


def test_what_failed_last_leads_to_the_runs(admin_client: Client) -> None:
    late, *others = [
        make_finished(
            State.FAILED,
            error_class="ValueError",
            error_message=f"number {n}",
            finished_at=ago(minutes=n),
        )
        for n in range(MOST_FAILED + 1)
    ]
    page = page_of(admin_client)
    said = part(page, "failed")
    assert "ValueError: number 0 0 s ago" in said.replace(" 1 s ago", " 0 s ago")
    assert [int(n) for n in re.findall(r"number (\d)", said)] == list(range(MOST_FAILED))
    assert reverse("admin:django_defer_run_change", args=[late.pk]) in page
    assert reverse("admin:django_defer_run_change", args=[others[-1].pk]) not in page


def test_definitions_that_do_not_fire_are_listed_with_the_reason(admin_client: Client) -> None:
    new_definition("shop.fine", next_slot_at=ago(minutes=-5))
    new_definition("shop.late", next_slot_at=ago(minutes=5))
    new_definition("shop.gone", orphaned_at=ago(days=1))
    new_definition("shop.paused", paused_at=ago(days=1), paused_by="ada", pause_reason="holidays")
    new_definition("shop.wrong", error="no such zone")
    BackgroundFunction.objects.create(key="shop.held", paused_at=ago(days=1), pause_reason="flu")
    said = part(page_of(admin_client), "definitions")
    assert re.search(r"shop.wrong .* error no such zone", said)
    assert re.search(r"shop.late .* overdue The slot of .* has not fired", said)
    assert re.search(r"shop.gone .* not in the code Not in the code since", said)
    assert re.search(r"shop.paused .* paused Paused by ada since .*: holidays", said)
    assert re.search(r"shop.held function paused Paused since .*: flu", said)
    assert "shop.fine" not in said


def test_hostile_text_stays_text(admin_client: Client) -> None:
    make_finished(
        State.FAILED,
        function_id=HOSTILE,
        label=HOSTILE,
        error_class="ValueError",
        error_message=HOSTILE,
        failures=1,
    )
    make_run(queue=HOSTILE, queued_at=ago(minutes=5))
    make_cluster(host=HOSTILE, queues=["default"])
    new_definition(HOSTILE, error=HOSTILE, next_slot_at=ago(minutes=-5))
    new_definition(f"{HOSTILE}2", next_slot_at=ago(minutes=-5))
    BackgroundFunction.objects.filter(key=HOSTILE).update(
        paused_at=ago(days=1), pause_reason=HOSTILE
    )
    page = page_of(admin_client)
    assert "<script>" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 8


def test_nothing_is_inline(admin_client: Client) -> None:
    make_cluster()
    make_finished(State.FAILED)
    new_definition(next_slot_at=ago(minutes=-5))
    page = page_of(admin_client)
    assert not re.search(r"<style|<script(?![^>]*\bsrc=)[^>]*>|\sstyle=|\son\w+=", page)


# -- the next slots --------------------------------------------------------------------------------


def test_slots_are_counted_by_the_hour_in_the_order_of_time() -> None:
    new_definition("shop.daily", "30 14 * * *", NOON.replace(hour=14, minute=30))
    new_definition("shop.hourly", "0 * * * *", NOON.replace(hour=13, minute=0))
    found = timeline.timeline(NOON, UTC)
    assert [hour.begins_at.hour for hour in found.hours[:3]] == [12, 13, 14]
    assert [hour.count for hour in found.hours[:4]] == [0, 1, 2, 1]
    assert sum(hour.count for hour in found.hours) == 25
    assert [row.function_id for _slot, row in found.slots[:3]] == [
        "shop.hourly",
        "shop.hourly",
        "shop.daily",
    ]
    assert (found.often, found.until) == ([], None)


def test_an_overdue_slot_counts_as_due_in_this_hour() -> None:
    new_definition("shop.daily", "30 11 * * *", NOON - timedelta(minutes=40))
    found = timeline.timeline(NOON, UTC)
    assert [hour.count for hour in found.hours[:2]] == [1, 0]
    assert found.hours[23].count == 1


def test_what_fires_all_the_time_is_named_and_not_counted(admin_client: Client) -> None:
    new_definition("shop.often", "* * * * *", NOON.replace(minute=11))
    new_definition("shop.daily", "30 14 * * *", NOON.replace(hour=14, minute=30))
    found = timeline.timeline(NOON, UTC)
    assert [row.function_id for row in found.often] == ["shop.often"]
    assert sum(hour.count for hour in found.hours) == 1


def test_what_is_paused_off_or_in_error_has_no_slots() -> None:
    soon = NOON + timedelta(hours=1)
    new_definition("shop.paused", "0 * * * *", soon, paused_at=NOON)
    new_definition("shop.off", "0 * * * *", soon, enabled=False)
    new_definition("shop.wrong", "0 * * * *", soon, error="no such zone")
    new_definition("shop.unreadable", "x * * * *", soon)
    assert sum(hour.count for hour in timeline.timeline(NOON, UTC).hours) == 1


@pytest.mark.parametrize(("bound", "value"), [("MOST_SLOTS", 6), ("MOST_DEFINITIONS", 2)])
def test_many_slots_are_counted_so_far_and_no_further(
    monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    monkeypatch.setattr(timeline, bound, value)
    for n in range(3):
        first = NOON.replace(hour=13, minute=n * 20)
        new_definition(f"shop.f{n}", f"{n * 20} * * * *", first)
    found = timeline.timeline(NOON, UTC)
    counted = [hour.count for hour in found.hours]
    if bound == "MOST_SLOTS":
        assert found.until == NOON.replace(hour=15, minute=0)
        assert counted[:4] == [0, 3, 3, 0]
    else:
        assert found.until == NOON.replace(hour=13, minute=40)
        assert counted[:3] == [0, 2, 0]


def test_the_page_says_how_far_slots_are_counted(admin_client: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr(timeline, "MOST_SLOTS", 1)
    new_definition("shop.hourly", "0 * * * *", ago(minutes=-5))
    said = part(page_of(admin_client), "slots")
    assert "There are many: counted until" in said
    assert "shop.hourly in 5 min" in said.replace("in 300 s", "in 5 min")


# -- who sees what, and where ----------------------------------------------------------------------


def test_who_may_see_runs_sees_all_of_it_with_links_to_runs_alone(client: Client) -> None:
    log_in_with(client, "view_run")
    make_cluster()
    new_definition("shop.late", next_slot_at=ago(minutes=5))
    page = page_of(client)
    assert len(sections(page)) == 10
    assert "worker-1.internal:4711" in page
    assert "/run/?" in page
    assert not re.search(r'href="[^"]*/(cluster|crondefinition|queue|backgroundfunction)/', page)


@pytest.mark.parametrize(
    ("permission", "shown"),
    [
        ("view_cluster", ["headline", "clusters"]),
        ("view_queue", ["headline", "queues"]),
        ("view_crondefinition", ["headline", "slots", "definitions"]),
        ("view_backgroundfunction", ["headline", "definitions"]),
    ],
)
def test_others_see_the_parts_about_what_they_may_see(
    client: Client, permission: str, shown: list[str]
) -> None:
    log_in_with(client, permission)
    make_finished(State.FAILED, function_id="shop.secret", error_message="secret")
    new_definition("shop.secret", error="secret", next_slot_at=ago(minutes=-5))
    page = page_of(client)
    assert sections(page) == shown
    assert ("secret" in page) == (permission == "view_crondefinition")
    assert "/run/" not in page


def test_who_may_see_nothing_is_not_let_in(client: Client) -> None:
    log_in_with(client)
    assert client.get(URL).status_code == 404


def test_who_is_not_logged_in_is_sent_to_the_login(client: Client) -> None:
    response = client.get(URL)
    assert response.status_code == 302
    assert "/login/" in response["Location"]


def test_its_name_leads_there_with_what_was_asked(admin_client: Client) -> None:
    url = reverse("admin:django_defer_dashboard")
    response = admin_client.get(f"{url}?span=week")
    assert (response.status_code, response["Location"]) == (302, f"{URL}?span=week")
    assert admin_client.get(url)["Location"] == URL


@override_settings(ROOT_URLCONF=__name__)
def test_each_site_has_its_own_with_links_to_itself(admin_client: Client) -> None:
    run = make_finished(State.FAILED)
    make_cluster()
    new_definition(next_slot_at=ago(minutes=-5))
    for address, name, only in (
        ("/office/", "admin", None),
        ("/support/", runs_only.name, "run"),
        ("/workers/", workers_only.name, "cluster|backgroundfunction"),
    ):
        url = reverse("admin:django_defer_dashboard", current_app=name)
        response = admin_client.get(url)
        assert response["Location"] == f"{address}django_defer/"
        page = page_of(admin_client, response["Location"])
        assert len(sections(page)) == 10
        links = re.findall(r'href="(/\w+/)django_defer/(\w+)/', page)
        assert {site_address for site_address, _model in links} == {address}
        if only:
            assert {model for _address, model in links} <= set(only.split("|"))
        else:
            assert f"{address}django_defer/run/{run.pk}/change/" in page


@pytest.mark.parametrize(
    "model", ["run", "crondefinition", "backgroundfunction", "cluster", "queue"]
)
def test_each_list_leads_to_it(admin_client: Client, model: str) -> None:
    page = page_of(admin_client, f"{URL}{model}/")
    assert f'<li><a href="{URL}">Dashboard</a></li>' in page


def test_the_admins_index_leads_to_it(admin_client: Client) -> None:
    assert f'href="{URL}"' in page_of(admin_client, "/admin/")


@pytest.mark.django_db(databases=["default", "other"])
def test_it_shows_the_rows_of_the_database_that_is_set(admin_client: Client, settings: Any) -> None:
    settings.DEFER = {"DATABASE": "other"}
    make_finished(State.FAILED, function_id="shop.elsewhere")
    page = page_of(admin_client)
    assert "shop.elsewhere" in part(page, "failed")
    assert "failed 1 100.0 % of what ended" in part(page, "history")


# -- scale -----------------------------------------------------------------------------------------


@override_settings(DEFER={"ALERTS": [{"channel": "log", "name": f"c{n}"} for n in range(27)]})
def test_the_number_of_queries_does_not_grow(admin_client: Client) -> None:
    def fill(start: int, count: int) -> None:
        for n in range(start, start + count):
            state = State.FAILED if n % 2 else State.SUCCEEDED
            make_finished(state, function_id=f"shop.f{n}", failures=n % 2, label=f"n {n}")
            make_cluster(host=f"host-{n}")
            make_run(queued_at=ago(minutes=5))
            paused = {"paused_at": ago(days=1)} if n % 3 == 0 else {}
            new_definition(f"shop.f{n}", "0 * * * *", ago(minutes=-n), **paused)
            BackgroundFunction.objects.filter(key=f"shop.f{n}").update(**paused)
            make_alert(subject=f"shop.f{n}")
            AlertChannel.objects.create(name=f"c{n}", failures=1)

    fill(0, 2)
    page_of(admin_client)
    with captured() as few:
        page_of(admin_client)
    fill(2, 25)
    with captured() as many:
        page_of(admin_client)
    assert len(many) == len(few) <= 24


def test_it_never_counts_all_runs(admin_client: Client) -> None:
    make_finished()
    with captured() as queries:
        page_of(admin_client)
    for query in queries.captured_queries:
        sql = query["sql"]
        if "count(" in sql.lower() and "django_defer_run" in sql:
            assert re.search(r"id >= |LIMIT|\bIN \('claimed', 'running'\)", sql), sql
    assert CronDefinition.objects.count() == 0
