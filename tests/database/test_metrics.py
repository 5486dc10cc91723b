"""The metrics for Prometheus: what the database says, in bounds, and not to everybody."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.db import InterfaceError, OperationalError, connections
from django.test import override_settings
from django.urls import reverse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from django_defer.alerts.events import Event
from django_defer.checks.settings import check_settings
from django_defer.clock import DatabaseNow, database_now
from django_defer.ids import first_uuid7_of
from django_defer.metrics import collector as collector_module
from django_defer.metrics import numbers, statements
from django_defer.metrics.collector import DeferCollector
from django_defer.metrics.views import collector, metrics
from django_defer.models import Alert, BackgroundFunction, Run
from django_defer.pauses import pause_queue
from django_defer.states import FINISHED, UNFINISHED, State
from tests import runs
from tests.runs import (
    DATABASE,
    captured,
    database,
    defer_settings,
    fill,
    new_cluster,
    new_definition,
    new_run,
    plan_of,
)
from tests.scratch import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from django.test import Client

pytestmark = runs.in_transaction

URL = "/defer/metrics"
TOKEN = "a-token-of-the-tests"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
DAY = timedelta(days=1)
HOSTILE = 'shop."quoted"\\n\\\n# HELP {a="b",} 1\r\x00é😀'.replace("\x00", "\x01")

Labels = tuple[tuple[str, str], ...]


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    collector.cache_clear()
    with defer_settings(METRICS_TOKEN=TOKEN):
        yield


def get(client: Client, token: str | None = TOKEN, **headers: str) -> Any:
    """Ask for the page anew, with this token."""
    collector.cache_clear()
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return client.get(URL, headers=headers)


def scrape(client: Client) -> dict[str, dict[Labels, float]]:
    """Return what Prometheus would store: by name and labels."""
    response = get(client)
    assert response.status_code == 200
    return stored(parse_text(response.content.decode()))


def parsed_openmetrics(text: str) -> Any:
    return parse_openmetrics(text)  # type: ignore[no-untyped-call]


def stored(families: Any) -> dict[str, dict[Labels, float]]:
    found: dict[str, dict[Labels, float]] = {}
    for family in families:
        for sample in family.samples:
            series = found.setdefault(sample.name, {})
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in series, "two values of one series"
            series[labels] = sample.value
    return found


def of(**labels: str) -> Labels:
    return tuple(sorted(labels.items()))


def ended(
    ago: timedelta = MINUTE,
    state: State = State.SUCCEEDED,
    function: str = "shop.pay",
    *,
    enqueued: timedelta | None = None,
    waited: float = 1,
    took: float = 2,
    **columns: Any,
) -> Run:
    """Insert a run that ended so long ago, with an id of the time at which it was enqueued."""
    finished_at = database_now(DATABASE) - ago
    started_at = finished_at - timedelta(seconds=took)
    due_at = started_at - timedelta(seconds=waited)
    enqueued_at = due_at if enqueued is None else database_now(DATABASE) - enqueued
    first = first_uuid7_of(enqueued_at)
    values = {
        "id": type(first)(int=first.int + Run.objects.count() + 1),
        "enqueued_at": enqueued_at,
        "queued_at": due_at,
        "started_at": started_at,
        "finished_at": finished_at,
    }
    return new_run(function, state, **values | columns)


# -- numbers -------------------------------------------------------------------------------------


def test_its_address_has_a_name() -> None:
    assert reverse("django_defer_metrics:metrics") == URL


def test_runs_are_counted_by_function_and_outcome_as_the_rows_say(client: Client) -> None:
    for state in sorted(FINISHED):
        ended(state=state)
    ended(function="shop.mail")
    ended(function="shop.mail")
    new_run("shop.mail", State.RUNNING)
    ended(61 * MINUTE)
    found = scrape(client)
    expected = {of(function="shop.pay", outcome=state): 1 for state in FINISHED}
    expected |= {
        of(function="shop.mail", outcome="succeeded"): 2,
        of(function="shop.mail", outcome="failed"): 0,
    }
    assert found["defer_recent_runs_finished"] == expected
    assert found["defer_recent_window_seconds"] == {(): 3600}
    assert found["defer_up"] == {(): 1}


def test_what_was_enqueued_long_ago_counts_when_it_ends(client: Client) -> None:
    ended(enqueued=20 * HOUR)
    ended(state=State.FAILED, enqueued=30 * DAY)
    series = scrape(client)["defer_recent_runs_finished"]
    assert series[of(function="shop.pay", outcome="succeeded")] == 1
    assert series[of(function="shop.pay", outcome="failed")] == 1


def test_of_more_runs_than_are_read_the_window_is_as_long_as_the_newest_reach_back(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_defer.history_statements.MOST_RUNS", 3)
    for minutes in range(1, 6):
        ended(minutes * MINUTE, waited=0, took=0)
        ended(minutes * MINUTE, State.FAILED, waited=0, took=0, enqueued=30 * DAY)
    found = scrape(client)
    assert 239 <= found["defer_recent_window_seconds"][()] <= 260
    series = found["defer_recent_runs_finished"]
    succeeded, failed = (
        series[of(function="shop.pay", outcome=word)] for word in ("succeeded", "failed")
    )
    assert succeeded == failed  # both of the same span
    assert 3 <= succeeded <= 4


def test_durations_and_waits_fall_into_their_buckets(client: Client) -> None:
    for took in (0.05, 0.3, 0.4, 20, 100_000):
        ended(took=took, waited=took / 10, queue="mail", enqueued=23 * HOUR)
    ended(state=State.SKIPPED, queue="mail")  # took no time at all
    found = scrape(client)
    buckets = {
        float(dict(labels)["le"]): value
        for labels, value in found["defer_recent_run_duration_seconds_bucket"].items()
        if dict(labels)["function"] == "shop.pay"
    }
    assert list(buckets) == [*statements.BUCKETS, float("inf")]
    assert list(buckets.values()) == [0, 1, 3, 3, 3, 3, 4, 4, 4, 4, 4, 5]
    pay, mail = of(function="shop.pay"), of(queue="mail")
    total = pytest.approx(100_020.75, abs=0.1)
    assert found["defer_recent_run_duration_seconds_gsum"][pay] == total
    assert found["defer_recent_run_duration_seconds_gcount"][pay] == 5
    waits = found["defer_recent_run_wait_seconds_bucket"]
    assert waits[of(queue="mail", le="0.01")] == 1
    assert waits[of(queue="mail", le="5.0")] == 4
    assert waits[of(queue="mail", le="+Inf")] == 5
    assert found["defer_recent_run_wait_seconds_gcount"][mail] == 5


def test_a_clock_that_went_back_makes_no_negative_sum(client: Client) -> None:
    ended(took=-1, waited=-1)
    found = scrape(client)
    assert found["defer_recent_run_duration_seconds_gsum"][of(function="shop.pay")] == 0
    assert found["defer_recent_run_wait_seconds_gsum"][of(queue="default")] == 0


def test_runs_that_have_not_ended_are_counted_by_queue_and_state(client: Client) -> None:
    for state in UNFINISHED:
        new_run(state=state, queue="mail")
    new_run(state=State.SCHEDULED, queue="mail")
    BackgroundFunction.objects.create(key="shop.print", queue="printer")
    found = scrape(client)
    expected = {
        of(queue=name, state=state): 0 for name in ("mail", "printer") for state in UNFINISHED
    }
    expected |= {of(queue="mail", state=state): 1 for state in UNFINISHED}
    expected[of(queue="mail", state="scheduled")] = 2
    assert found["defer_queue_runs"] == expected
    assert set(found["defer_queue_runs_capped"].values()) == {0}
    assert found["defer_queue_oldest_due_seconds"][of(queue="printer")] == 0


def test_the_oldest_due_run_of_a_queue_has_its_age(client: Client) -> None:
    new_run(queue="mail", queued_at=DatabaseNow(-HOUR))
    new_run(queue="mail", queued_at=DatabaseNow(-MINUTE))
    new_run(queue="slow", queued_at=DatabaseNow(-MINUTE))
    pause_queue("slow")
    found = scrape(client)
    ages = found["defer_queue_oldest_due_seconds"]
    assert 3600 <= ages[of(queue="mail")] < 3630
    assert 60 <= ages[of(queue="slow")] < 90
    assert found["defer_queue_paused"] == {of(queue="mail"): 0, of(queue="slow"): 1}


def test_where_more_runs_wait_than_are_counted_it_says_so(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "MOST_WAITING", 2)
    monkeypatch.setattr(numbers, "MOST_WAITING", 2)
    for _ in range(2):
        new_run(state=State.PARKED)
    for _ in range(5):
        new_run(state=State.SCHEDULED)
    found = scrape(client)
    assert found["defer_queue_runs"][of(queue="default", state="scheduled")] == 3
    assert found["defer_queue_runs_capped"] == {
        of(state="parked"): 0,
        of(state="queued"): 0,
        of(state="scheduled"): 1,
    }


def test_slots_are_late_by_what_began_late_and_by_what_has_not_fired(client: Client) -> None:
    weekly, nightly = new_definition("shop.weekly"), new_definition("shop.nightly")
    now = database_now(DATABASE)
    begun: dict[str, Any] = {"started_at": now - 10 * MINUTE}
    ended(function="shop.weekly", definition=weekly, slot=now - 12 * MINUTE, **begun)
    ended(function="shop.weekly", definition=weekly, slot=now - 15 * MINUTE, **begun)
    ended(function="shop.weekly", definition=weekly, slot=now - HOUR, failures=1, **begun)
    nightly.next_slot_at = now - 5 * MINUTE
    nightly.save(update_fields=["next_slot_at"])
    new_definition("shop.broken", error="cannot be read", next_slot_at=now + HOUR)
    found = scrape(client)
    late = found["defer_recent_slot_lateness_seconds"]
    assert late == {of(function="shop.weekly"): pytest.approx(300, abs=1)}
    [(labels, seconds)] = found["defer_slot_overdue_seconds"].items()
    assert labels == of(function="shop.nightly")
    assert 300 <= seconds < 330
    assert 300 <= found["defer_scheduler_behind_seconds"][()] < 330
    assert found["defer_definitions_in_error"] == {(): 1}


def test_clusters_workers_and_the_last_tick_are_told(client: Client) -> None:
    assert "defer_scheduler_tick_age_seconds" not in scrape(client)
    new_cluster(workers=4, ticked_at=DatabaseNow(-2 * SECOND))
    new_cluster(workers=2, schedules=False)
    new_cluster(workers=8, beat_at=DatabaseNow(-HOUR))
    found = scrape(client)
    assert found["defer_clusters"] == {of(state="live"): 2, of(state="silent"): 1}
    assert found["defer_workers"] == {(): 6}
    assert 2 <= found["defer_scheduler_tick_age_seconds"][()] < 30
    assert found["defer_scheduler_behind_seconds"] == {(): 0}


def test_open_alerts_are_counted_by_event(client: Client) -> None:
    now = database_now(DATABASE)
    times = {"opened_at": now, "last_at": now}
    for subject in ("shop.pay", "shop.mail"):
        Alert.objects.create(event=Event.RUN_FAILED, subject=subject, **times)
    Alert.objects.create(event=Event.NO_WORKERS, closed_at=now, **times)
    expected = {of(event=event): 0.0 for event in Event} | {of(event="run_failed"): 2.0}
    assert scrape(client)["defer_alerts_open"] == expected


def test_nothing_is_a_counter_since_pruning_would_make_it_go_down(client: Client) -> None:
    ended()
    kinds = {family.type for family in parsed_openmetrics(openmetrics(client))}
    assert kinds == {"gauge", "gaugehistogram"}


def openmetrics(client: Client) -> str:
    response = get(client, Accept=OPENMETRICS)
    assert response["Content-Type"].startswith("application/openmetrics-text")
    text: str = response.content.decode()
    return text


def test_both_formats_say_the_same(client: Client) -> None:
    new_cluster(workers=3)
    ended(function=HOSTILE)
    new_definition("shop.late", next_slot_at=database_now(DATABASE) - HOUR)
    plain = scrape(client)
    other = stored(parsed_openmetrics(openmetrics(client)))
    assert plain.keys() == other.keys()
    for name in plain:
        if "overdue" not in name and "behind" not in name:  # these grow
            assert plain[name] == other[name], name


# -- bounds --------------------------------------------------------------------------------------


def test_a_hostile_name_is_one_label_and_nothing_else(client: Client) -> None:
    ended(function=HOSTILE)
    queue = HOSTILE[:40]
    ended(queue=queue)
    new_run(queue=queue, queued_at=DatabaseNow(-MINUTE))
    new_definition(HOSTILE, next_slot_at=database_now(DATABASE) - HOUR)
    found = scrape(client)
    assert found["defer_recent_runs_finished"][of(function=HOSTILE, outcome="succeeded")] == 1
    assert found["defer_recent_run_duration_seconds_gcount"][of(function=HOSTILE)] == 1
    assert of(function=HOSTILE) in found["defer_slot_overdue_seconds"]
    assert found["defer_recent_run_wait_seconds_gcount"][of(queue=queue)] == 1
    assert found["defer_queue_oldest_due_seconds"][of(queue=queue)] >= 60
    assert all(name.startswith("defer_") for name in found)


def test_the_busiest_functions_have_names_and_the_rest_is_other(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers, "MOST_FUNCTIONS", 3)
    for n in range(1, 7):
        for _ in range(n):
            ended(function=f"shop.f{n}", took=3)
    for _ in range(9):
        ended(function="other")  # a function of that name is never told apart from the rest
    for n in range(6):
        new_definition(f"shop.late{n}", next_slot_at=database_now(DATABASE) - HOUR)
    found = scrape(client)
    finished = {
        dict(labels)["function"]: value
        for labels, value in found["defer_recent_runs_finished"].items()
        if dict(labels)["outcome"] == "succeeded"
    }
    assert finished == {"shop.f6": 6, "shop.f5": 5, "shop.f4": 4, "other": 15}
    assert found["defer_recent_run_duration_seconds_gcount"][of(function="other")] == 15
    assert len(found["defer_slot_overdue_seconds"]) == 3


def test_queues_have_a_bound_too_and_so_have_the_queries(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers, "MOST_QUEUES", 3)
    for n in range(8):
        new_run(queue=f"q{n}", queued_at=DatabaseNow(-MINUTE))
        new_run(queue=f"q{n}", state=State.RUNNING)
        new_run(queue=f"q{n}", state=State.SCHEDULED)
        ended(queue=f"q{n}")
        BackgroundFunction.objects.create(key=f"shop.f{n}", queue=f"q{n}")
    with captured() as queries:
        found = scrape(client)
    assert len(runs.statements(queries)) == QUERIES + 3
    names = {dict(labels)["queue"] for labels in found["defer_queue_runs"]}
    assert names == {"q0", "q1", "q2", "other"}
    assert found["defer_queue_runs"][of(queue="other", state="running")] == 5
    assert found["defer_queue_runs"][of(queue="other", state="scheduled")] == 5
    assert found["defer_recent_run_wait_seconds_gcount"][of(queue="other")] == 5


QUERIES = 16  # and one for each queue in which runs wait


def test_the_number_of_queries_does_not_grow(client: Client) -> None:
    def count() -> int:
        with captured() as queries:
            scrape(client)
        return len(runs.statements(queries))

    assert count() == QUERIES
    for n in range(20):
        ended(function=f"shop.f{n}")
        new_run(f"shop.f{n}", State.SCHEDULED)
        new_run(f"shop.f{n}", State.RUNNING)
        new_definition(f"shop.f{n}", next_slot_at=database_now(DATABASE) - HOUR)
        new_cluster()
    assert count() == QUERIES


@pytest.mark.postgres
def test_every_query_goes_by_an_index_beside_many_runs(client: Client) -> None:
    past = "((extract(epoch FROM now()) - n * 60) * 1000)::bigint"  # a minute between two runs
    recent = "now() - n * interval '1 minute'"
    times = dict.fromkeys(("enqueued_at", "started_at", "finished_at"), recent)
    many = {State.SUCCEEDED: 40_000, State.FAILED: 8_000}
    many |= dict.fromkeys((State.QUEUED, State.SCHEDULED, State.PARKED), 12_000)
    for number, (state, count) in enumerate(many.items()):
        end = f"'7{number:03}8' || lpad(to_hex(n), 15, '0')"
        fill(state, count, id=f"(lpad(to_hex({past}), 12, '0') || {end})::uuid", **times)
    with captured() as queries:
        found = scrape(client)
    assert found["defer_queue_runs"][of(queue="default", state="scheduled")] == 10_001
    asked = [sql for sql in runs.statements(queries) if "django_defer_run" in sql]
    with runs.database().cursor() as cursor:  # as on a disk without a head to move
        cursor.execute("SET LOCAL random_page_cost = 1.1")
    plans = [plan_of(sql) for sql in asked]
    assert len(plans) >= 7
    for sql, plan in zip(asked, plans, strict=True):
        assert "Seq Scan on django_defer_run" not in plan, f"{sql}\n{plan}"


@pytest.mark.sqlite
def test_every_query_goes_by_an_index_on_sqlite(client: Client) -> None:
    ended()
    new_run()
    new_run(state=State.RUNNING)
    with captured() as queries:
        scrape(client)
    asked = [sql for sql in runs.statements(queries) if "django_defer_run" in sql]
    assert len(asked) >= 7
    with database().cursor() as cursor:
        for sql in asked:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            for *_, step in cursor.fetchall():
                whole = step.startswith("SCAN django_defer_run") and "USING" not in step
                assert not whole, f"{step}: {sql}"


def test_a_scrape_each_second_asks_the_database_once_in_some_seconds(client: Client) -> None:
    with captured() as first:
        get(client)
    assert runs.statements(first)
    ended()
    with captured() as second:
        response = client.get(URL, headers={"Authorization": f"Bearer {TOKEN}"})
    assert not runs.statements(second)
    assert b"shop.pay" not in response.content


def test_numbers_that_are_too_old_are_taken_anew() -> None:
    asked = DeferCollector(max_age=0)
    assert "shop.pay" not in generate_latest(registry_of(asked)).decode()
    ended()
    assert "shop.pay" in generate_latest(registry_of(asked)).decode()


def test_numbers_that_took_long_are_kept_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((100.0, 102.0, 121.9, 122.1, 122.2))  # four times QUICK: kept for 20 seconds

    class Clock:
        monotonic = staticmethod(lambda: next(times))

    asked = DeferCollector(max_age=5)
    monkeypatch.setattr(collector_module, "time", Clock)
    first = asked.snapshot()
    assert asked.snapshot() is first
    assert asked.snapshot() is not first


def test_who_waits_for_a_thread_that_hangs_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector_module, "PATIENCE", 0.01)
    asked = DeferCollector()
    with asked._lock:
        assert not asked.snapshot().is_up
    assert asked.snapshot().is_up


def registry_of(asked: DeferCollector) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(asked)
    return registry


def test_a_project_s_own_registry_takes_it_without_asking_the_database() -> None:
    with captured() as queries:
        registry = registry_of(DeferCollector())
    assert not runs.statements(queries)
    with pytest.raises(ValueError, match="defer_up"):
        registry.register(DeferCollector())
    assert "defer_workers" in stored(registry.collect())


# -- a database that is away ---------------------------------------------------------------------


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_database_that_does_not_answer_is_503_and_not_up(
    client: Client, error: type[Exception], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    asked: list[str] = []

    def fail(using: str) -> datetime:
        asked.append(using)
        raise error("connection to 10.0.0.7 failed")

    monkeypatch.setattr(collector_module, "database_now", fail)
    response = get(client)
    assert response.status_code == 503
    assert stored(parse_text(response.content.decode())) == {"defer_up": {(): 0}}
    assert b"10.0.0.7" not in response.content
    assert [record.name for record in caplog.records] == ["django_defer.metrics.collector"]
    # Those who ask right afterwards don't wait for it again.
    again = client.get(URL, headers={"Authorization": f"Bearer {TOKEN}"})
    assert again.status_code == 503
    assert asked == [DATABASE]


def test_no_transaction_is_opened_around_it_whatever_the_project_s_requests_do() -> None:
    assert metrics._non_atomic_requests >= set(connections)  # type: ignore[attr-defined]


# -- who may see it ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer é",
    ],
)
def test_without_the_token_it_is_401_and_asks_nothing(client: Client, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    with captured() as queries:
        response = client.get(URL, headers=headers)
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert b"defer_" not in response.content
    assert not runs.statements(queries)


@pytest.mark.parametrize("token", [None, ""])
@pytest.mark.parametrize("header", [None, "Bearer ", "Bearer None", f"Bearer {TOKEN}"])
def test_where_no_token_is_set_strangers_find_nothing(
    client: Client, token: str | None, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    with defer_settings(METRICS_TOKEN=token):
        assert client.get(URL, headers=headers).status_code == 404


def test_the_scheme_may_be_written_in_any_case(client: Client) -> None:
    assert client.get(URL, headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("token", [None, TOKEN])
def test_staff_who_may_view_runs_need_no_token(client: Client, token: str | None) -> None:
    with defer_settings(METRICS_TOKEN=token):
        user = User.objects.create_user("ada", is_staff=True)
        client.force_login(user)
        assert client.get(URL).status_code in (401, 404)
        user.user_permissions.add(Permission.objects.get(codename="view_run"))
        assert client.get(URL).status_code == 200
        assert get(client, "wrong-token-of-them").status_code in (401, 404)
        User.objects.update(is_staff=False)
        assert client.get(URL).status_code in (401, 404)


def test_a_token_is_enough_where_a_project_demands_a_login_everywhere(client: Client) -> None:
    wanted = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, wanted]):
        assert get(client).status_code == 200


def test_a_project_without_users_has_the_token(client: Client) -> None:
    with override_settings(MIDDLEWARE=[]):
        assert get(client).status_code == 200
        assert get(client, None).status_code == 401


def test_the_token_is_compared_in_constant_time(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[str, str]] = []

    def note(one: str, other: str) -> bool:
        compared.append((one, other))
        return False

    monkeypatch.setattr("django_defer.metrics.views.constant_time_compare", note)
    assert get(client).status_code == 401
    assert compared == [(TOKEN, TOKEN)]


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
def test_it_only_answers_get_and_head(client: Client, method: str) -> None:
    assert getattr(client, method)(URL).status_code == 405


def test_no_cache_keeps_it_and_no_session_is_made(client: Client) -> None:
    response = get(client)
    assert response["Cache-Control"] == "no-store"
    assert response["Content-Type"].startswith("text/plain; version=0.0.4")
    assert not response.cookies


# -- the library, and the check ------------------------------------------------------------------


def test_without_the_library_it_says_what_to_install(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    response = get(client)
    assert response.status_code == 501
    assert 'pip install "django-defer[prometheus]"' in response.content.decode()
    assert get(client, None).status_code == 401
    [message] = check_settings()
    assert (message.id, message.hint) == ("defer.W012", 'pip install "django-defer[prometheus]"')
    with defer_settings(METRICS_TOKEN=None):
        assert check_settings() == []


@pytest.mark.parametrize("token", ["short", "", "with a space in its middle", 1234567890123456])
def test_a_token_that_is_none_is_an_error_which_does_not_show_it(token: object) -> None:
    with defer_settings(METRICS_TOKEN=token):
        [message] = check_settings()
    assert message.id == "defer.E001"
    assert repr(token) not in message.msg
    assert "16 or more" in str(message.hint)


ASK = """
import django, sys
django.setup()
from django.test import Client
response = Client().get("/", headers={"Authorization": "Bearer a-token-of-the-tests"})
print(response.status_code, response.content.decode().splitlines()[-1], "|", sys.argv[1:])
"""
UNUSED = """
import django, sys
django.setup()
import django_defer.metrics.urls, django_defer.checks
print([name for name in sys.modules if name.startswith("prometheus")])
"""


def project(directory: Path) -> Project:
    """Return a project whose requests are transactions, and whose database is not there."""
    return Project(
        directory,
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(directory / "gone" / "db.sqlite3"),
                "ATOMIC_REQUESTS": True,
            }
        },
        DEFER={"METRICS_TOKEN": TOKEN},
        ROOT_URLCONF="django_defer.metrics.urls",
        ALLOWED_HOSTS=["*"],
    )


def test_a_database_that_is_really_away_is_503(tmp_path: Path) -> None:
    done = project(tmp_path).python("-c", ASK)
    assert done.stdout.startswith("503 defer_up 0.0 |"), done.stderr


def test_the_library_is_not_imported_before_somebody_asks(tmp_path: Path) -> None:
    done = project(tmp_path).python("-c", UNUSED)
    assert done.stdout == "[]\n", done.stderr
