"""What the admin says of runs whose rows are gone, where other rows and the log still name them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils.html import strip_tags

from django_defer import operations
from django_defer.admin.rendering import short_id
from django_defer.models import CronDefinition, Run
from django_defer.states import State
from django_defer.sync import sync
from tests.admin_pages import read, words
from tests.admin_rows import (
    ago,
    log_in_with,
    make_finished,
    make_retrying,
    make_run,
    make_slot,
    prune,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

pytestmark = pytest.mark.django_db

SLOT = datetime(2026, 11, 23, 8, tzinfo=UTC)
GONE = "There is no such run (any more). Finished runs are pruned after a while."


def page_of(run: Run) -> str:
    return reverse("admin:django_defer_run_change", args=[run.pk])


def plain(client: Client, run: Run) -> str:
    return strip_tags(read(client, "run", run))


def weekly_with_children() -> tuple[CronDefinition, Run]:
    sync()
    definition = CronDefinition.objects.get(function="testapp.weekly")
    run = make_slot(definition, SLOT, succeeded=2, failed=1)
    definition.refresh_from_db()
    return definition, run


# -- the last run of a definition ------------------------------------------------------------------


def test_a_definition_says_that_the_run_of_its_last_slot_is_pruned(admin_client: Client) -> None:
    definition, run = weekly_with_children()
    prune(run)
    text = words(admin_client, "crondefinition", definition)
    assert f"Slot Monday 2026-11-23 08:00 UTC Run {short_id(run.pk)} (pruned)" in text
    assert page_of(run) not in read(admin_client, "crondefinition", definition)


def test_the_list_of_definitions_says_it_too(admin_client: Client) -> None:
    _definition, run = weekly_with_children()
    assert page_of(run) in read(admin_client, "crondefinition")
    assert "pruned" not in words(admin_client, "crondefinition")
    prune(run)
    assert "08:00:00 UTC pruned" in words(admin_client, "crondefinition")
    assert page_of(run) not in read(admin_client, "crondefinition")


def test_the_list_says_nothing_of_a_run_where_no_slot_was_due_yet(admin_client: Client) -> None:
    sync()
    assert "pruned" not in words(admin_client, "crondefinition")


def test_a_function_of_which_all_runs_are_pruned_is_shown(admin_client: Client) -> None:
    definition, run = weekly_with_children()
    prune(run)
    text = words(admin_client, "backgroundfunction", definition.function)
    assert "Nothing of it waits or runs." in text
    assert page_of(run) not in read(admin_client, "backgroundfunction", definition.function)
    assert page_of(run) not in read(admin_client, "backgroundfunction")


# -- relatives -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "name"), [("parent", "Parent"), ("root", "Root"), ("rerun_of", "Rerun of")]
)
def test_a_relative_that_was_pruned_is_named_without_a_link(
    admin_client: Client, column: str, name: str
) -> None:
    relative = make_finished()
    run = make_finished(State.FAILED, **{column: relative})
    assert page_of(relative) in read(admin_client, "run", run)
    prune(relative)
    assert f"{name} {short_id(relative.pk)} (pruned)" in words(admin_client, "run", run)
    assert page_of(relative) not in read(admin_client, "run", run)


def test_the_list_of_runs_links_the_parents_that_are_there(admin_client: Client) -> None:
    kept, gone = make_finished(), make_finished()
    make_retrying(parent=kept)
    make_retrying(parent=gone)
    prune(gone)
    text = read(admin_client, "run")
    assert page_of(kept) in text
    assert page_of(gone) not in text
    assert f"<code>{short_id(gone.pk)}</code> (pruned)" in text
    assert f"<code>{short_id(kept.pk)}</code> (pruned)" not in text


def test_the_children_of_a_pruned_run_are_listed_and_the_filter_says_so(
    admin_client: Client,
) -> None:
    _definition, run = weekly_with_children()
    assert f"run {short_id(run.pk)}</a>" in read(admin_client, "run", parent=run.pk)
    prune(run)
    text = read(admin_client, "run", parent=run.pk)
    assert f"run {short_id(run.pk)} (pruned)</a>" in text
    table, _rest = text.split('id="result_list"')[1].split("</table>", 1)
    assert table.count("testapp.recommend</a>") == 3


def test_children_that_are_pruned_are_no_longer_counted(admin_client: Client) -> None:
    _definition, run = weekly_with_children()
    assert "2 of 3 succeeded, 1 failed." in plain(admin_client, run)
    for child in Run.objects.filter(parent=run):
        prune(child)
    text = plain(admin_client, run)
    assert "Succeeded in 1.3 s." in text
    assert "succeeded," not in text


def test_a_rerun_that_is_pruned_is_not_listed(admin_client: Client) -> None:
    run = make_finished(State.FAILED)
    again = make_finished(rerun_of=run)
    assert "Reruns" in words(admin_client, "run", run)
    prune(again)
    assert "Reruns" not in words(admin_client, "run", run)


def test_a_run_whose_definition_is_gone_is_shown(admin_client: Client) -> None:
    definition, run = weekly_with_children()
    CronDefinition.objects.filter(pk=definition.pk).delete()
    assert "Cron definition testapp.weekly" in words(admin_client, "run", run)


# -- its own pages and the log ---------------------------------------------------------------------


@pytest.mark.parametrize("page", ["change", "history"])
def test_a_page_of_a_pruned_run_leads_to_the_list_which_says_why(
    admin_client: Client, page: str
) -> None:
    run = make_finished()
    prune(run)
    url = reverse(f"admin:django_defer_run_{page}", args=[run.pk])
    response = admin_client.get(url, follow=True)
    assert response.redirect_chain == [(reverse("admin:django_defer_run_changelist"), 302)]
    assert GONE in response.content.decode()


def test_a_pruned_run_is_no_page_for_those_who_may_not_see_runs(client: Client) -> None:
    log_in_with(client, "view_cluster")
    run = make_finished()
    prune(run)
    for page in ("change", "history"):
        url = reverse(f"admin:django_defer_run_{page}", args=[run.pk])
        assert client.get(url).status_code == 403


@pytest.mark.parametrize("verb", ["cancel", "abort", "rerun", "reschedule"])
def test_a_verb_on_a_pruned_run_leads_to_the_list_which_says_why(
    admin_client: Client, verb: str
) -> None:
    run = make_finished()
    prune(run)
    url = reverse(f"admin:django_defer_run_{verb}", args=[run.pk])
    assert GONE in admin_client.post(url, follow=True).content.decode()
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("verb", "make"),
    [("rerun", make_finished), ("reschedule", make_run), ("cancel", make_run)],
)
def test_a_run_that_is_pruned_between_the_look_and_the_click_is_a_message(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, verb: str, make: Callable[[], Run]
) -> None:
    real = getattr(operations, verb)

    def too_late(run: Run, *args: Any, **options: Any) -> Any:
        prune(run)
        return real(run, *args, **options)

    monkeypatch.setattr(operations, verb, too_late)
    run = make()
    url = reverse(f"admin:django_defer_run_{verb}", args=[run.pk])
    text = strip_tags(admin_client.post(url, follow=True).content.decode())
    assert f"testapp.add {short_id(run.pk)} is gone" in text
    assert not LogEntry.objects.exists()


def test_the_log_of_a_pruned_run_is_shown_and_leads_to_the_list(admin_client: Client) -> None:
    run = make_run(label="Ada")
    admin_client.post(reverse("admin:django_defer_run_cancel", args=[run.pk]))
    prune(run)
    text = admin_client.get(reverse("admin:index")).content.decode()
    assert page_of(run) in text
    assert "testapp.add Ada" in text
    response = admin_client.get(LogEntry.objects.get().get_admin_url() or "", follow=True)
    assert GONE in response.content.decode()


@pytest.mark.parametrize("text", [str, lambda pk: pk.hex, short_id])
def test_a_search_for_a_pruned_run_finds_nothing(
    admin_client: Client, text: Callable[[Any], str]
) -> None:
    run = make_finished(enqueued_at=ago(days=40))
    assert page_of(run) in read(admin_client, "run", q=text(run.pk))
    prune(run)
    assert page_of(run) not in read(admin_client, "run", q=text(run.pk))
