"""Real processes: start `defer_worker`s on the test's database, watch them, kill them, read them.

Nothing here sleeps for a fixed time: `wait_until` looks again and again, and says what it waited
for when the time is up.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

from django_defer.models import Attempt, Run
from django_defer.payloads import encode_call
from tests.databases import environment
from tests.testapp.models import Effect
from tests.worker_processes import (
    group_of,
    is_alive,
    parent_of,
    processes,
    pusher_in,
    worker_labelled,
    workers_in,
)

T = TypeVar("T")

ROOT: Final = Path(__file__).parents[2]
LOOK: Final = 0.02  # seconds between two looks

# Short enough for a test, and long enough for a busy machine. With DEFER_TEST_LEASE=30 the tests
# of leases take as long as the default lease does.
LEASE_SECONDS: Final = float(os.environ.get("DEFER_TEST_LEASE", "3"))
SHORT_LEASE: Final = {"LEASE": LEASE_SECONDS, "BEAT_INTERVAL": LEASE_SECONDS / 6}
PATIENCE: Final = 27 + LEASE_SECONDS  # seconds; generous, since the machine may be busy
SETTINGS: Final = {"KILL_GRACE": "0.5s", "SHUTDOWN_GRACE": "15s"}
STRANDED: Final = 5  # seconds that a claim may take to reach its worker

# What must never be in a log: SQLite's errors, django-q2's own lines, a traceback of ours.
UNWANTED: Final = re.compile(
    r"database is locked|database table is locked|Q Cluster|reincarnated|recycled worker|"
    r"ready for work at|pushing tasks|stopped doing work|Traceback",
)


def wait_until(
    condition: Callable[[], T | None], timeout: float = PATIENCE, *, what: str = "the condition"
) -> T:
    """Return the first true value of `condition`; fail after `timeout` seconds."""
    until = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"{what} did not come true within {timeout:g} s")
        time.sleep(LOOK)
    return value


class Tree:
    """One `defer_worker`: its supervisor, the children of that, and what they logged.

    It is the leader of a session and process group of its own, as under systemd.
    """

    def __init__(self, log: Path, arguments: list[str], env: Mapping[str, str]) -> None:
        self.log_file = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "django", *arguments],
                cwd=ROOT,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    # -- what it said ----------------------------------------------------------------------

    @property
    def log(self) -> str:
        """Everything on its standard output and error."""
        return self.log_file.read_text()

    def said(self, text: str) -> int:
        """How often the text is in the log."""
        return self.log.count(text)

    def wait_for_log(self, text: str, timeout: float = PATIENCE, *, times: int = 1) -> None:
        """Return when the log has the text."""
        wait_until(lambda: self.said(text) >= times, timeout, what=f"{text!r} in the log")

    @property
    def cluster_ids(self) -> list[str]:
        """The ids under which it was a cluster, the newest last."""
        return re.findall(r"cluster\.started (\S+)", self.log)

    # -- its processes ---------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The supervisor."""
        return self.process.pid

    @property
    def workers(self) -> dict[int, int]:
        """The newest worker process of each slot."""
        return workers_in(self.log)

    @property
    def pusher(self) -> int:
        """The newest pusher process."""
        return pusher_in(self.log)

    def pid_of(self, run: Run) -> int:
        """The worker process that has this run."""
        return worker_labelled(self.log, run.worker)

    @property
    def children(self) -> list[int]:
        """The processes whose parent it is and that are no zombies."""
        return [pid for pid in processes() if parent_of(pid) == self.pid and is_alive(pid)]

    # -- what is done to it ----------------------------------------------------------------

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        os.kill(self.pid, number)

    def send_to_group(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor and to all its children, as a terminal does."""
        os.killpg(self.pid, number)

    def kill(self, pid: int) -> float:
        """Do kill -9 to one of its processes; return when, on the monotonic clock."""
        os.kill(pid, signal.SIGKILL)
        return time.monotonic()

    def exit_code(self, timeout: float = PATIENCE) -> int:
        """Wait for its end and return the exit code."""
        return self.process.wait(timeout)

    def terminate(self) -> int:
        """Stop it gracefully; return the exit code."""
        self.send(signal.SIGTERM)
        return self.exit_code()

    def destroy(self) -> None:
        """End whatever is left of it, also stopped processes and orphans of its group."""
        orphans = [pid for pid in processes() if group_of(pid) == self.pid]
        for pid in {*orphans, *([self.pid] if self.process.poll() is None else [])}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(PATIENCE)
        wait_until(lambda: not any(is_alive(pid) for pid in orphans), what="the orphans' end")


class Trees:
    """Starts process trees for one test and ends them after it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.trees: list[Tree] = []
        self.environment: dict[str, str] = {}
        self.may_say: list[str] = []  # lines with this text are not looked at afterwards

    def __call__(
        self,
        *arguments: str,
        ready: bool = True,
        defer: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        verbosity: int | None = 2,
        command: str = "defer_worker",
    ) -> Tree:
        """Start a `defer_worker` with `arguments`, and wait until it works.

        `command` may be another one that runs until it is stopped: use `ready=False` then.
        `defer` are settings of DEFER, on top of SETTINGS; `env` are environment variables.
        """
        if verbosity is not None:
            arguments = (*arguments, "-v", str(verbosity))
        settings = {**SETTINGS, **(defer or {})}
        variables = {
            **environment(),
            "PYTHONUNBUFFERED": "1",
            "DEFER_TEST_SETTINGS": json.dumps(settings),
            **self.environment,
            **(env or {}),
        }
        log = self.directory / f"{command}-{len(self.trees) + 1}.log"
        tree = Tree(log, [command, *arguments], variables)
        self.trees.append(tree)
        if ready:
            tree.wait_for_log("cluster.started")
        return tree

    def destroy(self) -> None:
        """End them all; show what they logged, should the test have failed."""
        for tree in self.trees:
            tree.destroy()
        for tree in self.trees:
            print(f"--- {tree.log_file.name}\n{tree.log}")

    def check_logs(self) -> None:
        """Fail if a log has what no log may have."""
        for tree in self.trees:
            for line in tree.log.splitlines():
                if UNWANTED.search(line) and not any(text in line for text in self.may_say):
                    raise AssertionError(f"{tree.log_file.name} says: {line}")


# -- runs ------------------------------------------------------------------------------------


def enqueue_unknown(key: str, **columns: Any) -> Run:
    """Insert a run of a function that this process has no code of."""
    run = Run(function_id=key, args=encode_call(key, (), (), {}), **columns)
    run.save()
    return run


def state_of(run: Run) -> str:
    """Read the run again and return its state."""
    run.refresh_from_db()
    return run.state


def wait_for_state(run: Run, *states: str, timeout: float = PATIENCE) -> Run:
    """Return the run, refreshed, once it is in one of the states."""
    wait_until(
        lambda: state_of(run) in states, timeout, what=f"{run} in {states}, not {run.state},"
    )
    return run


def wait_for_end(run: Run, timeout: float = PATIENCE) -> Run:
    """Return the run, refreshed, once it has ended."""
    return run.wait(timeout)


def outcomes(run: Run) -> list[str]:
    """How its attempts ended, the oldest first."""
    run.refresh_from_db()
    return [attempt.outcome for attempt in run.attempts]


def wait_until_all_ended(timeout: float = PATIENCE) -> None:
    """Return when no run is unfinished."""
    unfinished = Run.objects.unfinished()
    try:
        wait_until(lambda: not unfinished.exists(), timeout, what="the end of all runs")
    except AssertionError as error:
        left = unfinished.values_list("function", "state", "attempt", "worker", "reason")
        raise AssertionError(f"{error}: {list(left[:5])}") from None


def check_for_stranded_claims() -> None:
    """Fail if a run is claimed, and not started, for too long."""
    claimed = Run.objects.filter(state="claimed").values_list("claimed_at", flat=True)
    for claimed_at in claimed:
        assert claimed_at is None or time.time() - claimed_at.timestamp() < STRANDED


def claimed_in_chunks() -> int:
    """Count the runs that were claimed before their worker had begun an earlier one."""
    rows = Run.objects.filter(started_at__isnull=False).order_by("cluster", "worker", "started_at")
    return sum(
        (before.cluster, before.worker) == (after.cluster, after.worker)
        and before.started_at is not None
        and after.claimed_at is not None
        and after.claimed_at < before.started_at
        for before, after in pairwise(rows)
    )


def repeats_without_a_reason() -> list[str]:
    """Name the runs whose effects are more than one and their lost or failed attempts explain.

    Each of these runs leaves an effect that is called after the run's label.
    """
    suspicious = []
    for run in Run.objects.exclude(label=""):
        done = Effect.objects.filter(name=run.label).count()
        excuses = Attempt.objects.filter(run=run.pk).count()
        if not 1 <= done <= 1 + excuses:
            suspicious.append(f"{run} done={done} excuses={excuses} {run.state}")
    return suspicious
