"""Several prune at once, while others work: each run goes once, and nobody waits for it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.db import connections, transaction

from django_defer.clock import database_now
from django_defer.models import Attempt, Run
from django_defer.prune import _delete, prune
from django_defer.states import State
from tests import runs
from tests.concurrency.race import race
from tests.runs import DATABASE, claim_for, new_cluster, new_run

pytestmark = runs.committing

LATER = datetime(2100, 1, 1, tzinfo=UTC)


def test_two_at_once_remove_each_run_once() -> None:
    kept = [new_run(), new_run(state=State.RUNNING)]
    ended = [new_run(state=State.FAILED, function="shop.old") for _ in range(1200)]
    Attempt.objects.bulk_create(Attempt(run=run, number=1, outcome="failed") for run in ended)
    with runs.defer_settings(KEEP_LAST=0):
        one, other = race(*[partial(prune, DATABASE, LATER)] * 2)
    assert one + other == Counter({("shop.old", State.FAILED): 1200})
    assert {run.pk for run in Run.objects.all()} == {run.pk for run in kept}
    assert not Attempt.objects.exists()


@pytest.mark.postgres
def test_who_claims_does_not_wait_for_who_prunes() -> None:
    old = [new_run(state=State.SUCCEEDED).pk for _ in range(50)]
    new_run()
    with transaction.atomic(using=DATABASE):
        assert len(_delete(DATABASE, old)) == 50

        def claim_at_once() -> int:
            with connections[DATABASE].cursor() as cursor:
                cursor.execute("SET lock_timeout = '50ms'")
            assert database_now(DATABASE) < LATER - timedelta(days=1)
            return len(claim_for(new_cluster()))

        assert race(claim_at_once) == [1]
