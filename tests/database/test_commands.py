"""`defer_sync`, `defer_scheduler`, `defer_run` and `defer_status`, for people and pipelines."""

from __future__ import annotations

import json
import logging
import re
import signal
import subprocess
import sys
import time
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections
from django.test import override_settings

from django_defer import scheduler
from django_defer.clock import database_now
from django_defer.exceptions import NotMigrated
from django_defer.models import BackgroundFunction, CronDefinition, Run
from django_defer.payloads import decode_call
from django_defer.registry import registry
from django_defer.states import State
from django_defer.sync import sync
from django_defer.testing import drain
from tests.databases import environment
from tests.runs import new_cluster, new_definition, new_run
from tests.scratch import Project, define, own_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., subprocess.Popen[str]]

pytestmark = pytest.mark.django_db

COMMANDS = [
    "defer_sync",
    "defer_scheduler",
    "defer_run",
    "defer_status",
    "defer_explain",
    "defer_prune",
]


def command(name: str, *arguments: str, **options: Any) -> list[str]:
    """Run a command in this process; return the lines it printed."""
    out = StringIO()
    call_command(name, *arguments, stdout=out, stderr=out, **options)
    return out.getvalue().splitlines()


def call_of(run: Run) -> tuple[Any, Any]:
    """Return the arguments that a run has."""
    args, kwargs = decode_call(run.args)
    return list(args), dict(kwargs)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Undo what a command does to log for a person."""
    logger = logging.getLogger("django_defer")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.fixture
def small_registry() -> Iterator[None]:
    """One plain and one scheduled function are all the code there is."""
    with own_registry():
        define("""
            @defer
            def compute(first, second=2): return first + second

            @defer.cron('0 8 * * MON', timezone='Europe/Paris')
            def weekly(limit=10): ...
        """)
        yield


@pytest.fixture
def no_tables() -> None:
    """Hide a table, as before `migrate`, until the test's transaction is rolled back."""
    with connection.cursor() as cursor:
        for model in (Run, BackgroundFunction):
            cursor.execute(f"ALTER TABLE {model._meta.db_table} RENAME TO gone_{model.__name__}")


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a command in a process of its own, on this test's databases."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "django", *arguments, "--skip-checks"],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def make_slots_due() -> None:
    """Let every definition have one slot to fire."""
    now = database_now("default")
    for each in CronDefinition.objects.all():
        slot = each.schedule.previous_before(now)
        CronDefinition.objects.filter(pk=each.pk).update(next_slot_at=slot)


def until(condition: Callable[[], object], timeout: float = 20) -> None:
    """Wait until something is true."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)


def after_startup(start: Start, *arguments: str) -> subprocess.Popen[str]:
    """Start a scheduler and return once it says that it ticks."""
    process = start("defer_scheduler", *arguments)
    assert process.stderr is not None
    assert "scheduler.started" in process.stderr.readline()
    return process


# -- all of them -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("no_tables")
def test_before_migrate_each_says_what_to_do(name: str) -> None:
    arguments = {
        "defer_scheduler": ["--once"],
        "defer_run": ["testapp.noop"],
        "defer_explain": ["testapp.noop"],
    }.get(name, [])
    with pytest.raises(CommandError, match=r"do not exist yet: run `manage\.py migrate`"):
        command(name, *arguments)


def test_a_mistake_is_a_sentence_without_a_traceback(tmp_path: Path) -> None:
    project = Project(tmp_path)
    for arguments in (["defer_sync"], ["defer_scheduler"], ["defer_run", "shop.nothing"]):
        done = project.manage(*arguments, "--verbosity", "0")
        assert done.returncode == 1
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("CommandError: ")
    assert "manage.py migrate" in project.manage("defer_scheduler").stderr


def test_an_unreachable_database_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise OperationalError("connection refused\n")

    monkeypatch.setattr("django_defer.sync._one_at_a_time", fail)
    with pytest.raises(CommandError, match=r"^The database does not answer: connection refused$"):
        command("defer_sync")


# -- defer_sync ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_registry")
def test_sync_prints_what_it_created_and_the_next_slots() -> None:
    lines = command("defer_sync")
    assert lines[:3] == [
        "created  function shop.compute",
        "created  function shop.weekly",
        "created  definition shop.weekly (0 8 * * MON Europe/Paris)",
    ]
    assert lines[3] == "means    shop.weekly: at 08:00 on Monday (Europe/Paris)"
    assert len(lines) == 9
    for line in lines[4:]:
        assert line.startswith("next     shop.weekly: Mon ")
        assert "08:00 Europe/Paris (Mon 0" in line
        assert line.endswith(":00 UTC)")
    assert CronDefinition.objects.count() == 1


@pytest.mark.usefixtures("small_registry")
def test_sync_has_nothing_to_do_the_second_time() -> None:
    command("defer_sync")
    assert command("defer_sync") == ["Nothing to do."]
    assert command("defer_sync", "--check") == ["Nothing to do."]


@pytest.mark.usefixtures("small_registry")
def test_sync_prints_what_changed_left_and_came_back() -> None:
    command("defer_sync")
    compute = registry.get("shop.compute")
    registry._functions.clear()
    define("@defer(queue='mail')\ndef compute(): ...")
    assert command("defer_sync") == [
        "changed  function shop.compute: queue default → mail",
        "orphaned function shop.weekly",
        "orphaned definition shop.weekly",
    ]
    registry._functions["shop.compute"] = compute
    define("\n\n@defer.cron('0 8 * * MON', timezone='Europe/Paris')\ndef weekly(limit=10): ...")
    lines = command("defer_sync")
    assert "revived  function shop.weekly" in lines
    assert "revived  definition shop.weekly (0 8 * * MON Europe/Paris)" in lines
    assert lines[-1].startswith("next     shop.weekly: Mon ")


@pytest.mark.usefixtures("small_registry")
def test_a_dry_run_shows_the_difference_and_writes_nothing() -> None:
    assert command("defer_sync", "--dry-run")[0] == "created  function shop.compute"
    assert not BackgroundFunction.objects.exists()
    assert command("defer_sync")[0] == "created  function shop.compute"


@pytest.mark.usefixtures("small_registry")
def test_a_check_shows_the_difference_writes_nothing_and_fails() -> None:
    out = StringIO()
    with pytest.raises(CommandError, match=r"run `manage\.py defer_sync`") as caught:
        call_command("defer_sync", "--check", stdout=out)
    assert caught.value.returncode == 1
    assert "created  function shop.compute" in out.getvalue()
    assert not BackgroundFunction.objects.exists()


@pytest.mark.usefixtures("small_registry")
def test_a_check_also_names_waiting_runs_that_do_not_fit_and_fails() -> None:
    command("defer_sync")
    new_run("shop.compute", args={"args": [1, 2, 3], "kwargs": {}})
    new_run("shop.gone")
    out = StringIO()
    with pytest.raises(CommandError, match="Waiting runs do not fit this code"):
        call_command("defer_sync", "--check", stdout=out)
    assert out.getvalue().splitlines() == [
        "unfit    1 waiting run of shop.compute has 3 positional arguments, and it takes 2",
        "unfit    1 waiting run of shop.gone has no function in this code",
    ]
    assert command("defer_sync") == ["Nothing to do."]


@pytest.mark.usefixtures("small_registry")
def test_at_verbosity_0_sync_prints_nothing() -> None:
    assert command("defer_sync", verbosity=0) == []
    assert BackgroundFunction.objects.count() == 2
    assert command("defer_sync", verbosity=0) == []


# -- defer_run -------------------------------------------------------------------------------------


def test_run_enqueues_and_prints_the_id() -> None:
    (line,) = command("defer_run", "testapp.add", "--args", "[1, 2]")
    run = Run.objects.get()
    assert line == str(run.pk)
    assert (run.function_id, run.state) == ("testapp.add", State.QUEUED)
    assert run.enqueued_by == "manage.py defer_run"
    assert call_of(run) == ([1, 2], {})


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("[1]", ([1], {})),
        ('{"args": [1], "kwargs": {"second": 2}}', ([1], {"second": 2})),
        ('{"kwargs": {"first": 1}}', ([], {"first": 1})),
        ('{"args": [{"a": [null, true, 1.5, "ü"]}]}', ([{"a": [None, True, 1.5, "ü"]}], {})),
    ],
)
def test_run_takes_a_list_or_args_and_kwargs(text: str, call: tuple[Any, Any]) -> None:
    command("defer_run", "testapp.add", "--args", text)
    assert call_of(Run.objects.get()) == call


@pytest.mark.parametrize(
    "text",
    ["1, 2", "{first: 1}", "5", '"one"', "null", '{"first": 1}', '{"args": 1}', '{"kwargs": []}'],
)
def test_run_refuses_other_arguments_and_says_what_to_write(text: str) -> None:
    with pytest.raises(CommandError, match=r"write a list such as '\[1, \"two\"\]', or '\{\"args"):
        command("defer_run", "testapp.add", "--args", text)
    assert not Run.objects.exists()


def test_run_says_which_argument_is_missing() -> None:
    with pytest.raises(
        CommandError, match=r"^testapp\.add\(\) missing a required argument: 'first'"
    ):
        command("defer_run", "testapp.add")


def test_run_suggests_the_nearest_key() -> None:
    with pytest.raises(CommandError, match=r"'testapp\.ad'\. Did you mean 'testapp\.add'\?"):
        command("defer_run", "testapp.ad")


def test_run_runs_a_scheduled_function_now_and_leaves_its_schedule_alone() -> None:
    sync()
    before = CronDefinition.objects.get(function="testapp.weekly")
    command("defer_run", "testapp.weekly")
    run = Run.objects.get()
    assert (run.function_id, run.definition_id, run.slot) == ("testapp.weekly", before.pk, None)
    after = CronDefinition.objects.get(function="testapp.weekly")
    assert (after.next_slot_at, after.version) == (before.next_slot_at, before.version)


def test_at_verbosity_0_run_prints_nothing() -> None:
    assert command("defer_run", "testapp.noop", verbosity=0) == []
    assert Run.objects.count() == 1


def test_while_developing_it_says_once_that_no_worker_is_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("django_defer.enqueue._hinted", set())
    command("defer_run", "testapp.noop")
    assert "enqueue.no_worker" not in caplog.text
    with override_settings(DEBUG=True):
        command("defer_run", "testapp.noop")
        command("defer_run", "testapp.noop")
    (record,) = [each for each in caplog.records if "enqueue.no_worker" in each.getMessage()]
    assert "`manage.py defer_worker`" in record.getMessage()


@pytest.mark.django_db(transaction=True)
def test_run_waits_for_the_result_and_fails_if_the_run_did(start: Start) -> None:
    fine = start("defer_run", "testapp.add", "--args", "[1, 2]", "--wait")
    broken = start("defer_run", "testapp.fail", "--wait", "--verbosity", "0")
    until(lambda: Run.objects.count() == 2)
    assert fine.poll() is broken.poll() is None
    drain()
    out, errors = fine.communicate(timeout=20)
    assert (fine.returncode, errors) == (0, "")
    assert out == f"{Run.objects.get(function='testapp.add').pk}\n3\n"
    out, errors = broken.communicate(timeout=20)
    assert (broken.returncode, out) == (1, "")
    assert errors.startswith("CommandError: Run ")
    assert "ValueError: no <b>luck</b>" in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.django_db(transaction=True)
def test_waiting_can_be_interrupted_and_the_run_goes_on(start: Start) -> None:
    process = start("defer_run", "testapp.noop", "--wait")
    assert process.stdout is not None
    assert process.stdout.readline() == f"{Run.objects.get().pk}\n"
    time.sleep(0.2)  # it prints just before it begins to wait
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (
        1,
        "CommandError: Not waiting any more; the run goes on.\n",
    )
    assert Run.objects.get().state == State.QUEUED


# -- defer_scheduler -------------------------------------------------------------------------------


def test_one_tick_fires_slots_and_promotes_runs_and_executes_nothing() -> None:
    sync()
    make_slots_due()
    registry.get("testapp.noop").using(delay="1h")()
    Run.objects.update(run_after=database_now("default"))
    lines = command("defer_scheduler", "--once")
    assert lines[-1] == "1 slots fired, 1 runs promoted."
    assert Run.objects.count_by_state() == {State.QUEUED: 2}
    assert command("defer_scheduler", "--once")[-1] == "0 slots fired, 0 runs promoted."


def test_at_verbosity_0_one_tick_prints_nothing() -> None:
    sync()
    make_slots_due()
    assert command("defer_scheduler", "--once", verbosity=0) == []
    assert Run.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_scheduler_ticks_until_it_is_told_to_stop(start: Start, number: signal.Signals) -> None:
    sync()
    process = after_startup(start)
    # What becomes due while it sleeps is done within a second or so.
    make_slots_due()
    registry.get("testapp.noop").using(delay="0.1s")()
    until(lambda: Run.objects.count_by_state() == {State.QUEUED: 2})
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "slot.fired testapp.weekly" in errors
    assert "scheduler.stopped" in errors
    assert "Traceback" not in errors


def run_scheduler_with(
    monkeypatch: pytest.MonkeyPatch, looks: list[Exception | None]
) -> list[float]:
    """Run the loop through these looks at the database, then stop it; return its pauses."""
    pauses: list[float] = []
    real = scheduler.look

    def look(using: str) -> scheduler.Look:
        error = looks.pop(0) if looks else None
        if error is not None:
            raise error
        return real(using)

    monkeypatch.setattr(scheduler, "look", look)
    monkeypatch.setattr("time.sleep", pauses.append)
    scheduler.run_scheduler("default", lambda: not looks)
    return pauses


def test_the_scheduler_survives_an_outage_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "django_defer")
    monkeypatch.setattr("django_defer.connections.drop", lambda using: None)  # the test's own
    away = OperationalError("the server closed the connection unexpectedly")
    run_scheduler_with(monkeypatch, [None, away, away, away, None, None])
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.event for record in said] == ["database.unreachable"]  # type: ignore[attr-defined]


def test_the_scheduler_stops_also_while_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("django_defer.connections.drop", lambda using: None)
    run_scheduler_with(monkeypatch, [OperationalError("away"), OperationalError("away")])


def test_the_scheduler_does_not_wait_for_tables_that_nobody_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(NotMigrated):
        run_scheduler_with(monkeypatch, [OperationalError("no such table: django_defer_run"), None])


def test_the_scheduler_sleeps_between_looks_whatever_a_row_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses = run_scheduler_with(monkeypatch, [None, None])
    assert pauses == [1.0, 1.0]
    now = database_now("default")
    overdue = scheduler.Look(now, next_run=now - timedelta(days=1), next_slot=None)
    rounds = iter([False, False, True])
    monkeypatch.setattr(scheduler, "look", lambda using: overdue)  # whatever is done about it
    pauses.clear()
    scheduler.run_scheduler("default", lambda: next(rounds))
    assert pauses == [0.05, 0.05]


# -- defer_status ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_registry")
def test_status_of_what_works_has_five_sections_and_no_error() -> None:
    command("defer_sync")
    new_cluster(workers=4)
    lines = command("defer_status")
    headings = [line for line in lines[1:] if line and not line.startswith(" ")]
    assert headings == ["Clusters", "Scheduler", "Queues", "Failures", "Cron definitions"]
    assert lines[-3].startswith("  shop.weekly  0 8 * * MON  Europe/Paris  at 08:00")
    assert lines[-2].startswith("      next  Mon ")
    assert lines[-1].endswith(" UTC")


@pytest.mark.usefixtures("small_registry")
def test_status_exits_with_1_when_there_is_trouble_and_says_which() -> None:
    command("defer_sync")
    out = StringIO()
    with pytest.raises(CommandError, match=r"^No worker is running: start one with") as caught:
        call_command("defer_status", stdout=out)
    assert caught.value.returncode == 1
    assert "shop.weekly" in out.getvalue()


def test_status_as_json_is_one_object_with_or_without_trouble() -> None:
    new_run()
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("defer_status", "--json", stdout=out)
    assert json.loads(out.getvalue())["ok"] is False
    new_cluster()
    assert json.loads("\n".join(command("defer_status", "--json")))["ok"] is True


def test_status_shows_twenty_definitions_unless_told_to_show_all() -> None:
    new_cluster()
    for n in range(22):
        new_definition(f"a.f{n:02}")
    assert command("defer_status")[-1] == "  … and 2 more: --all shows them"
    assert command("defer_status", "--all")[-1] != "  … and 2 more: --all shows them"
    data = json.loads("\n".join(command("defer_status", "--all", "--json")))
    assert len(data["definitions"]) == data["definitions_total"] == 22


def test_at_verbosity_0_status_prints_nothing() -> None:
    new_cluster()
    assert command("defer_status", verbosity=0) == []


def test_the_json_that_the_docs_list_is_what_is_printed() -> None:
    new_cluster()
    new_run(state=State.FAILED)
    new_run()
    new_definition(expression_override="0 9 * * *", paused_at=database_now("default"))
    data = json.loads("\n".join(command("defer_status", "--json")))
    page = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"
    section = page.read_text().partition("## `defer_status`")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`([a-z_]+)`", section))

    def keys(value: Any) -> Iterator[str]:
        for each in value if isinstance(value, list) else []:
            yield from keys(each)
        for key, inner in value.items() if isinstance(value, dict) else []:
            yield key
            yield from keys(inner)

    assert set(keys(data)) <= documented


def test_json_that_a_shell_passes_is_what_the_help_shows() -> None:
    from django_defer.management.commands.defer_run import SHAPE

    for text in SHAPE.split("'")[1::2]:
        assert json.loads(text)
    assert connections["default"].is_usable()
