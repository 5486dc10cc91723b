"""Runs in the admin: filters by trouble and by error, and the way to the neighbours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from django_defer.states import State
from tests import runs
from tests.admin_pages import read
from tests.runs import new_run

if TYPE_CHECKING:
    from django.test import Client

pytestmark = runs.in_transaction


@pytest.mark.parametrize(
    ("kind", "columns"),
    [("attempts", {"attempt": 2}), ("failures", {"failures": 1}), ("losses", {"losses": 1})],
)
def test_what_had_trouble_can_be_filtered(
    admin_client: Client, kind: str, columns: dict[str, Any]
) -> None:
    smooth = new_run(state=State.SUCCEEDED)
    rough = new_run(state=State.SUCCEEDED, **columns)
    page = read(admin_client, "run", trouble=kind)
    assert str(rough.pk) in page
    assert str(smooth.pk) not in page


def test_an_error_can_be_filtered_by_its_class(admin_client: Client) -> None:
    one = new_run(state=State.FAILED, error_class="shop.NoMoney")
    other = new_run(state=State.FAILED, error_class="<b>odd</b>")
    page = read(admin_client, "run")
    assert "?error=shop.NoMoney" in page
    assert "<b>odd</b>" not in page
    page = read(admin_client, "run", error="shop.NoMoney")
    assert f"{one.pk}/change" in page
    assert f"{other.pk}/change" not in page


def test_a_page_leads_to_the_runs_before_and_after(admin_client: Client) -> None:
    before, _, run, after = new_run(), new_run("shop.other"), new_run(), new_run()
    page = read(admin_client, "run", run)
    assert re.search(rf'{before.pk}/change/">previous<', page)
    assert re.search(rf'{after.pk}/change/">next<', page)
    assert "next<" not in read(admin_client, "run", after)
