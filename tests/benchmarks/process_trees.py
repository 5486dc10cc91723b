"""What processes cost, as Linux counts it: the processor's time, and memory, of whole trees."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.worker_processes import parent_of, processes

TICK: Final = os.sysconf("SC_CLK_TCK")  # a second
MEGABYTE: Final = 1024.0  # kB
OWN: Final = ("Private_Clean", "Private_Dirty")


def tree_of(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for each in processes():
        children.setdefault(parent_of(each), []).append(each)
    tree = [pid]
    for parent in tree:  # it grows meanwhile
        tree += children.get(parent, [])
    return tree


def cpu_seconds(pid: int) -> float:
    """Return what a tree has used so far, with its processes that have ended."""
    return sum(_cpu_ticks(each) for each in tree_of(pid)) / TICK


def memory(pid: int) -> dict[str, float]:
    """Return the megabytes of one process: "rss", "pss" (its share of what it shares), "own"."""
    kilobytes: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        kilobytes[name] = float(value.split()[0])
    return {
        "rss": kilobytes["Rss"] / MEGABYTE,
        "pss": kilobytes["Pss"] / MEGABYTE,
        "own": sum(kilobytes[name] for name in OWN) / MEGABYTE,
    }


def available_megabytes() -> float:
    """Return how much memory the machine has left without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) / MEGABYTE
    raise RuntimeError("/proc/meminfo does not say what is available.")


def _cpu_ticks(pid: int) -> int:
    """Return utime, stime, cutime and cstime together."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    after_name = text.rpartition(")")[2].split()  # from the third field on
    return sum(map(int, after_name[11:15]))
