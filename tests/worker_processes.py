"""The processes of a `defer_worker`: which its log (at verbosity 2) names, and what /proc says."""

from __future__ import annotations

import re
from pathlib import Path


def workers_in(log: str) -> dict[int, int]:
    """Return the newest worker process of each slot."""
    found = re.findall(r"worker\.started slot=(\d+) generation=\d+ pid=(\d+)", log)
    return {int(slot): int(pid) for slot, pid in found}


def pusher_in(log: str) -> int:
    """Return the newest pusher process."""
    return int(re.findall(r"pusher\.started pid=(\d+)", log)[-1])


def worker_labelled(log: str, label: str) -> int:
    """Return the worker process that a run's `worker` column names."""
    slot, generation = label.split(".")
    pattern = rf"worker\.started slot={slot} generation={generation} pid=(\d+)"
    return int(re.findall(pattern, log)[-1])


def processes() -> list[int]:
    """Return every process there is."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    return _stat(pid)[0] not in ("", "Z", "X")


def parent_of(pid: int) -> int:
    """Return its parent, 0 if it is gone."""
    return int(_stat(pid)[1])


def group_of(pid: int) -> int:
    """Return its process group, 0 if it is gone."""
    return int(_stat(pid)[2])


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["", "0", "0"]
