"""`current_run()`: set inside a run, and only there."""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from django_defer import current_run
from django_defer.context import CurrentRun, running


def a_run(**facts: Any) -> CurrentRun:
    run_id = uuid4()
    values: dict[str, Any] = {
        "id": run_id,
        "function": "shop.compute",
        "attempt": 1,
        "is_last_attempt": False,
        "root_id": run_id,
    }
    return CurrentRun(**values | facts)


def test_outside_a_run_there_is_none() -> None:
    assert current_run() is None


def test_inside_it_is_the_run_and_afterwards_the_one_before() -> None:
    outer, inner = a_run(), a_run()
    with running(outer):
        with running(inner):
            assert current_run() is inner
        assert current_run() is outer
    assert current_run() is None


def test_it_ends_with_an_error_too() -> None:
    with pytest.raises(KeyError), running(a_run()):
        raise KeyError
    assert current_run() is None


def test_it_cannot_be_changed() -> None:
    run: Any = a_run()
    with pytest.raises(AttributeError):
        run.attempt = 2


def test_a_run_without_a_schedule_stands_for_no_slot() -> None:
    assert a_run().slot is None
    assert a_run().missed_slots == 0


def test_it_is_seen_in_tasks_and_in_threads_of_asgiref() -> None:
    run = a_run()

    async def look() -> list[object]:
        seen = await asyncio.create_task(asyncio.sleep(0, current_run()))
        return [current_run(), seen, await sync_to_async(current_run)()]

    with running(run):
        assert async_to_sync(look)() == [run, run, run]


def test_another_thread_has_its_own() -> None:
    seen: list[object] = []
    with running(a_run()):
        thread = threading.Thread(target=lambda: seen.append(current_run()))
        thread.start()
        thread.join()
    assert seen == [None]
