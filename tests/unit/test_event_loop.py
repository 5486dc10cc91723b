"""Verbs in a running event loop: the synchronous one is refused and names its twin."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction

from django_defer import pauses
from django_defer.decorators import ConfiguredFunction
from django_defer.event_loop import in_thread, refuse_event_loop
from django_defer.exceptions import CalledInEventLoop
from django_defer.models import CronDefinition, Queue, Run
from django_defer.registry import registry


def refuse_in_loop(verb: str) -> CalledInEventLoop:
    async def call() -> None:
        refuse_event_loop(verb)

    with pytest.raises(CalledInEventLoop) as caught:
        asyncio.run(call())
    return caught.value


def test_without_an_event_loop_nothing_is_refused() -> None:
    refuse_event_loop(".enqueue()")


def test_the_refusal_names_what_was_called_and_what_to_await() -> None:
    assert str(refuse_in_loop("()")).endswith("running: use `await ….aenqueue()`.")
    assert str(refuse_in_loop(".map()")).startswith(".map() touches the database")


NOOP, WEEKLY = registry.get("testapp.noop"), registry.get("testapp.weekly")

VERBS: dict[str, Callable[[], Any]] = {
    "f()": NOOP,
    "f.enqueue": NOOP.enqueue,
    "f.map": lambda: NOOP.map([1]),
    "f.starmap": lambda: NOOP.starmap([(1,)]),
    "f.run_now": WEEKLY.run_now,
    "run.wait": Run().wait,
    "run.get_result": Run().get_result,
    "run.cancel": Run().cancel,
    "run.reschedule": Run().reschedule,
    "run.rerun": Run().rerun,
    "definition.pause": CronDefinition().pause,
    "definition.resume": CronDefinition().resume,
    "definition.override": lambda: CronDefinition().override(expression="0 9 * * *"),
    "definition.clear_override": CronDefinition().clear_override,
    "definition.run_now": CronDefinition(function_id="testapp.weekly").run_now,
    "pauses.pause": lambda: pauses.pause(Queue(name="slow")),
    "pauses.resume": lambda: pauses.resume(Queue(name="slow")),
    "pauses.pause_queue": lambda: pauses.pause_queue("slow"),
}
TWINS = {"f()": "aenqueue", "run.wait": "await_end"}
HOMES = {
    "f": ConfiguredFunction,
    "run": Run,
    "definition": CronDefinition,
    "pauses": pauses,
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_refused_and_names_its_own_twin_which_exists(verb: str) -> None:
    async def call() -> None:
        VERBS[verb]()

    with pytest.raises(CalledInEventLoop) as caught:
        asyncio.run(call())
    home, _, name = verb.partition(".")
    twin = TWINS.get(verb, f"a{name}")
    assert caught.value.twin == f".{twin}()"
    assert iscoroutinefunction(getattr(HOMES[home.strip("()")], twin))


def test_a_twin_runs_outside_of_the_event_loop() -> None:
    seen: list[Any] = []

    def verb(word: str, *, times: int) -> str:
        refuse_event_loop(".verb()")
        seen.append(threading.get_ident())
        return word * times

    assert asyncio.run(in_thread(verb)("ha", times=2)) == "haha"
    assert seen
