"""Named row sets, and the one database that all of them ask."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from django_defer.clock import database_now
from django_defer.models import (
    Attempt,
    BackgroundFunction,
    Cluster,
    CronDefinition,
    Queue,
    Run,
)
from django_defer.states import ACTIVE, FINISHED, UNFINISHED, WAITING, State
from tests import runs
from tests.runs import (
    DATABASE,
    NOOP,
    committing_to_both,
    defer_settings,
    new_cluster,
    new_definition,
    new_run,
)

if TYPE_CHECKING:
    from collections.abc import Set

    from django.db import models

pytestmark = runs.in_transaction

NOW = runs.LONG_AGO


@pytest.mark.parametrize(
    ("name", "states"),
    [
        ("waiting", WAITING),
        ("queued", {State.QUEUED}),
        ("active", ACTIVE),
        ("unfinished", UNFINISHED),
        ("finished", FINISHED),
    ],
)
def test_a_set_named_after_states_holds_these(name: str, states: Set[State]) -> None:
    for state in State:
        new_run(state=state)
    found = getattr(Run.objects.all(), name)()
    assert {run.state for run in found} == states


def test_due_is_what_is_scheduled_for_now_or_earlier() -> None:
    due = [
        new_run(state=State.SCHEDULED, run_after=NOW - delta)
        for delta in (timedelta(1), timedelta(0))
    ]
    new_run(state=State.SCHEDULED, run_after=NOW + timedelta(microseconds=1))
    new_run(state=State.QUEUED, run_after=NOW)
    assert set(Run.objects.due(NOW)) == set(due)


def test_retrying_is_what_is_scheduled_after_a_failure_or_a_loss() -> None:
    failed = new_run(state=State.SCHEDULED, failures=1)
    lost = new_run(state=State.SCHEDULED, losses=1)
    new_run(state=State.SCHEDULED)
    new_run(state=State.FAILED, failures=1)
    assert set(Run.objects.retrying()) == {failed, lost}


def test_held_is_what_a_cluster_or_one_of_its_workers_has() -> None:
    cluster = uuid4()
    first = new_run(state=State.RUNNING, cluster=cluster, worker="0.1")
    second = new_run(state=State.CLAIMED, cluster=cluster, worker="1.1")
    new_run(state=State.SUCCEEDED, cluster=cluster, worker="0.1")
    new_run(state=State.RUNNING, cluster=uuid4(), worker="0.1")
    assert set(Run.objects.held_by(cluster)) == {first, second}
    assert Run.objects.held_by(cluster, "1.1").get() == second
    assert not Run.objects.held_by(cluster, "").exists()


def test_parked_for_code_is_what_these_workers_could_run() -> None:
    known = new_run(state=State.PARKED, reason="no_code")
    new_run("testapp.of_another_version", state=State.PARKED, reason="no_code")
    new_run(state=State.QUEUED)
    assert Run.objects.parked_for_code([NOOP]).get() == known


def test_children_are_counted_by_state() -> None:
    parent = new_run(state=State.SUCCEEDED)
    for state in (State.SUCCEEDED, State.SUCCEEDED, State.FAILED):
        new_run(state=state, parent=parent)
    assert Run.objects.children_of(parent.pk).count_by_state() == {"succeeded": 2, "failed": 1}
    assert Run.objects.none().count_by_state() == {}


def test_paused_and_orphaned_functions_are_told_apart() -> None:
    paused = BackgroundFunction.objects.create(key="a.paused", paused_at=NOW)
    orphaned = BackgroundFunction.objects.create(key="a.orphaned", orphaned_at=NOW)
    plain = BackgroundFunction.objects.create(key="a.plain")
    assert set(BackgroundFunction.objects.paused()) == {paused}
    assert set(BackgroundFunction.objects.in_code()) == {paused, plain}
    assert orphaned not in BackgroundFunction.objects.in_code()


def test_due_definitions_come_the_earliest_first() -> None:
    late = new_definition("a.late", next_slot_at=NOW)
    early = new_definition("a.early", next_slot_at=NOW - timedelta(days=1))
    new_definition("a.future", next_slot_at=NOW + timedelta(microseconds=1))
    new_definition("a.paused", next_slot_at=NOW, paused_at=NOW)
    new_definition("a.stopped", next_slot_at=None)
    assert list(CronDefinition.objects.due(NOW)) == [early, late]
    assert CronDefinition.objects.firing().count() == 4


def test_a_cluster_is_live_for_the_length_of_its_lease() -> None:
    lease, now = timedelta(seconds=30), database_now(DATABASE)
    at_the_end = new_cluster(beat_at=now - lease)
    live = new_cluster(beat_at=now - lease + timedelta(milliseconds=1))
    assert Cluster.objects.live(now, lease).get() == live
    assert Cluster.objects.dead(now, lease).get() == at_the_end


MODELS: list[type[models.Model]] = [
    Attempt,
    BackgroundFunction,
    Cluster,
    CronDefinition,
    Queue,
    Run,
]


@pytest.mark.parametrize("model", MODELS)
def test_every_query_goes_to_the_database_of_the_setting(model: type[models.Model]) -> None:
    other = "other" if DATABASE == "default" else "default"
    assert model._default_manager.all().db == DATABASE
    assert model._base_manager.all().db == DATABASE
    with defer_settings(DATABASE=other):
        assert model._default_manager.all().db == other
        assert model._base_manager.filter(pk=None).db == other
        assert model._default_manager.using(DATABASE).db == DATABASE


@committing_to_both
def test_rows_are_reached_through_relations_in_that_database_too() -> None:
    other = "other" if DATABASE == "default" else "default"
    with defer_settings(DATABASE=other):
        definition = new_definition()
        parent = new_run(definition=definition)
        child = new_run(parent=parent)
        child.refresh_from_db()
        assert child.parent == parent
        assert list(parent.children.all()) == [child]
        assert list(definition.runs.all()) == [parent]
        assert parent.definition == definition
        assert definition.function.definition == definition
        Attempt.objects.create(run=parent, number=1, outcome="failed")
        assert len(parent.attempts) == 1
    assert not Run.objects.exists()


@pytest.mark.postgres
def test_children_are_counted_from_their_index() -> None:
    runs.fill(State.SUCCEEDED)
    runs.fill(State.SUCCEEDED, parent_id="gen_random_uuid()")
    children = Run.objects.children_of(uuid4())
    assert "defer_run_parent" in children.explain()
    counted = children.order_by().values_list("state")
    assert "defer_run_parent" in counted.explain()


@pytest.mark.postgres
def test_parked_runs_are_found_by_their_index() -> None:
    runs.fill(State.PARKED)
    runs.fill(State.SUCCEEDED, 20_000)
    assert "defer_run_parked" in Run.objects.parked_for_code([NOOP]).explain()


@pytest.mark.sqlite
def test_what_is_held_is_found_by_its_index() -> None:
    for rows in (Run.objects.active(), Run.objects.held_by(None, "0.1")):
        assert "USING INDEX defer_run_held" in rows.explain()
