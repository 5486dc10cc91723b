"""What the list of runs reads on PostgreSQL: by indexes, and no more than a page needs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from django.contrib.admin.sites import site
from django.test.utils import CaptureQueriesContext

from django_defer.admin import reading, run_list, search
from django_defer.models import Run
from django_defer.states import State
from tests import runs

if TYPE_CHECKING:
    from django.test import Client

pytestmark = [runs.in_transaction, pytest.mark.postgres]

LIST = "/admin/django_defer/run/"
TABLE = Run._meta.db_table
COUNT = 32_000
PARENT, RARE = "01800000-0000-7000-8000-000000000000", "shop.rare"


@pytest.fixture(autouse=True)
def many_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run a minute: some failed, a few parked and of a rare function and queue, which are old."""
    for module in (reading, run_list):
        monkeypatch.setattr(module, "LOOKED_THROUGH", 500)
    monkeypatch.setattr(search, "MOST_SEARCHED", 500)
    monkeypatch.setattr(search, "MOST_WITHIN", 500)
    monkeypatch.setattr(run_list, "MOST_EXACT", 100)
    at = f"now() - ({COUNT} - n) * interval '1 minute'"
    runs.fill(
        State.SUCCEEDED,
        COUNT,
        id=runs.uuid7_sql(at),
        enqueued_at=at,
        function=f"CASE WHEN n < 9 THEN '{RARE}' ELSE 'shop.f' || n % 60 END",
        queue="CASE WHEN n < 9 THEN 'mail' ELSE 'default' END",
        parent_id=f"CASE WHEN n < 9 THEN CAST('{PARENT}' AS uuid) END",
        metadata="CASE WHEN n % 5 = 0 THEN jsonb_build_object('order', CAST(n AS text)) END",
        error_class="CASE WHEN n % 90 = 0 THEN 'ValueError' ELSE '' END",
        label="'label ' || n",
    )
    ids = Run.objects.order_by("pk").values_list("pk", flat=True)
    Run.objects.filter(pk__in=ids[:5]).update(state=State.PARKED)
    Run.objects.filter(error_class="ValueError").update(state=State.FAILED)
    with runs.database().cursor() as cursor:
        cursor.execute(f"ANALYZE {TABLE}")


def plans(client: Client, query: dict[str, Any], **post: str) -> tuple[Any, list[str]]:
    """Ask for the page; return its answer, and how each question about runs is answered."""
    address = f"{LIST}?{urlencode(query)}"
    with CaptureQueriesContext(runs.database()) as queries:
        response = client.post(address, post) if post else client.get(address)
    assert response.status_code == 200
    asked = [query["sql"] for query in queries if f'FROM "{TABLE}"' in query["sql"]]
    assert asked
    assert not [sql for sql in asked if re.search(r"count\(", sql, re.IGNORECASE)]
    asked = [sql for sql in asked if not sql.startswith("EXPLAIN")]
    return response, [f"{sql}\n{explained(sql)}" for sql in asked]


def explained(sql: str) -> str:
    with runs.database().cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, BUFFERS OFF) {sql}")
        return "\n".join(line for (line,) in cursor.fetchall())


def ago(minutes: int) -> str:
    return f"{datetime.now(UTC) - timedelta(minutes=minutes):%Y-%m-%dT%H:%M}"


def id_at(place: int) -> str:
    return str(Run.objects.order_by("-pk").values_list("pk", flat=True)[place])


QUERIES: dict[str, dict[str, Any]] = {
    "all": {},
    "failed": {"state": "failed"},
    "parked": {"state": "parked"},
    "queued": {"state": "queued"},
    "succeeded": {"state": "succeeded"},
    "function": {"function": "shop.f7"},
    "rare function": {"function": RARE},
    "queue": {"queue": "mail"},
    "trouble": {"trouble": "attempts"},
    "error": {"error": "KeyError"},
    "origin": {"origin": "rerun"},
    "hour": {"enqueued": "hour"},
    "week": {"enqueued": "week"},
    "range": {"from": ago(20_000), "until": ago(19_000)},
    "until": {"until": ago(30_000)},
    "function and queue": {"function": "shop.f7", "queue": "mail"},
    "range and queue": {"from": ago(20_000), "until": ago(10_000), "queue": "mail"},
    "pair": {"q": "order:25"},
    "no pair": {"q": "order:none"},
    "text": {"q": "label 31999"},
    "text and function": {"q": "label", "function": "shop.f7"},
}


@pytest.mark.parametrize("place", ["first", "middle", "back"])
def test_a_page_reads_a_small_part_of_the_table(admin_client: Client, place: str) -> None:
    cursors = {"middle": {"before": id_at(15_000)}, "back": {"after": id_at(15_000)}}
    for name, query in QUERIES.items():
        _response, asked = plans(admin_client, {**query, **cursors.get(place, {})})
        for plan in asked:  # a bitmap of an index counts dead entries, which other tests left
            assert f"Seq Scan on {TABLE}" not in plan, f"{name}: {plan}"
            read = [int(n) for n in re.findall(r"Rows Removed by Filter: (\d+)", plan)]
            lines = "\n".join(line for line in plan.splitlines() if "Bitmap Index" not in line)
            read += [int(float(n)) for n in re.findall(r"\(actual rows=([\d.]+)", lines)]
            assert max(read) <= 2_000, f"{name}: {plan}"


def test_what_is_old_and_has_an_index_is_found_at_once(admin_client: Client) -> None:
    queries: list[tuple[dict[str, str], int]] = [
        ({"state": "parked"}, 5),
        ({"function": RARE}, 8),
        ({"function": RARE, "queue": "mail"}, 8),
        ({"parent": PARENT}, 8),
        ({"q": "order:5"}, 1),
        ({"queue": "mail", "until": ago(COUNT - 20)}, 8),
    ]
    for query, found in queries:
        response, _asked = plans(admin_client, query)
        shown = response.context["cl"]
        assert len(shown.result_list) == found, query
        assert shown.count.words == str(found), query
        assert shown.looked_until == "", query


def test_the_confirmation_for_all_says_about_how_many(admin_client: Client) -> None:
    fields = {"action": "cancel_selected", "index": "0", "select_across": "1"}
    response, _asked = plans(admin_client, {}, **fields, _selected_action="all")
    assert response.context["count"] == "about 32,000"
    response, _asked = plans(admin_client, {"state": "failed"}, **fields, _selected_action="all")
    assert response.context["count"] == "355"


def test_the_list_is_sorted_by_nothing_but_the_id() -> None:
    assert site.get_model_admin(Run).sortable_by == ()
