"""`--reload`: a change of the code is executed without a restart by hand."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from tests.acceptance.harness import ROOT, enqueue_unknown, wait_for_end, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.harness import Trees


def test_changed_code_is_executed_and_the_worker_can_still_be_stopped(
    trees: Trees, tmp_path: Path
) -> None:
    app = tmp_path / "edited"
    app.mkdir()
    (app / "__init__.py").touch()
    (tmp_path / "edited_settings.py").write_text(
        'from tests.settings import *\nDEBUG = True\nINSTALLED_APPS += ["edited"]\n'
    )
    write(app, "before")
    tree = trees(
        "--reload",
        "--workers",
        "1",
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "DJANGO_SETTINGS_MODULE": "edited_settings"},
    )
    assert wait_for_end(enqueue_unknown("edited.answer")).result == "before"
    write(app, "after")
    tree.wait_for_log("cluster.started", times=2)
    assert wait_for_end(enqueue_unknown("edited.answer")).result == "after"
    assert len(tree.children) == 2
    tree.send_to_group(signal.SIGINT)  # Ctrl-C in its terminal
    assert tree.exit_code() == 0
    wait_until(lambda: not tree.children)


def test_reload_is_refused_in_production(trees: Trees) -> None:
    tree = trees("--reload", ready=False)
    assert tree.exit_code() == 1
    assert "needs DEBUG = True" in tree.log


def write(app: Path, answer: str) -> None:
    """Write the function, with a time of change that differs from the last."""
    file = app / "defer.py"
    file.write_text(
        f"from django_defer import defer\n\n@defer\ndef answer():\n    return {answer!r}\n"
    )
    now = time.time()
    os.utime(file, (now, now))
