"""A verb on all that matches a list's filters: asked first, done in batches, gone on with."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from django_defer.admin import all_matching as module
from django_defer.models import Run
from django_defer.states import State
from tests import runs
from tests.runs import new_run

if TYPE_CHECKING:
    from django.test import Client

pytestmark = runs.in_transaction

LIST = reverse("admin:django_defer_run_changelist")


def post(client: Client, action: str, address: str, **fields: Any) -> Any:
    """Choose an action for all that matches, as Django's script does."""
    selected = {"action": action, "index": "0", "select_across": "1", "_selected_action": "all"}
    return client.post(address, {**selected, **fields}, follow=True)


def hidden(page: str) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="([^"]+)"(?: value="([^"]*)")?', page)
    return {name: html.unescape(value) for name, value in found if name != "csrfmiddlewaretoken"}


def go_on(client: Client, response: Any, address: str, **fields: Any) -> Any:
    """Press the button of the page."""
    return client.post(address, hidden(response.content.decode()) | fields, follow=True)


def states(*made: Run) -> list[str]:
    return [runs.fresh(run).state for run in made]


def test_it_says_how_many_before_it_does_anything(admin_client: Client) -> None:
    made, other = [new_run() for _ in range(3)], new_run("shop.other")
    address = f"{LIST}?function={runs.NOOP}&state=queued"
    page = post(admin_client, "cancel_selected", address)
    text = page.content.decode()
    assert "This is about all 3 runs" in text
    assert f"function: {runs.NOOP}" in text
    assert states(*made) == ["queued"] * 3
    page = go_on(admin_client, page, address)
    assert "Cancelled: 3." in page.content.decode()
    assert states(*made, other) == ["cancelled"] * 3 + ["queued"]
    assert LogEntry.objects.count() == 3


def test_what_is_refused_is_counted_and_one_is_named(admin_client: Client) -> None:
    good, bad = new_run(), new_run(state=State.RUNNING)
    page = go_on(admin_client, post(admin_client, "cancel_selected", LIST), LIST)
    assert "Cancelled: 1." in page.content.decode()
    assert f"Not cancelled: 1. Run {bad.pk} is running" in page.content.decode()
    assert states(good, bad) == ["cancelled", "running"]


def test_what_takes_long_is_gone_on_with(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0)
    made = [new_run() for _ in range(3)]
    page = post(admin_client, "cancel_selected", LIST)
    for done in (1, 2):
        page = go_on(admin_client, page, LIST)
        assert f"Done so far: {done}. Left: {3 - done} runs." in " ".join(
            page.content.decode().split()
        )
    page = go_on(admin_client, page, LIST)
    assert "Cancelled: 3." in page.content.decode()
    assert states(*made) == ["cancelled"] * 3


def test_an_answer_is_taken_along(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0)
    made = [new_run() for _ in range(2)]
    page = post(admin_client, "reschedule_selected", LIST)
    assert states(*made) == ["queued"] * 2
    page = go_on(admin_client, page, LIST, span="hour")
    assert "Done so far: 1" in page.content.decode()
    page = go_on(admin_client, page, LIST)
    assert states(*made) == ["scheduled"] * 2


def test_reruns_are_not_run_again(admin_client: Client) -> None:
    for _ in range(2):
        new_run(state=State.SUCCEEDED)
    page = post(admin_client, "rerun_selected", LIST)
    new_run(state=State.SUCCEEDED)  # it came after the question
    page = go_on(admin_client, page, LIST)
    assert "Enqueued again: 2." in page.content.decode()
    assert Run.objects.filter(rerun_of__isnull=False).count() == 2


@pytest.mark.parametrize("bad", [{"matching-until": "x"}, {"matching-done": "many"}])
def test_what_was_tampered_with_is_refused(admin_client: Client, bad: dict[str, str]) -> None:
    new_run()
    page = post(admin_client, "cancel_selected", LIST)
    assert go_on(admin_client, page, LIST, **bad).status_code == 400
    assert Run.objects.queued().count() == 1


def test_without_the_permission_there_is_no_such_action(
    client: Client, django_user_model: Any
) -> None:
    from django.contrib.auth.models import Permission

    user = django_user_model.objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_run"))
    client.force_login(user)
    run = new_run()
    page = post(client, "cancel_selected", LIST)
    assert "This is about all" not in page.content.decode()
    assert states(run) == ["queued"]
