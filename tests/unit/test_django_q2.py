"""What we build on in django-q2: its source as it was read. A new release must be read again."""

from __future__ import annotations

import hashlib
import inspect
import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest

from django_defer import django_q2

# Each was read in django-q2 1.11; the sentence says what we rely on.
READ = {
    "worker": (
        "b30d59f639b088ea",
        "it reads task_queue.get() until 'STOP', locates task['func'] by name, calls it with "
        "task['args'], and puts the task into result_queue; timeout -1 sets no timer",
    ),
    "pusher": (
        "6975acb3fb8d45a9",
        "it calls broker.dequeue(), gives what comes with each id to its own module's "
        "SignedPackage.loads, and puts what that returns into task_queue, until event.is_set()",
    ),
    "Sentinel.__init__": (
        "6ddfa0bde90a4a73",
        "with start=False it makes its attributes, sets two signal handlers and forks nothing",
    ),
    "Broker.__init__": (
        "c9ba428d5f24a950",
        "it asks for get_connection() and get_cache() and nothing else",
    ),
}


def source_of(name: str) -> str:
    """Return the source text of what `name` says."""
    found: Any = django_q2
    for part in name.split("."):
        found = getattr(found, part)
    return inspect.getsource(found)


@pytest.mark.parametrize("name", READ)
def test_it_is_still_what_was_read(name: str) -> None:
    fingerprint, reliance = READ[name]
    found = hashlib.sha256(source_of(name).encode()).hexdigest()
    assert found.startswith(fingerprint), (
        f"django-q2 {version('django-q2')} changed {name}. We rely on this: {reliance}. Read the "
        f"new source; if that still holds, write {found[:16]!r} here, else adapt django_defer."
    )


def test_importing_the_app_imports_nothing_of_django_q2() -> None:
    code = (
        "import django, sys; django.setup(); import django_defer.apps; "
        "sys.exit(any(name.startswith('django_q') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_its_settings_are_changed_only_where_a_cluster_is_started() -> None:
    before = django_q2.Conf.SCHEDULER, django_q2.Conf.RECYCLE
    import django_defer.cluster  # noqa: F401

    assert before == (django_q2.Conf.SCHEDULER, django_q2.Conf.RECYCLE)


def test_the_pusher_puts_a_task_of_its_broker_into_the_queue_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = sys.modules["django_q.pusher"]
    monkeypatch.setattr(module, "SignedPackage", module.SignedPackage)  # put back afterwards
    django_q2.hand_over_unsigned()
    put: list[dict[str, Any]] = []
    django_q2.pusher(
        SimpleNamespace(put=put.append),
        SimpleNamespace(is_set=lambda: True),
        SimpleNamespace(dequeue=lambda: [("an id", {"slot": 3})], list_key="queues"),
    )
    assert [(task["ack_id"], task["slot"]) for task in put] == [("an id", 3)]
