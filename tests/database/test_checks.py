"""What `manage.py check` says. No test here may touch the database: pytest-django sees to that."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.core.checks import CheckMessage, Error, Warning, run_checks  # noqa: A004
from django.core.checks.registry import registry as check_registry
from django.test import override_settings

from django_defer.checks import TAG
from django_defer.checks.settings import READERS
from django_defer.conf import DEFAULTS
from tests.databases import SQLITE_OPTIONS
from tests.scratch import Project, define, installed_app, own_registry, write_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": "/srv/db.sqlite3",
    "OPTIONS": SQLITE_OPTIONS,
}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    use_database(monkeypatch)
    with own_registry(), override_settings(DEFER={}):
        yield


def use_database(
    monkeypatch: pytest.MonkeyPatch, vendor: str = "sqlite", alias: str = "default", **values: Any
) -> None:
    """Make the checks see one database, of this vendor and with these settings."""
    connection = SimpleNamespace(vendor=vendor, settings_dict={**FILE, **values})
    for module in ("database", "functions"):
        monkeypatch.setattr(f"django_defer.checks.{module}.connections", {alias: connection})
    monkeypatch.setattr("django.conf.settings.DATABASES", {alias: {**FILE, **values}})


def check() -> list[CheckMessage]:
    """Return what our checks say."""
    return [each for each in run_checks(tags=[TAG]) if str(each.id).startswith("defer.")]


def only(id: str) -> CheckMessage:  # noqa: A002
    """Return what they say when it is this and nothing else."""
    (message,) = check()
    assert message.id == id
    assert isinstance(message, Error if ".E" in id else Warning)
    assert message.hint
    assert message.obj
    return message


def test_nothing_is_said_where_nothing_is_wrong() -> None:
    define("@defer\ndef compute(): ...\n@defer.cron('0 8 * * MON')\ndef weekly(): ...")
    assert check() == []


def test_they_run_with_every_command_and_need_no_database() -> None:
    ours = [
        each for each in check_registry.get_checks() if each.__module__.startswith("django_defer")
    ]
    assert len(ours) == 8
    assert not any("database" in each.tags for each in ours)


# -- E001 ------------------------------------------------------------------------------------------


def test_every_setting_has_a_reader_that_takes_its_default() -> None:
    assert READERS.keys() == DEFAULTS.keys()
    with override_settings(DEFER=DEFAULTS):
        assert check() == []


def test_an_unknown_setting_is_an_error_that_names_the_nearest() -> None:
    with override_settings(DEFER={"WORKER": 2}):
        message = only("defer.E001")
    assert message.msg == "settings.DEFER has no key 'WORKER'."
    assert message.hint == 'Write "WORKERS".'


def test_an_unknown_setting_like_no_other_gets_all_of_them_listed() -> None:
    with override_settings(DEFER={"Q": 2}):
        assert ", ".join(DEFAULTS) in str(only("defer.E001").hint)


@pytest.mark.parametrize("value", [None, "fast", ["WORKERS"]])
def test_settings_that_are_no_dict_are_an_error(value: object) -> None:
    with override_settings(DEFER=value):
        message = only("defer.E001")
    assert message.msg == f"settings.DEFER is {value!r}, not a dict."


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("DATABASE", "elsewhere", "an alias of DATABASES: 'default'"),
        ("DATABASE", ["default"], "an alias of DATABASES: 'default'"),
        ("DEFAULT_QUEUE", "", "a name of 1 to 50 characters"),
        ("WORKERS", 0, "a whole number from 1 up"),
        ("WORKERS", "2", "a whole number from 1 up"),
        ("WORKERS", True, "a whole number from 1 up"),
        ("QUEUES", "mail", 'a list of names, such as ["mail"]'),
        ("QUEUES", [], "None for every queue"),
        ("QUEUES", ["mail", ""], "a list of names"),
        ("MAX_ARGS_BYTES", 1.5, "a whole number from 1 up"),
        ("MAX_RESULT_BYTES", None, "a whole number from 1 up"),
        ("SHUTDOWN_GRACE", "soon", 'seconds (5), a timedelta, or a text such as "5s"'),
        ("KILL_GRACE", -1, "seconds (5), a timedelta"),
        ("LISTEN", "yes", "True or False"),
        ("POLL_INTERVAL", 0, "more than nothing: seconds (5)"),
        ("BEAT_INTERVAL", "0s", "more than nothing"),
        ("LEASE", None, "more than nothing"),
        ("PREPARE_STATEMENTS", 1, "True or False"),
        ("MAX_RUNS_PER_WORKER", 0, "a whole number from 1 up"),
        ("CHUNK_SIZE", 0, "a whole number from 1 to 64"),
        ("CHUNK_SIZE", 65, "a whole number from 1 to 64"),
    ],
)
def test_a_value_that_cannot_be_read_is_an_error(name: str, value: object, advice: str) -> None:
    with override_settings(DEFER={name: value}):
        message = only("defer.E001")
    assert message.obj == f'settings.DEFER["{name}"]'
    assert f"is {value!r}, which cannot be read" in message.msg
    assert advice in str(message.hint)


@pytest.mark.parametrize(
    "given",
    [
        {"QUEUES": ("mail", "other")},
        {"QUEUES": None},
        {"SHUTDOWN_GRACE": 0, "KILL_GRACE": "0s"},
        {"LEASE": timedelta(minutes=1), "BEAT_INTERVAL": 2.5},
    ],
)
def test_every_spelling_that_can_be_read_is_fine(given: dict[str, object]) -> None:
    with override_settings(DEFER=given):
        assert check() == []


@pytest.mark.parametrize("given", [{"LEASE": "11.9s"}, {"BEAT_INTERVAL": "15s"}])
def test_a_lease_too_short_for_its_heartbeats_is_an_error(given: dict[str, object]) -> None:
    with override_settings(DEFER=given):
        assert "live clusters would be taken for dead" in only("defer.E001").msg


# -- E003, W003, W004 ------------------------------------------------------------------------------


def test_another_database_than_sqlite_and_postgresql_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_database(monkeypatch, "mysql", ENGINE="django.db.backends.mysql")
    message = only("defer.E003")
    assert (
        'The database "default" cannot hold runs: it uses django.db.backends.mysql' in message.msg
    )
    assert message.obj == 'settings.DATABASES["default"]'


def test_an_old_sqlite_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 34, 1))
    assert "older than 3.35.0" in only("defer.E003").msg
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 35, 0))
    assert check() == []


def test_psycopg2_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    use_database(monkeypatch, "postgresql", OPTIONS={})
    assert check() == []
    monkeypatch.setattr("django.db.backends.postgresql.psycopg_any.is_psycopg3", False)
    assert "pip install psycopg" in only("defer.E003").msg


def test_another_alias_than_the_default_is_a_warning_that_says_what_it_costs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_database(monkeypatch, alias="queue")
    with override_settings(DEFER={"DATABASE": "queue"}):
        message = only("defer.W003")
    assert "inserted after its commit" in message.msg
    assert "a crash between the two loses it" in message.msg
    assert "atomic=True covers this alias only" in message.msg


@pytest.mark.parametrize(
    ("options", "lacks"),
    [
        ({}, ["WAL", "IMMEDIATE"]),
        (None, ["WAL", "IMMEDIATE"]),
        ({"transaction_mode": "IMMEDIATE"}, ["WAL"]),
        ({"init_command": "PRAGMA journal_mode = wal"}, ["IMMEDIATE"]),
        ({**SQLITE_OPTIONS, "transaction_mode": "DEFERRED"}, ["IMMEDIATE"]),
    ],
)
def test_sqlite_without_wal_or_immediate_gets_the_options_to_paste(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, str] | None, lacks: list[str]
) -> None:
    use_database(monkeypatch, OPTIONS=options)
    message = only("defer.W004")
    for what in ("WAL", "IMMEDIATE"):
        assert (what in message.msg) is (what in lacks)
    pasted = re.search(r"\"OPTIONS\": (\{.*\})", str(message.hint))
    assert pasted is not None
    assert eval(pasted[1]) == SQLITE_OPTIONS
    use_database(monkeypatch, OPTIONS=eval(pasted[1]))
    assert check() == []


@pytest.mark.parametrize("mode", ["immediate", "EXCLUSIVE"])
def test_every_mode_that_takes_the_lock_at_once_is_fine(
    monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    use_database(monkeypatch, OPTIONS={**SQLITE_OPTIONS, "transaction_mode": mode})
    assert check() == []


@pytest.mark.parametrize(
    "name", [":memory:", "file:memorydb_default?mode=memory&cache=shared", "file::memory:"]
)
def test_a_database_in_memory_needs_no_options(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    use_database(monkeypatch, NAME=name, OPTIONS={})
    assert check() == []


# -- E002, E004, E005 ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "id", "says", "line"),
    [
        (
            "\nimport nowhere_to_be_found",
            "defer.E002",
            "shop.defer could not be imported: ModuleNotFoundError: No module named 'nowhere",
            2,
        ),
        ("import importlib\n\nimportlib.import_module('nowhere')", "defer.E002", "'nowhere'", 3),
        ("\n\ndef compute(:", "defer.E002", "could not be imported: SyntaxError: invalid synt", 3),
        ("raise ValueError('first\\nlast')", "defer.E002", "imported: ValueError: last", 1),
        ("from django_defer import defer\n\ndefer(lambda: None)", "defer.E002", "A lambda has", 3),
        (
            "from django_defer import defer\n@defer(overlap='skip')\ndef compute(): ...",
            "defer.E002",
            "shop.compute: overlap= is about a schedule",
            2,
        ),
        (
            "from django_defer import defer\n@defer.cron('0 8 * *')\ndef weekly(): ...",
            "defer.E005",
            "'0 8 * *'",
            2,
        ),
    ],
)
def test_what_discovery_met_is_an_error_with_file_and_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    id: str,  # noqa: A002
    says: str,
    line: int,
) -> None:
    with installed_app(tmp_path, {"defer.py": source}, monkeypatch):
        message = only(id)
    assert says in message.msg
    assert message.obj == f"{tmp_path}/shop/defer.py:{line}"


def test_two_functions_with_one_key_are_an_error_that_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = "from django_defer import defer\n@defer\ndef compute(): ...\n"
    files = {"defer/__init__.py": "", "defer/a.py": compute, "defer/b.py": compute}
    with installed_app(tmp_path, files, monkeypatch):
        message = next(each for each in check() if each.id == "defer.E004")
    assert "Two functions have the key 'shop.compute'" in message.msg
    for module in ("a", "b"):
        assert f"shop.defer.{module} ({tmp_path}/shop/defer/{module}.py:2)" in message.msg
    assert 'name="…"' in str(message.hint)


def test_one_function_under_two_module_paths_is_an_error_that_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "defer/__init__.py": "",
        "defer/compute.py": "from django_defer import defer\n@defer\ndef compute(): ...\n",
        "defer/report.py": "import defer.compute",
    }
    # With the app's own directory on the path as well, as in many old projects.
    monkeypatch.syspath_prepend(tmp_path / "shop")
    try:
        with installed_app(tmp_path, files, monkeypatch):
            message = next(each for each in check() if each.id == "defer.E004")
    finally:
        for name in ("defer", "defer.compute"):
            sys.modules.pop(name, None)
    assert "shop.defer.compute (" in message.msg
    assert " defer.compute (" in message.msg
    assert message.hint == "Import it as shop.defer.compute everywhere."


def test_an_error_that_two_modules_meet_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "defer/__init__.py": "",
        "defer/a.py": "import shop.defer.b",
        "defer/b.py": "from django_defer import defer\ndefer(lambda: None)",
    }
    with installed_app(tmp_path, files, monkeypatch):
        assert "A lambda" in only("defer.E002").msg


# -- E006 ------------------------------------------------------------------------------------------


def test_an_enabled_that_cannot_say_is_an_error_with_file_and_line() -> None:
    define(
        "@defer.cron('0 8 * * MON', enabled=lambda: 1 / 0)\ndef weekly(): ...\n"
        "@defer.cron('0 8 * * MON', enabled=lambda: False)\ndef other(): ..."
    )
    message = only("defer.E006")
    assert "shop.weekly: the function given as enabled= raised ZeroDivisionError" in message.msg
    assert message.obj.endswith("shop/defer.py:2")


# -- warnings about functions ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "zone", "id", "says"),
    [
        ("0 8 13 * FRI", "UTC", "defer.W001", "every day that matches either"),
        ("*/40 * * * *", "UTC", "defer.W002", "does not divide evenly"),
        ("0 0-23 * * *", "Europe/Paris", "defer.W007", "pauses in the hour that is repeated"),
    ],
)
def test_an_expression_that_may_surprise_is_a_warning(
    expression: str,
    zone: str,
    id: str,  # noqa: A002
    says: str,
) -> None:
    define(f"@defer.cron('{expression}', timezone='{zone}')\ndef weekly(): ...")
    message = only(id)
    assert message.msg.startswith(f"shop.weekly: '{expression}'")
    assert says in message.msg
    assert message.obj == "shop/defer.py:2"
    assert id in str(message.hint)
    with override_settings(SILENCED_SYSTEM_CHECKS=[id]):
        assert message.is_silenced()


def test_a_module_that_does_not_hold_its_function_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"defer/__init__.py": "", "defer/compute.py": ""}
    with installed_app(tmp_path, files, monkeypatch):
        message = only("defer.W005")
    assert message.msg == "shop.defer.compute holds no background function called compute."
    assert message.obj == f"{tmp_path}/shop/defer/compute.py"


def test_functions_hidden_by_their_modules_get_the_lines_to_add(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from django_defer import defer\n@defer\ndef {0}(): ...\n"
    files = {
        "defer/__init__.py": "",
        "defer/compute.py": source.format("compute"),
        "defer/send.py": source.format("send"),
    }
    with installed_app(tmp_path, files, monkeypatch):
        message = only("defer.W006")
        import shop.defer  # type: ignore[import-not-found]

        assert isinstance(shop.defer.compute, type(shop.defer))
    lines = "from shop.defer.compute import compute\nfrom shop.defer.send import send"
    assert message.hint == f"Write in shop/defer/__init__.py:\n{lines}"
    assert "`from shop.defer import compute` gives the module" in message.msg


def test_hidden_functions_are_one_warning_a_package_and_misnamed_modules_one_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from django_defer import defer\n@defer\ndef {0}(): ...\n"
    files = {
        "defer/__init__.py": "",
        "defer/a.py": source.format("a"),
        "defer/b.py": "",
        "defer/c.py": source.format("c"),
        "defer/d.py": "",
    }
    with installed_app(tmp_path, files, monkeypatch):
        ids = [message.id for message in check()]
    assert ids == ["defer.W005", "defer.W005", "defer.W006"]


def test_with_these_lines_the_functions_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "defer/__init__.py": "from shop.defer.compute import compute",
        "defer/compute.py": "from django_defer import defer\n@defer\ndef compute(): ...\n",
    }
    with installed_app(tmp_path, files, monkeypatch):
        assert check() == []


def test_a_long_atomic_function_is_a_warning_on_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    define("""
        @defer(atomic=True, max_duration="31s")
        def long(): ...
        @defer(atomic=True, max_duration="30s")
        def short(): ...
        @defer(max_duration="1h")
        def loose(): ...
    """)
    message = only("defer.W008")
    assert message.msg.startswith("shop.long is atomic and may take 31s")
    assert message.obj == "shop/defer.py:3"
    use_database(monkeypatch, "postgresql", OPTIONS={})
    assert check() == []


def test_atomic_functions_beside_other_databases_are_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    define("""
        @defer(atomic=True, max_duration="5s")
        def one(): ...
        @defer(atomic=True, max_duration="5s")
        def two(): ...
    """)
    databases: dict[str, dict[str, Any]] = {"default": FILE, "archive": FILE}
    monkeypatch.setattr("django.conf.settings.DATABASES", databases)
    message = only("defer.W009")
    assert "what shop.one, shop.two may write to 'archive'" in message.msg
    databases["archive"] = {**FILE, "TEST": {"MIRROR": "default"}}  # a replica
    assert check() == []


def test_no_other_databases_matter_where_nothing_is_atomic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    define("@defer\ndef compute(): ...")
    monkeypatch.setattr("django.conf.settings.DATABASES", {"default": FILE, "archive": FILE})
    assert check() == []


# -- the command -----------------------------------------------------------------------------------


def test_a_clean_project_passes_with_warnings_as_errors_and_without_django_q(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path)
    done = project.manage("check", "--fail-level", "WARNING")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no issues (0 silenced)" in done.stdout
    imports = "import django, sys; django.setup(); print('django_q' in sys.modules)"
    assert project.python("-c", imports).stdout == "False\n"


def test_a_project_with_mistakes_is_told_all_of_them_and_no_traceback(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "shop/__init__.py": "",
            "shop/defer.py": "import nowhere_to_be_found",
            "billing/__init__.py": "",
            "billing/defer.py": """
                from django_defer import defer

                @defer.cron("0 8 1 * MON")
                def monthly(): ...
            """,
        },
    )
    project = Project(
        tmp_path,
        "shop",
        "billing",
        DEFER={"WROKERS": 2},
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}},
    )
    done = project.manage("check")
    assert done.returncode == 1
    for id in ("E001", "E002", "W001", "W004"):  # noqa: A001
        assert f"(defer.{id})" in done.stderr
    assert f"{tmp_path}/shop/defer.py:1: (defer.E002) shop.defer could not be" in done.stderr
    assert "Traceback" not in done.stderr
    # Nothing starts until it is mended.
    for command in ("defer_sync", "defer_worker"):
        refused = project.manage(command)
        assert refused.returncode == 1
        assert "(defer.E002)" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_what_a_project_silences_is_not_said(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "shop/__init__.py": "",
            "shop/defer.py": """
                from django_defer import defer

                @defer.cron("0 8 1 * MON")
                def monthly(): ...
            """,
        },
    )
    project = Project(tmp_path, "shop", SILENCED_SYSTEM_CHECKS=["defer.W001"])
    done = project.manage("check", "--fail-level", "WARNING")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no issues (1 silenced)" in done.stdout
