"""Before a deploy: waiting runs that the new code could not execute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from django_defer import unfit
from django_defer.models import Run
from django_defer.payloads import encode_call
from django_defer.registry import registry
from django_defer.states import State
from django_defer.unfit import unfit_runs
from tests import runs
from tests.runs import DATABASE, new_run
from tests.scratch import define, own_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = runs.in_transaction


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    with own_registry():
        yield


def waiting(*args: object, state: State = State.QUEUED, **kwargs: object) -> Run:
    return new_run("shop.invoice", args=encode_call("shop.invoice", (), args, kwargs), state=state)


@pytest.mark.parametrize(
    ("signature", "problem"),
    [
        ("order", None),
        ("order, locale='en'", None),
        ("*args", None),
        ("order, **more", None),
        ("order, locale", "lacks `locale`"),
        ("order, *, locale, zone", "lacks `locale`, `zone`"),
        ("", "has 1 positional arguments, and it takes 0"),
        ("*, order", "lacks `order` and has 1 positional arguments, and it takes 0"),
    ],
)
def test_the_shape_of_the_arguments_is_compared(signature: str, problem: str | None) -> None:
    define(f"@defer\ndef invoice({signature}): ...")
    waiting(7)
    assert [*unfit_runs(DATABASE)] == (
        [f"1 waiting run of shop.invoice {problem}"] if problem else []
    )


def test_names_that_it_does_not_take_are_named() -> None:
    define("@defer\ndef invoice(order): ...")
    for _ in range(3):
        waiting(order=1, locale="de")
    assert [*unfit_runs(DATABASE)] == [
        "3 waiting runs of shop.invoice have `locale`, which it does not take"
    ]


def test_only_runs_that_wait_are_looked_at() -> None:
    define("@defer\ndef invoice(): ...")
    for state in State:
        waiting(1, state=state)
    (line,) = unfit_runs(DATABASE)
    assert line.startswith("3 waiting runs of shop.invoice")


def test_runs_without_a_function_are_reported_too() -> None:
    waiting(1)
    assert [*unfit_runs(DATABASE)] == ["1 waiting run of shop.invoice has no function in this code"]


def test_a_function_is_found_by_its_former_key() -> None:
    define("@defer(renamed_from='invoice')\ndef bill(order): ...")
    waiting(1)
    assert [*unfit_runs(DATABASE)] == []
    assert registry.find("shop.invoice") is registry.get("shop.bill")


def test_it_says_so_when_it_did_not_look_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    define("@defer\ndef invoice(order): ...")
    monkeypatch.setattr(unfit, "MOST", 2)
    for _ in range(3):
        waiting(1)
    assert [*unfit_runs(DATABASE)] == ["only the first 2 waiting runs were looked at"]


def test_a_payload_that_is_none_is_reported() -> None:
    define("@defer\ndef invoice(order): ...")
    new_run("shop.invoice", args=[1])
    assert [*unfit_runs(DATABASE)] == ["1 waiting run of shop.invoice cannot be read"]
