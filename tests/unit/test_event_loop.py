"""Verbs in a running event loop: the synchronous one is refused and names its twin."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any

import pytest

from django_defer.decorators import ConfiguredFunction
from django_defer.event_loop import in_thread, refuse_event_loop
from django_defer.exceptions import CalledInEventLoop
from django_defer.models import CronDefinition, Run


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


VERBS = {
    ConfiguredFunction: ("()", ".enqueue()", ".map()", ".starmap()", ".run_now()"),
    Run: (".wait()", ".cancel()", ".reschedule()", ".rerun()", ".get_result()"),
    CronDefinition: (".pause()", ".resume()", ".run_now()"),
}


@pytest.mark.parametrize(
    ("kind", "verb"), [(kind, verb) for kind, verbs in VERBS.items() for verb in verbs]
)
def test_the_twin_that_a_refusal_names_exists(kind: type, verb: str) -> None:
    twin = refuse_in_loop(verb).twin.strip(".()")
    assert inspect.iscoroutinefunction(getattr(kind, twin))


def test_a_twin_runs_outside_of_the_event_loop() -> None:
    seen: list[Any] = []

    def verb(word: str, *, times: int) -> str:
        refuse_event_loop(".verb()")
        seen.append(threading.get_ident())
        return word * times

    assert asyncio.run(in_thread(verb)("ha", times=2)) == "haha"
    assert seen
