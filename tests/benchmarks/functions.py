"""What django-q2 executes; `defer.py` holds the same for django-defer."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import Final

STAMPS: Final = "DEFER_BENCH_STAMPS"  # the environment variable that names the file
LONG: Final = 240.0  # seconds: longer than anybody waits for the end
STAMP: Final = struct.Struct("=id")  # number, time.time()


def noop(value: object = None) -> object:
    """Return the argument."""
    return value


def nap(seconds: float) -> None:
    """Wait for as long as this, as a function that calls another service does."""
    if seconds:
        time.sleep(seconds)


def stamp(number: int) -> None:
    """Write down when this began. One append a run, so that processes don't mix their bytes."""
    data = STAMP.pack(number, time.time())
    file = os.open(os.environ[STAMPS], os.O_WRONLY | os.O_APPEND)
    os.write(file, data)
    os.close(file)


def who(number: int) -> None:
    """Write down which process executes this; `number` is of no use."""
    stamp(os.getpid())
    time.sleep(0.01)  # so that no worker is faster than another one wakes up


def read_stamps(path: Path) -> dict[int, float]:
    """Return when each number began (the first time, should it have run twice)."""
    stamps: dict[int, float] = {}
    for number, instant in STAMP.iter_unpack(path.read_bytes()):
        stamps.setdefault(number, instant)
    return stamps
