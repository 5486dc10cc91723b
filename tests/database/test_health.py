"""The health view: 200 or 503, the judgement of `defer_status`, and nothing private."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import InterfaceError, OperationalError, connections
from django.test import RequestFactory, override_settings
from django.urls import reverse

from django_defer import health as module
from django_defer.alerts import from_web
from django_defer.clock import DatabaseNow, database_now
from django_defer.health import health
from django_defer.models import Alert, AlertChannel, Cluster, CronDefinition
from django_defer.pauses import pause_queue
from django_defer.states import State
from tests import runs
from tests.channels import lines_of
from tests.runs import (
    DATABASE,
    captured,
    database,
    defer_settings,
    new_cluster,
    new_definition,
    new_run,
)
from tests.scratch import Project

if TYPE_CHECKING:
    from pathlib import Path

    from django.test import Client

pytestmark = runs.in_transaction

URL = "/defer/health"
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
KEYS = {
    "ok",
    "trouble",
    "now",
    "clusters",
    "scheduler_tick_age",
    "oldest_due_age",
    "definitions_in_trouble",
}
QUERIES = 10  # and one for each queue in which runs wait


def ask(client: Client) -> dict[str, Any]:
    """Return the answer, whose status code says what `ok` says, and `defer_status` too."""
    response = client.get(URL)
    data: dict[str, Any] = response.json()
    assert set(data) == KEYS
    assert response.status_code == (200 if data["ok"] else 503)
    assert data["ok"] == (data["trouble"] == [])
    try:
        call_command("defer_status", verbosity=0)
        is_well = True
    except CommandError:
        is_well = False
    assert data["ok"] == is_well
    return data


def test_its_address_has_a_name() -> None:
    assert reverse("django_defer:health") == URL


def test_all_is_well(client: Client) -> None:
    assert ask(client)["clusters"] == {"live": 0, "workers": 0}
    now = DatabaseNow()
    new_cluster(workers=4, ticked_at=DatabaseNow(-2 * SECOND))
    new_cluster(workers=2, beat_at=now, schedules=False)
    new_cluster(workers=8, beat_at=DatabaseNow(-HOUR))
    new_run(queued_at=DatabaseNow(-30 * SECOND))
    new_definition(next_slot_at=database_now(DATABASE) + HOUR)
    data = ask(client)
    assert data["ok"]
    assert data["clusters"] == {"live": 2, "workers": 6}
    assert 2 <= data["scheduler_tick_age"] < 20
    assert 30 <= data["oldest_due_age"] < 50
    assert data["definitions_in_trouble"] == 0


def no_workers() -> None:
    new_run()


def scheduler_stalled() -> None:
    new_cluster()
    new_definition(next_slot_at=database_now(DATABASE) - 2 * MINUTE)


def queue_unserved() -> None:
    new_cluster()
    new_run(queue="mail", queued_at=DatabaseNow(-2 * MINUTE))


def definition_error() -> None:
    new_cluster()
    new_definition(error="cannot be read", next_slot_at=database_now(DATABASE) + HOUR)


@pytest.mark.parametrize(
    "situation", [no_workers, scheduler_stalled, queue_unserved, definition_error]
)
def test_each_kind_of_trouble_has_its_word(client: Client, situation: Any) -> None:
    situation()
    assert ask(client)["trouble"] == [situation.__name__]


def test_several_troubles_are_all_named(client: Client) -> None:
    for situation in (queue_unserved, definition_error):
        situation()
    new_run(state=State.SCHEDULED, run_after=DatabaseNow(-5 * MINUTE))
    data = ask(client)
    assert data["trouble"] == ["queue_unserved", "scheduler_stalled", "definition_error"]
    assert 300 <= data["oldest_due_age"] < 320


def test_what_a_person_stopped_is_no_trouble(client: Client) -> None:
    queue_unserved()
    pause_queue("mail")
    definition_error()
    CronDefinition.objects.update(paused_at=DatabaseNow(), next_slot_at=None)
    data = ask(client)
    assert data["ok"]
    assert (data["definitions_in_trouble"], data["oldest_due_age"]) == (0, None)


def test_definitions_in_trouble_are_all_counted(client: Client) -> None:
    new_cluster()
    now = database_now(DATABASE)
    for n in range(23):
        new_definition(f"shop.bad{n}", error="cannot be read", next_slot_at=now + HOUR)
    new_definition("shop.late", next_slot_at=now - HOUR)
    new_definition("shop.fine", next_slot_at=now + HOUR)
    assert ask(client)["definitions_in_trouble"] == 24


def test_it_tells_nothing_private(client: Client) -> None:
    new_cluster(host="secret-host")
    new_run("secret.function", queue="secret-queue", queued_at=DatabaseNow(-HOUR))
    new_run("secret.function", State.FAILED, error_class="Secret", error_message="secret")
    new_definition("secret.weekly", error="secret", next_slot_at=database_now(DATABASE))
    text = client.get(URL).content.decode().lower()
    assert "secret" not in text
    assert "queue_unserved" in text


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
def test_it_only_answers_get_and_head(client: Client, method: str) -> None:
    response = getattr(client, method)(URL)
    assert response.status_code == 405
    assert response["Allow"] == "GET, HEAD"


def test_head_says_it_by_the_status_code(client: Client) -> None:
    assert client.head(URL).status_code == 200
    new_run()
    response = client.head(URL)
    assert (response.status_code, response.content) == (503, b"")


def test_no_cache_keeps_it_and_no_session_is_made_or_read(client: Client) -> None:
    response = client.get(URL)
    assert response["Cache-Control"] == "no-store"
    assert response["Content-Type"] == "application/json"
    assert not response.cookies
    assert "Cookie" not in response.get("Vary", "")
    client.force_login(User.objects.create_user("ada"))
    with captured() as queries:
        client.get(URL)
    assert not [sql for sql in runs.statements(queries) if "session" in sql or "auth_user" in sql]


def test_no_login_is_needed_where_a_project_demands_one_everywhere(client: Client) -> None:
    wanted = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, wanted]):
        assert client.get(URL).status_code == 200


def test_it_asks_the_same_number_of_queries_however_much_there_is(client: Client) -> None:
    new_cluster()
    new_run(queued_at=DatabaseNow())

    def count() -> int:
        with captured() as queries:
            client.get(URL)
        return len(runs.statements(queries))

    assert count() == QUERIES + 1
    now = database_now(DATABASE)
    for n in range(30):
        new_definition(f"shop.f{n}", error="bad" if n % 2 else "", next_slot_at=now - HOUR)
        new_run(f"shop.f{n}", queued_at=DatabaseNow())
        new_run(f"shop.f{n}", State.FAILED)
        new_run(f"shop.f{n}", State.RUNNING)
        new_cluster()
    assert count() == QUERIES + 1
    new_run(queue="mail", queued_at=DatabaseNow())
    assert count() == QUERIES + 2


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_database_that_does_not_answer_is_said_without_its_words(
    client: Client, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(using: str) -> None:
        raise error("connection to 10.0.0.7 failed")

    monkeypatch.setattr(module, "database_now", fail)
    response = client.get(URL)
    assert response.status_code == 503
    assert response["Cache-Control"] == "no-store"
    data = response.json()
    assert set(data) == KEYS
    assert (data["ok"], data["trouble"], data["now"]) == (False, ["database_unreachable"], None)
    assert b"10.0.0.7" not in response.content


def test_a_503_is_no_error_of_the_project_that_django_would_mail(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    new_run()
    assert client.get(URL).status_code == 503
    assert not caplog.records
    assert client.get("/defer/nothing").status_code == 404
    assert [record.name for record in caplog.records] == ["django.request"]


def test_missing_tables_are_said(client: Client) -> None:
    table = Cluster._meta.db_table
    with database().cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO gone")
    response = client.get(URL)  # the test's transaction is rolled back in the end
    assert response.status_code == 503
    assert response.json()["trouble"] == ["not_migrated"]


def test_a_server_that_is_not_there_is_not_waited_for_long() -> None:
    """The project's own connect_timeout is kept; the options are as before afterwards."""
    connection = connections[DATABASE]
    before = connection.settings_dict
    with module.impatient():
        inside = dict(connection.settings_dict["OPTIONS"])
    assert connection.settings_dict is before
    if runs.is_postgres():
        assert inside["connect_timeout"] == module.CONNECT_TIMEOUT
        connection.settings_dict = {**before, "OPTIONS": {"connect_timeout": 1}}
        try:
            with module.impatient():
                assert connection.settings_dict["OPTIONS"]["connect_timeout"] == 1
        finally:
            connection.settings_dict = before
    else:
        assert inside == before["OPTIONS"]


def test_no_transaction_is_opened_around_it_whatever_the_project_s_requests_do() -> None:
    assert health._non_atomic_requests >= set(connections)  # type: ignore[attr-defined]


def test_it_is_a_plain_view() -> None:
    response = health(RequestFactory().get("/"))
    assert json.loads(response.content)["ok"]


# -- who is told of it -----------------------------------------------------------------------------

FILE = {"channel": "tests.channels.FileChannel", "name": "file"}
TOLD = ({"channel": "log"},)


def test_trouble_that_it_finds_is_raised_and_in_the_end_sent(
    client: Client, tmp_path: Path
) -> None:
    no_workers()
    with defer_settings(ALERTS=({**FILE, "path": str(tmp_path / "alerts")},)):
        assert not ask(client)["ok"]
        assert Alert.objects.get().event == "no_workers"
        Alert.objects.update(next_message_at=database_now(DATABASE))
        ask(client)
        assert lines_of(tmp_path / "alerts") == []  # not so soon again
        AlertChannel.objects.filter(name="").update(not_before=DatabaseNow(-SECOND))
        ask(client)
        assert [line[0] for line in lines_of(tmp_path / "alerts")] == ["no_workers"]


def test_where_workers_are_alive_they_send(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    queue_unserved()
    monkeypatch.setattr(from_web, "work", pytest.fail)
    with defer_settings(ALERTS=TOLD):
        assert not ask(client)["ok"]
    assert Alert.objects.get().event == "queue_stalled"


def test_it_cannot_be_used_to_flood(client: Client) -> None:
    no_workers()
    with defer_settings(ALERTS=TOLD):
        first = count_of(client)
        later = [count_of(client) for _ in range(5)]
    assert later == [QUERIES + 1 + 2] * 5  # whether it is the turn, twice
    assert first > later[0]
    assert Alert.objects.count() == 1


def count_of(client: Client) -> int:
    with captured() as queries:
        client.get(URL)
    return len(runs.statements(queries))


def test_where_all_is_well_or_nobody_is_to_be_told_it_asks_nothing_more(client: Client) -> None:
    new_cluster()
    new_run(queued_at=DatabaseNow())
    with defer_settings(ALERTS=TOLD):
        assert count_of(client) == QUERIES + 1
    Cluster.objects.all().delete()
    assert count_of(client) == QUERIES + 1
    assert not AlertChannel.objects.exists()


@pytest.mark.parametrize("error", [ZeroDivisionError, OperationalError])
def test_an_error_in_telling_changes_no_answer(
    client: Client,
    error: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*args: object) -> None:
        raise error("secret")

    monkeypatch.setattr(from_web, "work", fail)
    no_workers()
    with defer_settings(ALERTS=TOLD):
        data = ask(client)
    assert data["trouble"] == ["no_workers"]
    assert [record.event for record in caplog.records] == ["alerts.not_told"]  # type: ignore[attr-defined]


def test_tables_that_do_not_answer_change_no_answer(client: Client) -> None:
    no_workers()
    with database().cursor() as cursor:
        cursor.execute(f"ALTER TABLE {AlertChannel._meta.db_table} RENAME TO gone")
    with defer_settings(ALERTS=TOLD):
        response = client.get(URL)  # the test's transaction is rolled back in the end
    assert response.json()["trouble"] == ["no_workers"]


def test_a_channel_that_hangs_is_not_waited_for_long(client: Client) -> None:
    no_workers()
    with defer_settings(ALERTS=({"channel": "tests.channels.HangingChannel", "name": "slow"},)):
        client.get(URL)
        Alert.objects.update(next_message_at=database_now(DATABASE))
        AlertChannel.objects.filter(name="").update(not_before=None)
        began = time.monotonic()
        assert client.get(URL).json()["trouble"] == ["no_workers"]
        assert from_web.SECONDS <= time.monotonic() - began < from_web.SECONDS * 3
    assert AlertChannel.objects.get(name="slow").last_error


ASK = """
import django
django.setup()
from django.test import Client
response = Client().get("/health")
print(response.status_code, response.json()["trouble"])
"""


@pytest.mark.parametrize(
    ("name", "word"), [("gone/db.sqlite3", "database_unreachable"), ("db.sqlite3", "not_migrated")]
)
def test_a_project_whose_requests_are_transactions_is_answered_too(
    tmp_path: Path, name: str, word: str
) -> None:
    database = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / name),
        "ATOMIC_REQUESTS": True,
    }
    project = Project(
        tmp_path,
        DATABASES={"default": database},
        ROOT_URLCONF="django_defer.urls",
        ALLOWED_HOSTS=["*"],
    )
    done = project.python("-c", ASK)
    assert done.stdout.split("\n")[0] == f"503 ['{word}']", done.stderr
