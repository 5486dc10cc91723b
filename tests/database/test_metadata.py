"""Metadata on its way: from function and call to the run, its pages, and the search by a pair."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.utils.html import escape

from django_defer import InvalidOption, current_run, inserts
from django_defer.admin import search
from django_defer.admin.search import pairs_in, search_runs
from django_defer.materialise import materialise
from django_defer.models import BackgroundFunction, CronDefinition, Run
from django_defer.registry import registry
from django_defer.states import State
from django_defer.sync import sync
from django_defer.testing import drain
from tests import runs
from tests.admin_rows import HOSTILE, log_in_with
from tests.runs import DATABASE, NOOP, database, fill, fresh, new_run, plan_of, rolled_back
from tests.scratch import define as define_source
from tests.scratch import own_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.test import Client

    from tests.runs import Define

pytestmark = runs.in_transaction

LIST = "/admin/django_defer/run/"
HOSTILE_TEXTS = [
    HOSTILE,
    'it\'s "quoted" %s %% {} \\ \\" $.a[0] \'; --',
    "key__contains",
    "17",
    "order.id",
    "a:b::c",
    "çå∂é 漢字 🦊 \u2028 \x01\x1f.",
    " spaces ",
    "%",
    "null",
    '"',
    "\\",
]


def pay(order: int = 0) -> dict[str, str]:
    """Return the metadata that the function sees."""
    current = current_run()
    assert current is not None
    return dict(current.metadata)


def enqueue(define: Define, *steps: Any, **options: Any) -> Run:
    """Enqueue a function with these options, through a `using()` for each step."""
    configured: Any = define(pay, **options)
    for step in steps:
        configured = configured.using(metadata=step)
    run: Run = configured()
    return fresh(run)


# -- into the row ----------------------------------------------------------------------------------


def test_a_run_carries_what_function_and_call_say(define: Define) -> None:
    own = {"team": "billing", "a": "1"}
    run = enqueue(define, {"order": "17", "a": "2"}, {"a": "3"}, metadata=own)
    assert run.metadata == {"team": "billing", "order": "17", "a": "3"}


def test_a_run_without_metadata_has_none_in_its_column(define: Define) -> None:
    assert enqueue(define, {"team": None}, metadata={"team": "billing"}).metadata is None
    assert not Run.objects.filter(metadata__isnull=False).exists()


def test_too_many_together_are_refused_at_the_call(define: Define) -> None:
    own, more = ({f"{name}{n}": "" for n in range(20)} for name in "ab")
    with pytest.raises(InvalidOption, match=r"defined\.pay: metadata has 40 pairs"):
        enqueue(define, more, metadata=own)
    assert not Run.objects.exists()


def test_each_run_of_a_map_carries_it(define: Define) -> None:
    define(pay, metadata={"team": "billing"}).using(metadata={"batch": "7"}).map([1, 2])
    stored = Run.objects.values_list("metadata", flat=True)
    assert list(stored) == [{"team": "billing", "batch": "7"}] * 2


def test_a_rerun_carries_what_the_run_did(define: Define) -> None:
    run = enqueue(define, {"order": "17"})
    drain()
    assert fresh(run).rerun().metadata == {"order": "17"}


def test_a_function_reads_what_its_run_carries(define: Define) -> None:
    run, bare = enqueue(define, {"order": "17"}, metadata={"team": "billing"}), new_run()
    registry.remove("defined.pay")
    bare = enqueue(define)
    assert drain().succeeded == 3
    assert fresh(run).get_result() == {"order": "17", "team": "billing"}
    assert fresh(bare).get_result() == {}


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=ascii)
def test_any_text_comes_back_as_it_was(define: Define, text: str) -> None:
    assert enqueue(define, {text: text}).metadata == {text: text}


# -- of scheduled functions ------------------------------------------------------------------------

MONDAY = datetime(2026, 5, 4, 8, tzinfo=UTC)
SCHEDULED = "@defer.{}, metadata={})\ndef weekly(): ..."


@pytest.fixture
def _own_registry() -> Iterator[None]:
    with own_registry():
        yield


@pytest.mark.usefixtures("_own_registry")
@pytest.mark.parametrize("schedule", ["cron('0 8 * * MON'", "every('1h'"])
def test_the_run_of_a_slot_carries_what_the_function_says(schedule: str) -> None:
    define_source(SCHEDULED.format(schedule, {"team": "billing"}))
    sync()
    registry._functions.clear()  # a tick knows rows only
    CronDefinition.objects.update(next_slot_at=MONDAY, anchor=MONDAY)
    (run,) = materialise(DATABASE, MONDAY)
    assert fresh(run).metadata == {"team": "billing"}


@pytest.mark.usefixtures("_own_registry")
def test_a_sync_brings_what_the_code_says_now() -> None:
    for metadata in ({"team": "billing"}, {"team": "sales", "a": "b"}, {}):
        registry._functions.clear()
        define_source(SCHEDULED.format("cron('0 8 * * MON'", metadata))
        assert sync().changed or metadata == {"team": "billing"}
        assert not sync().changed
        definition, function = CronDefinition.objects.get(), BackgroundFunction.objects.get()
        assert definition.metadata == (metadata or None)
        assert function.options.get("metadata", {}) == metadata


@pytest.mark.usefixtures("_own_registry")
def test_run_now_carries_it_too_and_adds() -> None:
    weekly = define_source(SCHEDULED.format("cron('0 8 * * MON'", {"team": "billing"})).weekly
    weekly.is_discoverable = True
    assert weekly.using(metadata={"why": "asked"}).run_now().metadata == {
        "team": "billing",
        "why": "asked",
    }


def test_many_runs_are_inserted_with_theirs() -> None:
    made = [Run(function_id=NOOP, metadata={"n": "1"} if n else None) for n in range(3)]
    inserts.insert(DATABASE, made)
    assert [fresh(run).metadata for run in made] == [None, {"n": "1"}, {"n": "1"}]


# -- search ----------------------------------------------------------------------------------------


def found(text: str) -> set[Any]:
    return {run.pk for run in search_runs(Run.objects.all(), text)}


def test_a_pair_finds_the_runs_that_have_it() -> None:
    mine = new_run(metadata={"order": "17", "team": "billing"})
    also = new_run(metadata={"order": "17"}, state=State.SUCCEEDED)
    new_run(metadata={"order": "170", "orders": "17"})
    new_run(metadata={"team": "17", "17": "order"})
    new_run()
    assert found("order:17") == {mine.pk, also.pk}
    assert found(" order: 17 ") == {mine.pk, also.pk}
    assert found("team:billing") == {mine.pk}
    assert found("order:1") == set()
    assert found("order:") == set()
    assert found("Order:17") == set()


def test_colons_may_be_in_keys_and_values() -> None:
    one, other = new_run(metadata={"url": "https://a.b:80/"}), new_run(metadata={"a:b": ":c:"})
    assert found("url:https://a.b:80/") == {one.pk}
    assert found("a:b::c:") == {other.pk}
    assert found(":") == found("::") == set()


def test_a_text_with_a_colon_that_is_no_pair_is_looked_for_as_text() -> None:
    new_run(metadata={"order": "17"})
    failed = new_run(state=State.FAILED, error_message="no route to db:5432")
    assert found("db:5432") == {failed.pk}


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=ascii)
def test_any_pair_is_found_and_nothing_else(text: str) -> None:
    mine = new_run(metadata={text: text, "other": "x"})
    new_run(metadata={"other": f'{text}", "{text}": "{text}', "x": text})
    assert [run.pk for run in Run.objects.with_metadata({text: text})] == [mine.pk]
    assert found(f"x{text}:{text}") == set()
    # Spaces around what was typed are nobody's intention.
    assert found(f"{text}:{text}") == (set() if text == " spaces " else {mine.pk})


def test_all_pairs_of_several_must_be_there() -> None:
    mine = new_run(metadata={"order": "17", "team": "billing"})
    new_run(metadata={"order": "17"})
    wanted = Run.objects.with_metadata({"order": "17", "team": "billing"})
    assert [run.pk for run in wanted] == [mine.pk]
    assert Run.objects.exclude(pk__in=wanted).count() == 1


def test_a_value_that_is_no_text_is_not_the_text_of_it() -> None:
    new_run(metadata={"order": 17, "list": ["17"], "none": None})
    for pair in ("order:17", "list:17", 'list:["17"]', "none:null", "none:None"):
        assert found(pair) == set()


def test_a_long_text_has_few_readings() -> None:
    assert len(pairs_in(":" * 5000)) <= 2 * 64
    assert pairs_in("no colon") == pairs_in(":value") == []
    assert pairs_in("key:value") == [("key", "value")]
    assert found(":" * 5000) == set()


@pytest.mark.sqlite
def test_on_sqlite_a_pair_is_looked_for_in_the_newest_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "MOST_SEARCHED", 2)
    monkeypatch.setattr(search, "MOST_WITHIN", 2)
    old, *newer = (new_run(metadata={"order": str(n)}) for n in range(3))
    assert found("order:0") == set()
    assert found("order:1") == {newer[0].pk}
    assert old.metadata == {"order": "0"}


@pytest.mark.postgres
def test_on_postgresql_a_pair_is_found_however_old_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_SEARCHED", 2)
    monkeypatch.setattr(search, "MOST_WITHIN", 2)
    old, *_ = (new_run(metadata={"order": str(n)}) for n in range(4))
    assert found("order:0") == {old.pk}


@pytest.mark.postgres
@pytest.mark.parametrize("text", ["order:2500", "a:order:2500", "order:2500:x"])
def test_a_pair_is_found_by_its_index(text: str) -> None:
    metadata = "jsonb_build_object('order', n::text, 'team', 'billing')"
    fill(State.SUCCEEDED, metadata=metadata, finished_at="now()")
    fill(State.SUCCEEDED, finished_at="now()")
    rows = search._by_metadata(Run.objects.all(), pairs_in(text), Run.objects.all())
    for query in (rows, rows.order_by("-pk")[:50], rows.order_by()[:10_000]):
        assert "defer_run_metadata" in query.explain()


@pytest.mark.postgres
def test_runs_without_metadata_are_not_in_the_index() -> None:
    with database().cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'defer_run_metadata'")
        ((definition,),) = cursor.fetchall()
    assert "USING gin (metadata jsonb_path_ops)" in definition
    assert "WHERE (metadata IS NOT NULL)" in definition
    assert "defer_run_metadata" not in plan_of("SELECT 1 FROM django_defer_run WHERE key = 'a'")


@pytest.mark.postgres
def test_the_index_can_be_taken_back_and_made_again() -> None:
    def exists() -> bool:
        with database().cursor() as cursor:
            cursor.execute("SELECT to_regclass('defer_run_metadata') IS NOT NULL")
            return bool(cursor.fetchone()[0])

    with rolled_back():
        migration = __import__("django_defer.migrations.0007_metadata", fromlist=["x"])
        with database().schema_editor() as editor:
            migration.drop_index(None, editor)
            assert not exists()
            migration.create_index(None, editor)
            assert exists()


def test_the_models_are_those_of_the_migrations() -> None:
    call_command("makemigrations", "django_defer", check=True, dry_run=True, verbosity=0)


# -- in the admin ----------------------------------------------------------------------------------


def read(client: Client, url: str, **query: str) -> str:
    response = client.get(url, query)
    assert response.status_code == 200
    return response.content.decode()


def test_the_page_of_a_run_shows_pairs_that_lead_to_their_like(admin_client: Client) -> None:
    run = new_run(metadata={"order": "17", "team": "R&D", "note": ""})
    page = read(admin_client, f"{LIST}{run.pk}/change/")
    assert "<h2>Metadata</h2>" in page
    assert f'<dt>order</dt><dd><a href="{LIST}?q=order%3A17">17</a></dd>' in page
    assert f'<dt>team</dt><dd><a href="{LIST}?q=team%3AR%26D">R&amp;D</a></dd>' in page
    assert "<dt>note</dt>" in page
    bare = new_run()
    assert "<h2>Metadata</h2>" not in read(admin_client, f"{LIST}{bare.pk}/change/")


def test_whoever_may_view_runs_sees_and_searches_it(client: Client) -> None:
    log_in_with(client, "view_run")
    run = new_run(metadata={"order": "17"})
    new_run()
    assert "<dt>order</dt>" in read(client, f"{LIST}{run.pk}/change/")
    listed = client.get(LIST, {"q": "order:17"}).context["cl"].result_list
    assert [each.pk for each in listed] == [run.pk]
    assert "a pair of metadata as key:value" in read(client, LIST)


def test_hostile_pairs_stay_text(admin_client: Client) -> None:
    run = new_run(metadata={text: text for text in HOSTILE_TEXTS})
    page = read(admin_client, f"{LIST}{run.pk}/change/")
    assert "<script>alert" not in page
    for text in HOSTILE_TEXTS:
        assert f"<dt>{escape(text)}</dt>" in page
        listed = read(admin_client, LIST, q=f"{text}:{text}")
        assert "<script>alert" not in listed
        assert run.pk.hex[-8:] in listed or text == " spaces "


@pytest.mark.parametrize("stored", [["a"], "text", 17, {"n": 17, "deep": {"a": ["<b>"]}}])
def test_a_row_edited_by_hand_is_shown_all_the_same(admin_client: Client, stored: Any) -> None:
    run = new_run(metadata=json.loads(json.dumps(stored)))
    page = read(admin_client, f"{LIST}{run.pk}/change/")
    assert "<b>" not in page
    assert ("<dt>n</dt>" in page) == isinstance(stored, dict)
    read(admin_client, LIST, q="n:17")
