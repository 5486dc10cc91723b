"""The verbs of the admin: by whom, how, and what they leave behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from django_defer import operations, pauses
from django_defer.admin import acting
from django_defer.models import BackgroundFunction, CronDefinition, Queue, Run
from django_defer.states import State
from django_defer.sync import sync
from tests.admin_rows import HOSTILE, ago, log_in_with, make_alert, make_finished, make_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import Model

pytestmark = pytest.mark.django_db


def definition() -> CronDefinition:
    sync()
    return CronDefinition.objects.get(function="testapp.weekly")


def paused_definition() -> CronDefinition:
    row = definition()
    row.pause()
    return row


def overridden_definition() -> CronDefinition:
    row = definition()
    row.override(expression="0 9 * * *")
    return row


def function(key: str = "testapp.noop") -> BackgroundFunction:
    sync()
    return BackgroundFunction.objects.get(pk=key)


def paused_function() -> BackgroundFunction:
    row = function()
    pauses.pause(row)
    return row


def queue() -> Queue:
    return Queue.objects.create(name="mail")


def paused_queue() -> Queue:
    return pauses.pause_queue("mail")


@dataclass(frozen=True)
class Case:
    """A verb on a model: what it is done to, and how to see that it was done."""

    model: str
    verb: str
    permission: str
    make: Callable[[], Any]
    is_done: Callable[[Any], bool]
    data: dict[str, str] = field(default_factory=dict)
    is_action: bool = True

    def __str__(self) -> str:
        return f"{self.verb}-{self.model}"

    def url(self, row: Model) -> str:
        return f"/admin/django_defer/{self.model}/{quote(row.pk)}/{self.verb}/"


def running() -> Run:
    return make_run(state=State.RUNNING, claim_id=uuid4(), attempt=1, started_at=ago(seconds=9))


def has_new_run(row: Any) -> bool:
    key = row.function_id if isinstance(row, CronDefinition) else row.key
    return Run.objects.filter(function=key, enqueued_by="viewer").count() == 1


CASES = [
    Case("run", "cancel", "cancel_run", make_run, lambda run: run.state == State.CANCELLED),
    Case("run", "rerun", "rerun_run", make_finished, lambda run: run.reruns.count() == 1),
    Case("crondefinition", "run-now", "run_now", definition, has_new_run),
    Case("crondefinition", "pause", "pause", definition, lambda row: row.is_paused),
    Case("crondefinition", "resume", "pause", paused_definition, lambda row: not row.is_paused),
    Case("backgroundfunction", "run-now", "run_now", function, has_new_run),
    Case("backgroundfunction", "pause", "pause", function, lambda row: row.is_paused),
    Case("backgroundfunction", "resume", "pause", paused_function, lambda row: not row.is_paused),
    Case("queue", "pause", "pause", queue, lambda row: row.is_paused),
    Case("queue", "resume", "pause", paused_queue, lambda row: not row.is_paused),
    Case("run", "abort", "cancel_run", running, lambda run: run.abort_requested_at is not None),
    Case(
        "crondefinition",
        "override",
        "override_definition",
        definition,
        lambda row: row.expression == "0 9 * * *",
        data={"expression": "0 9 * * *", "timezone": "UTC"},
        is_action=False,
    ),
    Case(
        "crondefinition",
        "clear-override",
        "override_definition",
        overridden_definition,
        lambda row: not row.is_overridden,
        is_action=False,
    ),
    Case(
        "run",
        "reschedule",
        "reschedule_run",
        lambda: make_run(state=State.SCHEDULED, run_after=ago(hours=-3)),
        lambda run: run.state == State.QUEUED,
    ),
    Case(
        "alert",
        "acknowledge",
        "acknowledge_alert",
        make_alert,
        lambda alert: alert.acknowledged_at is not None,
    ),
]
ALL = {case.permission for case in CASES}
every_verb = pytest.mark.parametrize("case", CASES, ids=str)
every_action = pytest.mark.parametrize("case", [each for each in CASES if each.is_action], ids=str)


def page(case: Case, row: Model) -> str:
    return reverse(f"admin:django_defer_{case.model}_change", args=[quote(row.pk)])


def bulk(client: Client, case: Case, *rows: Model, **data: Any) -> Any:
    return client.post(
        reverse(f"admin:django_defer_{case.model}_changelist"),
        {
            "action": f"{case.verb.replace('-', '_')}_selected",
            "_selected_action": [row.pk for row in rows],
            **data,
        },
        follow=True,
    )


def refreshed(row: Any) -> Any:
    row.refresh_from_db()
    return row


@every_verb
def test_a_verb_is_done_by_those_who_have_its_permission(client: Client, case: Case) -> None:
    log_in_with(client, f"view_{case.model}", case.permission)
    row = case.make()
    assert case.url(row) in client.get(page(case, row)).content.decode()
    response = client.post(case.url(row), case.data, follow=True)
    assert response.redirect_chain == [(page(case, row), 302)]
    assert case.is_done(refreshed(row))
    assert [message.level_tag for message in response.context["messages"]] == ["success"]


@every_verb
def test_a_verb_is_refused_to_those_who_lack_its_permission(client: Client, case: Case) -> None:
    others = ALL - {case.permission}
    log_in_with(client, f"view_{case.model}", f"change_{case.model}", "view_run_data", *others)
    row = case.make()
    assert case.url(row) not in client.get(page(case, row)).content.decode()
    assert client.post(case.url(row), case.data).status_code == 403
    assert not case.is_done(refreshed(row))
    assert not LogEntry.objects.exists()


@every_verb
def test_a_verb_is_no_get(admin_client: Client, case: Case) -> None:
    row = case.make()
    assert admin_client.get(case.url(row)).status_code == 405
    assert not case.is_done(refreshed(row))


@every_verb
def test_a_verb_needs_a_csrf_token(admin_user: User, case: Case) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    row = case.make()
    assert client.post(case.url(row), case.data).status_code == 403
    assert not case.is_done(refreshed(row))


@every_verb
def test_somebody_unknown_is_sent_to_log_in_and_then_to_the_page(
    client: Client, case: Case
) -> None:
    row = case.make()
    response = client.post(case.url(row), case.data)
    assert response.status_code == 302
    path = f"/admin/django_defer/{case.model}/{quote(row.pk)}/"
    assert response["Location"] == f"/admin/login/?next={path}"
    assert not case.is_done(refreshed(row))


@every_verb
def test_a_verb_is_written_to_the_log(client: Client, case: Case) -> None:
    user = log_in_with(client, case.permission)
    row = case.make()
    client.post(case.url(row), case.data)
    entry = LogEntry.objects.get()
    assert entry.user == user
    assert entry.object_id == str(row.pk)
    assert entry.get_edited_object() == row
    if case.verb in ("run-now", "rerun"):
        assert str(Run.objects.latest("id").pk) in entry.get_change_message()


@every_action
def test_a_verb_is_an_action_of_the_list(client: Client, case: Case) -> None:
    log_in_with(client, f"view_{case.model}", case.permission)
    row = case.make()
    assert bulk(client, case, row, answered=1).status_code == 200
    assert case.is_done(refreshed(row))
    assert LogEntry.objects.count() == 1


@every_action
def test_an_action_is_not_offered_without_the_permission(client: Client, case: Case) -> None:
    log_in_with(client, f"view_{case.model}", *(ALL - {case.permission}))
    row = case.make()
    response = bulk(client, case, row, answered=1)
    assert f"{case.verb.replace('-', '_')}_selected" not in response.content.decode()
    assert not case.is_done(refreshed(row))


@every_verb
def test_a_verb_on_a_row_that_is_gone_leads_to_the_list(admin_client: Client, case: Case) -> None:
    response = admin_client.post(
        f"/admin/django_defer/{case.model}/nonsense/{case.verb}/", follow=True
    )
    assert "(any more)." in response.content.decode()


# -- what the rules refuse -------------------------------------------------------------------------


def test_cancelling_a_run_that_runs_is_an_error_message(admin_client: Client) -> None:
    run = make_run(state=State.RUNNING)
    text = admin_client.post(CASES[0].url(run), follow=True).content.decode()
    assert "only a run that has not started can be cancelled" in text
    assert refreshed(run).state == State.RUNNING
    assert not LogEntry.objects.exists()


def test_a_run_that_starts_between_the_look_and_the_click_is_an_error_message(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "cancel_waiting", lambda *args: False)
    text = admin_client.post(CASES[0].url(make_run()), follow=True).content.decode()
    assert "only a run that has not started can be cancelled" in text


def test_an_abort_keeps_who_asked_for_it_and_why_and_is_asked_for_once(
    admin_client: Client,
) -> None:
    abort, run = CASES[10], running()
    admin_client.post(abort.url(run), {"reason": "the provider is down"})
    assert refreshed(run).reason == "the provider is down (aborted by admin)"
    assert run.state == State.RUNNING
    assert LogEntry.objects.get().get_change_message() == "Abort requested: the provider is down."
    text = admin_client.get(page(abort, run)).content.decode()
    assert "Aborting since " in text
    assert abort.url(run) not in text
    text = admin_client.post(abort.url(run), follow=True).content.decode()
    assert "it is being aborted since" in text
    assert LogEntry.objects.count() == 1


@pytest.mark.parametrize("state", sorted(set(State) - {State.RUNNING}))
def test_only_a_run_that_is_running_can_be_aborted(admin_client: Client, state: State) -> None:
    abort, run = CASES[10], make_run(state=state)
    assert abort.url(run) not in admin_client.get(page(abort, run)).content.decode()
    text = admin_client.post(abort.url(run), follow=True).content.decode()
    assert "only a run that is running can be aborted" in text
    assert refreshed(run).state == state


def test_the_bulk_abort_asks_for_a_reason_first(admin_client: Client) -> None:
    abort, run = CASES[10], running()
    response = bulk(admin_client, abort, run)
    assert "Reason (optional)" in response.content.decode()
    assert refreshed(run).abort_requested_at is None
    bulk(admin_client, abort, run, reason="holidays", answered=1)
    assert refreshed(run).reason == "holidays (aborted by admin)"


def test_rerunning_a_run_that_waits_is_an_error_message(admin_client: Client) -> None:
    run = make_run()
    assert CASES[1].url(run) not in admin_client.get(page(CASES[1], run)).content.decode()
    text = admin_client.post(CASES[1].url(run), follow=True).content.decode()
    assert "only a run that has ended can be run again" in text
    assert Run.objects.count() == 1


@pytest.mark.parametrize("key", ["testapp.add", "testapp.gone"])
def test_what_needs_arguments_or_has_no_code_cannot_be_run_now(
    admin_client: Client, key: str
) -> None:
    row, _ = BackgroundFunction.objects.get_or_create(key=key)
    case = CASES[5]
    assert case.url(row) not in admin_client.get(page(case, row)).content.decode()
    text = admin_client.post(case.url(row), follow=True).content.decode()
    assert "Not enqueued: " in text
    assert not Run.objects.exists()


def test_what_is_paused_is_not_paused_again(admin_client: Client) -> None:
    row = paused_definition()
    text = admin_client.post(CASES[3].url(row), follow=True).content.decode()
    assert "is paused already." in text


def test_a_bulk_action_does_what_it_can_and_says_what_it_could_not(admin_client: Client) -> None:
    waiting, running = make_run(), make_run(state=State.RUNNING)
    text = bulk(admin_client, CASES[0], waiting, running).content.decode()
    assert "Cancelled: " in text
    assert f"Not cancelled: Run {running.pk} is running" in text
    assert refreshed(waiting).state == State.CANCELLED


def test_a_message_names_a_few_of_many(admin_client: Client) -> None:
    runs = [make_run(label=f"number {n}") for n in range(7)]
    text = bulk(admin_client, CASES[0], *runs).content.decode()
    assert "Cancelled (7): " in text
    assert "and 2 more" in text


def test_too_many_at_a_time_are_refused(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acting, "MOST_AT_ONCE", 2)
    runs = [make_run() for _ in range(3)]
    text = bulk(admin_client, CASES[0], *runs).content.decode()
    assert "Nothing was done: select at most 2 at a time." in text
    assert not Run.objects.filter(state=State.CANCELLED).exists()


# -- details ---------------------------------------------------------------------------------------


def test_the_message_links_the_run_that_was_made(admin_client: Client) -> None:
    text = admin_client.post(CASES[2].url(definition()), follow=True).content.decode()
    run = Run.objects.get()
    assert run.enqueued_by == "admin"
    assert f'Enqueued: <a href="/admin/django_defer/run/{run.pk}/change/">' in text


def test_a_reason_is_kept_shown_and_logged(admin_client: Client) -> None:
    row = function()
    admin_client.post(CASES[6].url(row), {"reason": "the mail server moves"})
    assert refreshed(row).pause_reason == "the mail server moves"
    assert row.paused_by == "admin"
    text = admin_client.get(page(CASES[6], row)).content.decode()
    assert "Paused by admin since " in text
    assert "the mail server moves" in text
    assert LogEntry.objects.get().get_change_message() == "Paused: the mail server moves."


def test_the_bulk_pause_asks_for_a_reason_first(admin_client: Client) -> None:
    rows = [function(), function("testapp.add")]
    response = bulk(admin_client, CASES[6], *rows, index=0)
    assert "Reason (optional)" in response.content.decode()
    assert not refreshed(rows[0]).is_paused
    bulk(admin_client, CASES[6], *rows, reason="holidays", answered=1)
    assert {refreshed(row).pause_reason for row in rows} == {"holidays"}


def test_hostile_text_stays_text_in_messages_forms_and_the_log(admin_client: Client) -> None:
    run = make_run(label=HOSTILE)
    row = function()
    other, _ = BackgroundFunction.objects.get_or_create(key=HOSTILE)
    responses = [
        bulk(admin_client, CASES[6], other, index=0),
        admin_client.post(CASES[0].url(run), follow=True),
        admin_client.post(CASES[1].url(run), follow=True),
        admin_client.post(CASES[6].url(row), {"reason": HOSTILE}, follow=True),
        admin_client.post(CASES[6].url(other), {"reason": HOSTILE}, follow=True),
        admin_client.post(CASES[5].url(other), follow=True),
        admin_client.get(
            reverse("admin:django_defer_backgroundfunction_history", args=[quote(HOSTILE)])
        ),
    ]
    for response in responses:
        assert response.status_code == 200
        assert "<script>alert" not in response.content.decode()
    assert "&lt;script&gt;alert(1)" in responses[3].content.decode()


def test_a_person_with_the_verb_alone_cannot_read_the_page(client: Client) -> None:
    log_in_with(client, "cancel_run")
    run = make_run()
    assert client.post(CASES[0].url(run)).status_code == 302
    assert client.get(page(CASES[0], run)).status_code == 403
