"""The names of django-q2 that we build on, imported without its warnings or its log lines.

django_q reads its settings at import and warns about a missing Q_CLUSTER, which our users need
not have. Nothing here touches a project's own Q_CLUSTER, qcluster or schedules.
"""

from __future__ import annotations

import logging
import sys
import warnings
from multiprocessing import Value
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from django_q.brokers import Broker
    from django_q.cluster import Sentinel, get_mp_context
    from django_q.conf import Conf
    from django_q.pusher import pusher
    from django_q.signals import post_execute_in_worker, post_spawn, pre_execute
    from django_q.worker import worker

__all__ = [
    "Broker",
    "Conf",
    "Sentinel",
    "configure",
    "fork_context",
    "hand_over_unsigned",
    "new_timer",
    "pusher",
    "silence_signals",
    "worker",
]


def configure(*, workers: int) -> None:
    """Set what django-q2's processes read, in this process and its children only."""
    Conf.SCHEDULER = False  # else it fires the project's own django_q schedules into the void
    Conf.WORKERS = workers
    Conf.QUEUE_LIMIT = workers
    Conf.RECYCLE = 0  # our executor counts runs and leaves by itself
    Conf.MAX_RSS = None
    Conf.TIMEOUT = None
    Conf.SYNC = False
    Conf.CPU_AFFINITY = 0
    Conf.DAEMONIZE_WORKERS = False
    logging.getLogger("django-q").setLevel(logging.CRITICAL + 1)


class _HandedOver:
    """What django-q2's pusher believes to unpack signed pickles."""

    @staticmethod
    def loads(task: dict[str, Any]) -> dict[str, Any]:
        """Return the task: it comes from our broker, in the pusher's own process."""
        return task


def hand_over_unsigned() -> None:
    """Let the pusher of this process take its broker's tasks as they are.

    Nobody could tamper with them on the way from one function to the other, and signing takes a
    third of a millisecond in a process that has slept.
    """
    sys.modules["django_q.pusher"].SignedPackage = _HandedOver  # type: ignore[attr-defined]


def silence_signals() -> None:
    """Send no signal of django-q2 from this process: a project's receivers expect its own tasks,
    and one that raises would end each worker before it executes anything."""
    for sent in (post_spawn, pre_execute, post_execute_in_worker):
        sent.receivers = []
        sent.sender_receivers_cache.clear()


def fork_context() -> Any:
    """Return the multiprocessing context that django-q2 uses: fork, where there is one."""
    return get_mp_context()


def new_timer() -> Any:
    """Return the timer that django-q2's worker expects; nobody else ever takes its lock."""
    return Value("f", -1)
