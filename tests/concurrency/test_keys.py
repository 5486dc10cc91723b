"""Twenty callers with one idempotency key at once: one run."""

from __future__ import annotations

import pytest

from django_defer.models import Run
from tests import runs
from tests.concurrency.race import race
from tests.testapp.defer import noop

pytestmark = runs.committing


@pytest.mark.parametrize("round_", range(3))
def test_twenty_callers_at_once_get_the_same_run(round_: int) -> None:
    made = race(*[lambda: noop.using(key="order-17")(round_)] * 20)
    assert len({run.pk for run in made}) == 1
    assert Run.objects.count() == 1
    assert {run.key for run in made} == {"order-17"}


def test_callers_whose_runs_end_meanwhile_get_runs_one_after_the_other() -> None:
    def call_and_cancel() -> set[object]:
        seen: set[object] = set()
        for _ in range(10):
            run = noop.using(key="order-17")()
            seen.add(run.pk)
            Run.objects.filter(pk=run.pk, state="queued").update(state="cancelled", key=None)
        return seen

    seen = set.union(*race(*[call_and_cancel] * 4))
    assert seen == set(Run.objects.values_list("pk", flat=True))
    assert not Run.objects.filter(state="queued").exists()
