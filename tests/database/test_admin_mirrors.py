"""The pages of functions, queues and clusters, and what all such lists have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.utils import quote
from django.urls import reverse

from django_defer import pauses
from django_defer.models import BackgroundFunction, CronDefinition, Run
from django_defer.states import State
from django_defer.sync import sync
from tests.admin_pages import read, words
from tests.admin_rows import (
    HOSTILE,
    ago,
    make_cluster,
    make_finished,
    make_retrying,
    make_run,
)

if TYPE_CHECKING:
    from django.test import Client
    from pytest_django.fixtures import DjangoAssertNumQueries

pytestmark = pytest.mark.django_db

MODELS = ["backgroundfunction", "crondefinition", "run", "cluster", "queue"]


def weekly(**columns: Any) -> CronDefinition:
    sync()
    CronDefinition.objects.filter(function="testapp.weekly").update(**columns)
    return CronDefinition.objects.get(function="testapp.weekly")


@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_added_or_deleted_by_hand(admin_client: Client, model: str) -> None:
    assert f"/admin/django_defer/{model}/add/" not in read(admin_client, model)
    assert admin_client.get(reverse(f"admin:django_defer_{model}_add")).status_code == 403
    text = admin_client.get("/admin/").content.decode()
    assert f"/admin/django_defer/{model}/" in text
    assert f"/admin/django_defer/{model}/add/" not in text


@pytest.mark.parametrize("model", ["crondefinition", "backgroundfunction"])
def test_rows_are_filtered_by_status(admin_client: Client, model: str) -> None:
    weekly(paused_at=ago(days=1))
    BackgroundFunction.objects.filter(pk="testapp.weekly").update(paused_at=ago(days=1))
    assert "testapp.weekly</a>" in read(admin_client, model, status="paused")
    assert "testapp.weekly</a>" not in read(admin_client, model, status="active")
    assert "testapp.weekly</a>" not in read(admin_client, model, status="orphaned")


# -- functions -----------------------------------------------------------------------------------


def test_a_function_shows_its_options_and_where_it_is_defined(admin_client: Client) -> None:
    sync()
    row = BackgroundFunction.objects.get(pk="testapp.weekly")
    text = words(admin_client, "backgroundfunction", row)
    assert f"tests.testapp.defer:{row.line}" in text
    assert "max_duration 30m" in text
    assert "atomic yes" in text
    assert "0 8 * * MON UTC" in text


def test_a_function_shows_how_much_waits_and_runs(admin_client: Client) -> None:
    sync()
    for state in (State.QUEUED, State.SCHEDULED, State.PARKED, State.RUNNING, State.CLAIMED):
        make_run(state=state)
    last = make_finished(label="the last one")
    row = BackgroundFunction.objects.get(pk="testapp.add")
    text = read(admin_client, "backgroundfunction", row)
    assert "3 waiting, 2 running." in text
    assert "the last one" in text
    assert "/admin/django_defer/run/?function=testapp.add" in text
    listed = read(admin_client, "backgroundfunction", q="testapp.add")
    assert "3 waiting" in listed
    assert "2 running" in listed
    assert f"/admin/django_defer/run/{last.pk}/change/" in listed


def test_a_function_of_which_nothing_waits_says_so(admin_client: Client) -> None:
    sync()
    row = BackgroundFunction.objects.get(pk="testapp.add")
    assert "Nothing of it waits or runs." in read(admin_client, "backgroundfunction", row)


# -- queues and clusters -------------------------------------------------------------------------


def test_a_paused_queue_says_who_paused_it_and_how_much_is_due(admin_client: Client) -> None:
    row = pauses.pause_queue("mail", actor="ada", reason="outage")
    make_run(queue="mail")
    assert "Paused by ada since " in read(admin_client, "queue", row)
    listed = read(admin_client, "queue")
    assert '<td class="field-queued">1</td>' in listed
    assert "outage" in listed


def test_clusters_are_live_or_silent_and_have_runs_in_hand(admin_client: Client) -> None:
    live = make_cluster()
    make_cluster(host="lost.internal", beat_at=ago(minutes=5), ticked_at=None, schedules=False)
    make_run(state=State.RUNNING, cluster=live.pk)
    listed = read(admin_client, "cluster")
    assert "live" in listed
    assert "silent" in listed
    assert '<td class="field-busy">1</td>' in listed
    text = words(admin_client, "cluster", live)
    assert "testapp.add, testapp.recommend" in text
    assert "Queues all" in text
    assert "django 5.2.19" in text


# -- bounded -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "queries"),
    [("backgroundfunction", 8), ("crondefinition", 5), ("cluster", 5), ("queue", 5)],
)
def test_a_list_takes_the_same_number_of_queries_for_any_number_of_rows(
    admin_client: Client,
    django_assert_num_queries: DjangoAssertNumQueries,
    model: str,
    queries: int,
) -> None:
    def add(number: int) -> None:
        key = f"shop.function_{number}"
        BackgroundFunction.objects.create(key=key)
        definition = CronDefinition.objects.create(
            function_id=key, code_expression="0 8 * * *", last_slot_at=ago(hours=1)
        )
        run: Run = make_retrying(function_id=key, definition=definition, queue=f"queue {number}")
        CronDefinition.objects.filter(pk=definition.pk).update(last_run=run)
        pauses.pause_queue(f"queue {number}")
        make_cluster()

    add(0)
    with django_assert_num_queries(queries):
        read(admin_client, model)
    for number in range(1, 12):
        add(number)
    with django_assert_num_queries(queries):
        read(admin_client, model)


def test_hostile_text_stays_text_on_every_page(admin_client: Client) -> None:
    row = BackgroundFunction.objects.create(
        key=HOSTILE,
        queue=HOSTILE,
        module=HOSTILE,
        options={HOSTILE: HOSTILE},
        paused_at=ago(days=1),
        paused_by=HOSTILE,
        pause_reason=HOSTILE,
        orphaned_at=ago(hours=1),
    )
    definition = CronDefinition.objects.create(
        function_id=HOSTILE,
        code_expression=HOSTILE,
        code_timezone=HOSTILE,
        overridden_by=HOSTILE,
        queue=HOSTILE,
        error=HOSTILE,
    )
    queue = pauses.pause_queue(HOSTILE[:50], actor=HOSTILE, reason=HOSTILE)
    cluster = make_cluster(
        host=HOSTILE, queues=[HOSTILE], functions=[HOSTILE], versions={HOSTILE: HOSTILE}
    )
    pages = {
        "backgroundfunction": row,
        "crondefinition": definition,
        "queue": queue,
        "cluster": cluster,
    }
    for model, each in pages.items():
        name = f"admin:django_defer_{model}_change"
        text = admin_client.get(reverse(name, args=[quote(each.pk)])).content.decode()
        assert "&lt;script&gt;alert(1)" in text, model
        assert "<script>alert" not in text, model
        assert "<script>alert" not in read(admin_client, model), model
