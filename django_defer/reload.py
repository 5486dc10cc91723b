"""`--reload`: notice that code changed, and start the same command again once it can start.

A start that fails would be the last one, since nobody is left to try again. So `manage.py check`
goes first, in a process of its own, and while it fails the next change is waited for.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from django.apps import apps
from django.core.management.base import CommandParser
from django.utils import autoreload

from django_defer.console import until_signalled

logger = logging.getLogger(__name__)

LOOK: Final = 0.5  # seconds between two looks at files while their code is broken


def watch_code() -> Callable[[], bool]:
    """Return a function that says whether a source file changed since it was last asked."""
    reloader = autoreload.StatReloader()

    def modified() -> dict[object, float]:
        return dict(reloader.snapshot_files())

    before = modified()

    def has_changed() -> bool:
        nonlocal before
        now = modified()
        changed = any(before.get(file, time) != time for file, time in now.items())
        before = now
        return changed

    return has_changed


def restart() -> None:
    """Execute this command anew in place of this process; return if a signal came first."""
    with until_signalled() as is_stopped:
        wait_until_startable(is_stopped)
        if is_stopped():
            return
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves


def wait_until_startable(is_stopped: Callable[[], bool]) -> None:
    """Return when the code passes its check, or was told to stop; say what is wrong until then."""
    command = check_command()
    reloader = autoreload.StatReloader()
    for config in apps.get_app_configs():  # what is to be mended may not have been imported here
        reloader.watch_dir(Path(config.path), "**/*.py")
    while command and not is_stopped():
        before = dict(reloader.snapshot_files())
        check = subprocess.run(  # noqa: S603 - ourselves
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if check.returncode == 0 or is_stopped():  # Ctrl-C ends the check, too
            return
        logger.error(
            "reload.failed nothing is executed until this is mended:\n%s",
            check.stdout.strip(),
            extra={"event": "reload.failed"},
        )
        while not is_stopped() and dict(reloader.snapshot_files()) == before:
            time.sleep(LOOK)


def check_command() -> list[str]:
    """Return the command that checks the code as a start would, by the same program.

    An empty list: other code called `defer_worker`, and its program may not know `check`.
    """
    program, arguments = sys.orig_argv[1 : 1 - len(sys.argv)], sys.argv[1:]
    if arguments[:1] != ["defer_worker"]:
        return []
    parser = CommandParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--pythonpath")
    parser.add_argument("--skip-checks", action="store_true")
    options, _ = parser.parse_known_args(arguments[1:])  # --settings is in the environment by now
    command = [sys.executable, *program, "check"]
    if options.pythonpath:
        command.append(f"--pythonpath={options.pythonpath}")
    if options.skip_checks:  # of these, `defer_worker` refuses to start for ours alone
        command.append("--tag=django_defer")
    return command
