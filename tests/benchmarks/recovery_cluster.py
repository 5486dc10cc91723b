"""The processes of one `defer_worker` that are killed, and one that enqueues the moment after."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Final, Self, TypeVar

import psycopg

from tests.benchmarks.arena import Arena
from tests.benchmarks.contenders import Contender
from tests.worker_processes import is_alive, pusher_in, worker_labelled, workers_in

T = TypeVar("T")

PATIENCE: Final = 90.0  # seconds
LOOK: Final = 0.005  # seconds between two looks
OLD_ENOUGH: Final = 1.2  # seconds: one that dies younger is not replaced at once


def wait_for(condition: Callable[[], T | None], what: str) -> T:
    """Return the first true value of `condition`."""
    until = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > until:
            raise TimeoutError(f"{what} did not come within {PATIENCE:g} s")
        time.sleep(LOOK)
    return value


class Cluster:
    """One `defer_worker` inside, and what it logged."""

    def __init__(self, arena: Arena, contender: Contender) -> None:
        self._stack = ExitStack()
        self._arena, self._contender = arena, contender

    def __enter__(self) -> Self:
        number = len(list(self._arena.directory.glob("cluster-*")))
        self._log = self._arena.directory / f"cluster-{number}"
        self.process: subprocess.Popen[bytes] = self._stack.enter_context(
            self._arena.process(self._contender, self._log)
        )
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def settle(self) -> None:
        """Wait until all its processes are there, and old enough to be replaced at once."""
        wait_for(lambda: "cluster.started" in self._text, "the cluster")
        wait_for(lambda: all(map(is_alive, [*self.workers, self.pusher])), "its processes")
        time.sleep(OLD_ENOUGH)

    @property
    def workers(self) -> list[int]:
        """The newest process of each slot."""
        return list(workers_in(self._text).values())

    @property
    def pusher(self) -> int:
        """The newest pusher."""
        return pusher_in(self._text)

    def worker_of(self, connection: psycopg.Connection, run: str) -> int:
        """Return the process that executes this run."""
        ((label,),) = connection.execute(
            "SELECT worker FROM django_defer_run WHERE id = %s", [run]
        ).fetchall()
        return worker_labelled(self._text, label)

    def kill(self, *pids: int) -> float:
        """Do kill -9 to these processes, or to the supervisor; return when."""
        began = time.time()
        for pid in pids or [self.process.pid]:
            os.kill(pid, signal.SIGKILL)
        return began

    def kill_group(self) -> float:
        """Do it to all of them at once."""
        began = time.time()
        os.killpg(self.process.pid, signal.SIGKILL)
        return began

    @property
    def _text(self) -> str:
        return self._log.read_text()


class Caller:
    """A process that enqueues the moment it is asked to."""

    def __init__(self, arena: Arena, contender: Contender) -> None:
        arena.database(contender)
        self._process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.steps", "calls"],
            env=arena.environment(contender),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        self._read()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.communicate(timeout=PATIENCE)

    def enqueue(self, name: str, number: int) -> str:
        """Have `name(number)` enqueued; return the run's id."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name} {number}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def are_gone(pids: Collection[int]) -> bool:
    """Say whether none of the processes is alive."""
    return not any(map(is_alive, pids))
