"""The list of functions beside thousands, and what a function's page says of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from django_defer.admin import BackgroundFunctionAdmin
from django_defer.models import BackgroundFunction, CronDefinition
from django_defer.states import State
from tests.admin_pages import read, words
from tests.admin_rows import ago, make_finished, make_run
from tests.runs import captured

if TYPE_CHECKING:
    from django.test import Client

pytestmark = pytest.mark.django_db

LISTED = BackgroundFunctionAdmin.list_per_page


def add_functions(count: int) -> None:
    keys = [f"shop.function_{n:04}" for n in range(count)]
    BackgroundFunction.objects.bulk_create(BackgroundFunction(key=key) for key in keys)
    CronDefinition.objects.bulk_create(
        CronDefinition(function_id=key, code_expression="0 8 * * *") for key in keys
    )


@pytest.mark.parametrize("page", ["1", "20", "40"])
def test_of_two_thousand_functions_only_those_of_the_page_are_looked_up(
    admin_client: Client, page: str
) -> None:
    add_functions(2000)
    first = (int(page) - 1) * LISTED
    shown = {f"shop.function_{n:04}" for n in range(first, first + LISTED)}
    make_finished(function_id=min(shown))
    with captured() as queries:
        text = read(admin_client, "backgroundfunction", p=page)
    ours = [q["sql"] for q in queries.captured_queries if "django_defer" in q["sql"]]
    assert len(ours) == 6, "a count, the page, the queues, what waits, the latest, definitions"
    assert {key for sql in ours for key in re.findall(r"shop\.function_\d+", sql)} == shown
    assert set(re.findall(r">(shop\.function_\d+)</a>", text)) == shown
    assert text.count("defer-mark--succeeded") == 1


def test_the_page_of_a_function_leads_to_what_is_not_finished(admin_client: Client) -> None:
    row = BackgroundFunction.objects.create(key="testapp.add")
    for state in (State.QUEUED, State.QUEUED, State.PARKED, State.RUNNING):
        make_run(state=state)
    page = read(admin_client, "backgroundfunction", row)
    for name, text in (("queued", "2 queued"), ("parked", "1 parked"), ("running", "1 running")):
        assert f'/run/?function=testapp.add&amp;state={name}">{text}</a>' in page


def test_the_page_of_a_function_names_its_last_failure(admin_client: Client) -> None:
    row = BackgroundFunction.objects.create(key="testapp.add")
    failed = make_finished(State.FAILED, error_class="shop.CardDeclined", finished_at=ago(hours=5))
    for _ in range(70):
        make_finished()
    page = read(admin_client, "backgroundfunction", row)
    fact = page.partition("<dt>Last failure</dt>")[2].partition("</dd>")[0]
    assert f'/run/{failed.pk}/change/">5 h ago</a> shop.CardDeclined' in fact


def test_the_page_of_a_function_says_among_how_many_none_failed(admin_client: Client) -> None:
    row = BackgroundFunction.objects.create(key="testapp.add")
    assert "Last failure" not in words(admin_client, "backgroundfunction", row)
    make_finished()
    assert "Last failure None; one run" in words(admin_client, "backgroundfunction", row)
    make_finished()
    assert "Last failure None of the latest 2" in words(admin_client, "backgroundfunction", row)


def test_the_page_of_a_function_shows_former_keys_and_options_of_several_values(
    admin_client: Client,
) -> None:
    row = BackgroundFunction.objects.create(
        key="testapp.add",
        former_keys=["shop.plus", "shop.sum"],
        options={"metadata": {"team": "mail", "tier": "gold"}},
    )
    text = words(admin_client, "backgroundfunction", row)
    assert "Formerly shop.plus, shop.sum" in text
    assert "metadata team: mail, tier: gold" in text


def test_the_page_of_a_function_takes_a_fixed_number_of_queries(admin_client: Client) -> None:
    row = BackgroundFunction.objects.create(key="testapp.add")
    counts = []
    for _ in range(3):
        for _ in range(30):
            make_finished()
            make_run(state=State.RUNNING)
        with captured() as queries:
            read(admin_client, "backgroundfunction", row)
        counts.append(sum("django_defer" in query["sql"] for query in queries.captured_queries))
    assert counts == [7, 7, 7]
