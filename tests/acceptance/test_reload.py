"""`--reload`: a change of the code is executed without a restart by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from django_defer.models import Cluster
from tests.acceptance.harness import ROOT, enqueue_unknown, wait_for_end, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.harness import Tree, Trees


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An app that is edited while a worker executes its one function."""
    app = tmp_path / "edited"
    app.mkdir()
    (app / "__init__.py").touch()
    (tmp_path / "edited_settings.py").write_text(
        'from tests.settings import *\nDEBUG = True\nINSTALLED_APPS += ["edited"]\n'
    )
    write(app, "before")
    return app


def start(trees: Trees, app: Path) -> Tree:
    """Start a worker that reloads, and see it execute the app's function."""
    tree = trees(
        "--reload",
        "--workers",
        "1",
        env={"PYTHONPATH": f"{app.parent}:{ROOT}", "DJANGO_SETTINGS_MODULE": "edited_settings"},
    )
    assert answer() == "before"
    return tree


def answer() -> object:
    """Return what the app's function returns."""
    return wait_for_end(enqueue_unknown("edited.answer")).result


def test_changed_code_is_executed_and_the_worker_can_still_be_stopped(
    trees: Trees, app: Path
) -> None:
    tree = start(trees, app)
    write(app, "after")
    tree.wait_for_log("cluster.started", times=2)
    assert answer() == "after"
    assert len(tree.children) == 2
    tree.send_to_group(signal.SIGINT)  # Ctrl-C in its terminal
    assert tree.exit_code() == 0
    wait_until(lambda: not tree.children)


def test_broken_code_is_reported_at_each_change_and_executed_once_it_is_mended(
    trees: Trees, app: Path
) -> None:
    tree = start(trees, app)
    save(app / "defer.py", "def answer(:\n")
    tree.wait_for_log("defer.E002")
    save(app / "defer.py", "from edited.numbers import ANSWER\n")
    tree.wait_for_log("No module named 'edited.numbers'")
    time.sleep(2)  # several looks at what has not changed
    assert tree.process.poll() is None
    assert tree.said("reload.failed") == 2
    assert tree.said("cluster.started") == 1
    save(app / "numbers.py", "ANSWER = (")  # a file that this process has not imported
    tree.wait_for_log("reload.failed", times=3)
    write(app, "ANSWER", imports="from edited.numbers import ANSWER\n")
    tree.wait_for_log("reload.failed", times=4)
    save(app / "numbers.py", "ANSWER = 'after'\n")
    tree.wait_for_log("cluster.started", times=2)
    assert answer() == "after"
    assert tree.terminate() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_waits_for_code_to_be_mended_can_be_stopped(
    trees: Trees, app: Path, number: signal.Signals
) -> None:
    tree = start(trees, app)
    save(app / "defer.py", "def answer(:\n")
    tree.wait_for_log("reload.failed")
    tree.send_to_group(number)
    assert tree.exit_code(timeout=5) == 0
    assert not Cluster.objects.exists()


@pytest.mark.parametrize(
    "program",
    [["manage.py"], ["-W", "error", "manage.py"], ["-X", "dev", "-m", "manage"]],
    ids=["script", "script-with-options", "module"],
)
def test_the_check_is_run_as_the_worker_was(tmp_path: Path, program: list[str]) -> None:
    (tmp_path / "manage.py").write_text(SHOW)
    shown = show(tmp_path, sys.executable, *program, "defer_worker", "--workers", "1", "--reload")
    assert shown == [sys.executable, *program, "check"]


def test_the_check_is_run_by_an_installed_script_as_well(tmp_path: Path) -> None:
    script = tmp_path / "django-admin"
    script.write_text(f"#!{sys.executable}\n{SHOW}")
    script.chmod(0o755)
    shown = show(tmp_path, str(script), "defer_worker", "--reload")
    assert shown == [sys.executable, str(script), "check"]


def test_the_check_sees_what_the_worker_sees(tmp_path: Path) -> None:
    (tmp_path / "manage.py").write_text(SHOW)
    python = [sys.executable, "manage.py", "defer_worker", "--reload"]
    shown = show(tmp_path, *python, "--pythonpath=lib", "--skip-checks")
    assert shown[2:] == ["check", "--pythonpath=lib", "--tag=django_defer"]


def test_nothing_is_checked_where_the_command_was_called_from_other_code(tmp_path: Path) -> None:
    (tmp_path / "manage.py").write_text(SHOW)
    assert show(tmp_path, sys.executable, "manage.py") == []


def test_reload_is_refused_in_production(trees: Trees) -> None:
    tree = trees("--reload", ready=False)
    assert tree.exit_code() == 1
    assert "needs DEBUG = True" in tree.log


def write(app: Path, value: str, *, imports: str = "") -> None:
    """Write the function, which returns the name `ANSWER` or a text."""
    returned = value if imports else repr(value)
    save(
        app / "defer.py",
        f"from django_defer import defer\n{imports}\n"
        f"@defer\ndef answer():\n    return {returned}\n",
    )


def save(file: Path, text: str) -> None:
    """Write a file, with a time of change that differs from the last."""
    file.write_text(text)
    now = time.time()
    os.utime(file, (now, now))


# A program that says, as JSON, which command would check the code.
SHOW = """
import json
from django_defer.reload import check_command
print(json.dumps(check_command()))
"""


def show(directory: Path, *command: str) -> list[str]:
    """Run such a program and return the command."""
    shown = subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True)
    return list(json.loads(shown.stdout))
