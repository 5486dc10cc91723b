"""Set up a child process: it dies with its supervisor and leaves signals to it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)  # what ends a cluster

_PR_SET_PDEATHSIG: Final = 1


class Lifeline:
    """Ends children within a second of their supervisor's death, however it died.

    Linux sends the signal itself; elsewhere a thread waits for the end of a pipe that only the
    supervisor holds open. Make it in the supervisor, before the first child.
    """

    def __init__(self, *, use_pipe: bool = sys.platform != "linux") -> None:
        self._supervisor = os.getpid()
        self._use_pipe = use_pipe
        self._read, self._write = os.pipe()

    def hold(self) -> None:
        """Tie this child to the supervisor."""
        os.close(self._write)
        if not self._use_pipe:
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        else:
            threading.Thread(target=self._wait, name="lifeline", daemon=True).start()
        if os.getppid() != self._supervisor:  # it died before the tie was made
            os._exit(1)

    def _wait(self) -> None:
        os.read(self._read, 1)
        os._exit(1)

    def close(self) -> None:
        """Close the supervisor's ends."""
        os.close(self._write)
        os.close(self._read)


@contextmanager
def only_in_this_process() -> Iterator[None]:
    """End a child that was forked inside and comes back out: one alone may go on from here."""
    pid = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != pid:
            os._exit(0)


def ignore_stop_signals() -> None:
    """Leave SIGTERM and SIGINT to the supervisor, also when the whole group gets them.

    A handler that does nothing, not SIG_IGN: programs that a function starts would inherit that.
    Processes that a function forks get the usual handlers back.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, lambda signum, frame: None)
    for number in (signal.SIGALRM, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    os.register_at_fork(
        before=_hold_stop_signals,
        after_in_parent=_let_stop_signals_through,
        after_in_child=_restore_stop_signals,
    )


def _hold_stop_signals() -> None:
    """Keep one that is sent right after a fork until the child has its handlers."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _let_stop_signals_through() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def _restore_stop_signals() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _let_stop_signals_through()
