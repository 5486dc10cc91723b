"""The processes the demo starts: they all end with it, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

MANAGE: Final = Path(__file__).with_name("manage.py")
GRACE: Final = 40.0  # seconds; more than a defer_worker takes, which lets functions finish
TAIL: Final = 15  # lines of a log that are shown when its process died


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


class Stopped(Exception):
    """A signal asked for the end."""


class StopRequests:
    """Counts SIGINT, SIGTERM and SIGHUP instead of being interrupted by them."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.count += 1


class Processes:
    """Management commands as processes of their own, each with a log file.

    Each leads a session of its own, so a Ctrl-C in the terminal reaches this process alone, which
    passes it on.
    """

    def __init__(self, stop: StopRequests, folder: Path) -> None:
        self._stop = stop
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        print("Stopping …", flush=True)
        self.stop()

    def start(self, command: str, *arguments: str) -> int:
        """Start `manage.py command`; return its process id."""
        with self.log(command).open("wb") as log:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, str(MANAGE), command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running[command] = process
        return process.pid

    def log(self, command: str) -> Path:
        """Return the file that a command writes its output to."""
        return self._folder / f"{command}.log"

    def check(self) -> None:
        """Raise Stopped if that was asked for, DemoFailed if one has ended by itself."""
        if self._stop.count:
            raise Stopped
        for command, process in self._running.items():
            if process.poll() is not None:
                lines = self.log(command).read_text(errors="replace").splitlines()[-TAIL:]
                raise DemoFailed(
                    f"{command} ended by itself, with code {process.returncode}. Its last lines:\n"
                    + "\n".join(f"  {line}" for line in lines)
                )

    def wait_until(self, is_so: Callable[[], bool], what: str, timeout: float) -> None:
        """Wait; raise Stopped when asked to stop meanwhile, and DemoFailed after `timeout`."""
        deadline = time.monotonic() + timeout
        while not is_so():
            self.check()
            if time.monotonic() > deadline:
                raise DemoFailed(f"{what}, and did not within {timeout:.0f} s.")
            time.sleep(0.1)

    def wait_for_ever(self) -> NoReturn:
        """Wait until asked to stop, which raises Stopped."""
        while True:
            self.check()
            time.sleep(0.1)

    def stop(self) -> None:
        """Ask all of them to end, wait, and kill what doesn't. A second Ctrl-C asks again."""
        asked = self._ask()
        deadline = time.monotonic() + GRACE
        while any(process.poll() is None for process in self._running.values()):
            if self._stop.count > asked:
                asked = self._ask()
            if time.monotonic() > deadline:
                for process in self._running.values():
                    if process.poll() is None:
                        os.killpg(process.pid, signal.SIGKILL)
                        process.wait()
            time.sleep(0.05)
        self._running.clear()

    def _ask(self) -> int:
        """Send each of them a SIGINT; return how many requests that answers."""
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        return max(self._stop.count, 1)
