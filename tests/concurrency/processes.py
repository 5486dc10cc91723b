"""Several processes at one starting line, each with connections of its own; some are killed.

They are forks, so that any function will do. An error, or an alarm in the log, of one is an error
of the test.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from django.db import connections

from tests.runs import DATABASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

FORK: Final = multiprocessing.get_context("fork")
PATIENCE: Final = 60.0  # seconds


class _Alarms(logging.Handler):
    """Keeps what is logged as an error: a slot that had a run already, for one."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def no_alarms() -> Iterator[None]:
    """Fail if django-defer logs an error inside."""
    alarms = _Alarms()
    logger = logging.getLogger("django_defer")
    logger.addHandler(alarms)
    try:
        yield
    finally:
        logger.removeHandler(alarms)
    assert not alarms.texts, alarms.texts


def together(*actions: Callable[[], Any]) -> list[Any]:
    """Do each in a process of its own, all at once; return what each returned."""
    line = FORK.Barrier(len(actions))

    def at_once(action: Callable[[], Any]) -> Any:
        connections[DATABASE].ensure_connection()
        line.wait(PATIENCE)
        return action()

    children = [Child(lambda action=action: at_once(action)) for action in actions]  # type: ignore[misc]
    try:
        return [child.result() for child in children]
    finally:
        for child in children:
            child.kill()  # should another have failed


class Child:
    """A fork of this process that does one thing."""

    def __init__(self, action: Callable[[], Any]) -> None:
        connections.close_all()  # a connection must not be shared across a fork
        self._receiver, sender = FORK.Pipe(duplex=False)
        self.process = FORK.Process(target=_work, args=(action, sender), daemon=True)
        self.process.start()
        sender.close()

    def kill(self) -> None:
        """Do kill -9 to it."""
        self.process.kill()

    def result(self) -> Any:
        """Return what its action returned; None if it was killed (see `was_killed`)."""
        answer: tuple[str, Any] = ("killed", None)
        if self._receiver.poll(PATIENCE):
            try:
                answer = self._receiver.recv()
            except EOFError:
                pass
        self.process.join(PATIENCE)
        self._receiver.close()
        assert answer[0] != "failed", answer[1]
        assert answer[0] == "done" or self.was_killed, self.process.exitcode
        return answer[1]

    @property
    def was_killed(self) -> bool:
        """Whether kill -9 ended it."""
        return self.process.exitcode == -signal.SIGKILL


def _work(action: Callable[[], Any], sender: Connection) -> None:
    try:
        with no_alarms():
            result = action()
        connections.close_all()
    except BaseException:  # noqa: BLE001 - it is raised where the result is asked for
        sender.send(("failed", traceback.format_exc()))
    else:
        sender.send(("done", result))


def survives(action: Callable[[], Any], moment: int) -> bool:
    """Do it in a process that kills itself, with -9, at this moment; say whether it got through.

    The moments are those before and after each statement and each commit.
    """
    child = Child(lambda: _deadly(action, moment))
    child.result()
    return not child.was_killed


def _deadly(action: Callable[[], Any], deadly_moment: int) -> Any:
    connection: Any = connections[DATABASE]
    connection.ensure_connection()
    commit, count = connection._commit, 0

    def moment() -> None:
        nonlocal count
        count += 1
        if count == deadly_moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def around_commit() -> None:  # no statement goes through the wrapper for it
        moment()
        commit()
        moment()

    def around_statement(execute: Any, *arguments: Any) -> Any:
        moment()
        result = execute(*arguments)
        moment()
        return result

    connection._commit = around_commit
    with connection.execute_wrapper(around_statement):
        return action()
