"""UUIDv7 keys: they sort by the time they were made, and no two are the same."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING
from uuid import RFC_4122, UUID

from django_defer import ids
from django_defer.ids import uuid7

if TYPE_CHECKING:
    import pytest


def milliseconds(key: UUID) -> int:
    return key.int >> 80


def test_it_is_a_uuid_of_version_7() -> None:
    key = uuid7()
    assert key.version == 7
    assert key.variant == RFC_4122


def test_it_begins_with_the_time_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_last", 0)
    before = time.time_ns() // 1_000_000
    key = uuid7()
    assert before <= milliseconds(key) <= time.time_ns() // 1_000_000


def test_keys_made_in_a_row_strictly_increase() -> None:
    keys = [uuid7() for _ in range(20_000)]
    assert all(first < second for first, second in pairwise(keys))
    texts = [key.hex for key in keys]  # what SQLite compares
    assert texts == sorted(texts)


def test_keys_increase_while_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = uuid7()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    assert first < uuid7() < uuid7()


def test_keys_made_in_threads_are_distinct_and_increase_in_each() -> None:
    def make(_: int) -> list[UUID]:
        return [uuid7() for _ in range(2_000)]

    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(make, range(4)))
    for batch in batches:
        assert all(first < second for first, second in pairwise(batch))
    everything = [key for batch in batches for key in batch]
    assert len({key.int >> 64 for key in everything}) == len(everything)  # without the random part


def in_child(action: str) -> bytes:
    """Fork, do `uuid7()` there and return what the child wrote."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(write, uuid7().bytes)
        finally:
            os._exit(0)
    os.close(write)
    try:
        _, status = os.waitpid(child, 0)
        assert status == 0, action
        return os.read(read, 16)
    finally:
        os.close(read)


def test_a_forked_process_makes_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    uuid7()
    moment = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: moment)  # so that only chance tells them apart
    child = UUID(bytes=in_child("make a key"))
    assert child != uuid7()


def test_a_fork_while_a_thread_makes_a_key_does_not_freeze_the_child() -> None:
    read, write = os.pipe()
    with ids._lock:
        child = os.fork()
        if not child:
            os.write(write, uuid7().bytes)
            os._exit(0)
    os.close(write)
    try:
        until = time.monotonic() + 5
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > until:
                os.kill(child, 9)
                os.waitpid(child, 0)
            time.sleep(0.01)
        assert len(os.read(read, 16)) == 16
    finally:
        os.close(read)
