"""`django_defer.testing.drain`: runs what is due in this process, inside TestCase too."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import TestCase

from django_defer.clock import database_now
from django_defer.models import CronDefinition
from django_defer.states import State
from django_defer.sync import sync
from django_defer.testing import drain
from tests.testapp import defer as functions
from tests.testapp.models import Customer, Effect


class InsideTestCase(TestCase):
    """Everything happens in the test's own transaction."""

    def test_it_runs_what_was_enqueued_and_what_that_enqueued(self) -> None:
        for name in ("Ann", "Bob", "Cem"):
            Customer.objects.create(name=name)
        run = functions.weekly.run_now()
        drained = drain()
        assert drained.succeeded == 4
        run.refresh_from_db()
        assert run.get_result() == 3
        details = Effect.objects.filter(name="mail").values_list("detail", flat=True)
        assert sorted(details) == ["Ann", "Bob", "Cem"]

    def test_a_failing_body_undoes_only_its_own_writes(self) -> None:
        Effect.objects.create(name="before")
        run = functions.write_then_fail("lost")
        drained = drain()
        assert drained.failed == 1
        run.refresh_from_db()
        assert run.state == State.FAILED
        assert list(Effect.objects.values_list("name", flat=True)) == ["before"]

    def test_a_retry_waits_unless_now_is_later(self) -> None:
        run = functions.fail_until(2)
        assert drain().attempts == 1
        run.refresh_from_db()
        assert run.state == State.SCHEDULED
        later = database_now("default") + timedelta(hours=1)
        assert drain(now=later).succeeded == 1
        assert run.get_result() == 2

    def test_a_delayed_run_waits_unless_now_is_later(self) -> None:
        functions.add.using(delay="1h")(1)
        assert drain().runs == []
        assert drain(now=database_now("default") + timedelta(hours=2)).succeeded == 1

    def test_a_slot_that_is_due_at_now_fires(self) -> None:
        sync()
        definition = CronDefinition.objects.get(function="testapp.weekly")
        slot = definition.next_slot_at
        assert slot is not None
        [run] = drain(now=slot).runs
        assert run.slot == slot

    def test_nothing_is_left_behind(self) -> None:
        from django_defer.models import Cluster

        functions.noop()
        drain()
        assert not Cluster.objects.exists()

    def test_an_endless_chain_is_stopped(self) -> None:
        functions.enqueue_itself()
        with pytest.raises(RuntimeError, match="10 attempts"):
            drain(limit=10)
