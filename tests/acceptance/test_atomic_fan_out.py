"""`atomic=True`: a fan-out that dies half-way has, after its retry, happened exactly once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from django_defer.models import Run
from tests.acceptance.harness import outcomes, wait_for_end, wait_until_all_ended
from tests.testapp import defer as functions
from tests.testapp.models import Customer, Effect

if TYPE_CHECKING:
    from tests.acceptance.harness import Trees

CUSTOMERS = 20


@pytest.mark.parametrize(
    ("how", "first_attempt"),
    [("exception", "retried"), ("kill", "lost")],
    ids=["exception", "kill"],
)
def test_every_customer_has_one_child_run_and_one_effect_after_a_death_half_way(
    trees: Trees, how: str, first_attempt: str
) -> None:
    names = [f"customer {number}" for number in range(CUSTOMERS)]
    Customer.objects.bulk_create(Customer(name=name) for name in names)
    Customer.objects.create(name="not this one", opted_in=False)
    trees("--workers", "2", env={"DEFER_TEST_WEEKLY_DIES": how})
    run = wait_for_end(functions.weekly.run_now())
    assert (run.state, run.result) == ("succeeded", CUSTOMERS)
    assert outcomes(run) == [first_attempt, "succeeded"]
    wait_until_all_ended()
    children = Run.objects.children_of(run.pk)
    assert Counter(children.values_list("label", flat=True)) == Counter(names)
    assert children.count_by_state() == {"succeeded": CUSTOMERS}
    mails = Effect.objects.filter(name="mail").values_list("detail", flat=True)
    assert Counter(mails) == Counter(names)
