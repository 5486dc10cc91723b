"""Measures one peer once, in a process that has its environment: fill, start the workers, look.

`python -m tests.benchmarks.peers.referee FILE NAME drain ROWS` writes the runs a second to the
file, as JSON; `… idle RUNS SEED` the milliseconds of each run.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Protocol, cast

from tests.benchmarks import now_and_then
from tests.benchmarks.peers import tables
from tests.benchmarks.peers.lineup import BY_NAME, Peer
from tests.benchmarks.processes import process
from tests.benchmarks.throughput import watch

WARM_UPS: Final = 20  # runs
WITHIN: Final = 60.0  # seconds for them


class Queue(Protocol):
    """What the module of a peer has."""

    workers: list[list[str]]  # the commands of its processes
    prepare: Callable[[], None]  # make its tables; called before all others
    clear: Callable[[], None]  # empty the queue
    fill: Callable[[int], None]  # enqueue so many no-ops, however it is fastest
    enqueue: Callable[[int], None]  # enqueue one that writes down when it begins
    unfinished: Callable[[], int]
    failed: Callable[[], int]


def drain(peer: Peer, queue: Queue, rows: int) -> float:
    """Fill the queue, start the workers, and return the runs a second."""
    queue.clear()
    queue.fill(rows)
    tables.settle()
    with working(peer, queue):
        rate = watch(queue.unfinished, rows, peer.label)
        if failed := queue.failed():
            raise RuntimeError(f"{peer.label}: {failed} of {rows} failed.")
    return rate


def idle(peer: Peer, queue: Queue, runs: int, seed: int) -> list[float]:
    """Enqueue now and then, and return the milliseconds until each began."""
    queue.clear()
    queue.fill(WARM_UPS)
    tables.settle()
    with working(peer, queue):
        until = time.monotonic() + WITHIN
        while queue.unfinished():
            if time.monotonic() > until:
                raise TimeoutError(f"{peer.label}: not up after {WITHIN:g} s.")
            time.sleep(0.1)
        return now_and_then.latencies(queue.enqueue, runs, seed)


@contextmanager
def working(peer: Peer, queue: Queue) -> Iterator[None]:
    """Have its workers running inside."""
    with ExitStack() as stack:
        log = sys.stderr.buffer
        processes = [
            stack.enter_context(process(command, os.environ, log)) for command in queue.workers
        ]
        yield
        if ended := [one.returncode for one in processes if one.poll() is not None]:
            raise RuntimeError(f"{peer.label}: its workers ended, {ended}.")


def main(arguments: Sequence[str]) -> None:
    """Measure what is named."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no worker is left behind
    file, name, what, *numbers = arguments
    peer = BY_NAME[name]
    module = importlib.import_module(f"tests.benchmarks.peers.{peer.module}")
    queue = cast(Queue, module)
    queue.prepare()
    measures: dict[str, Callable[..., object]] = {"drain": drain, "idle": idle}
    Path(file).write_text(json.dumps(measures[what](peer, queue, *map(int, numbers))))


if __name__ == "__main__":
    main(sys.argv[1:])
