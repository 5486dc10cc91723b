"""What `defer_worker` does: check the code, sync, supervise, and say what is left to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence

from django.conf import settings
from django.core.management.base import CommandError
from django.db.models import Count, Min
from django.utils import autoreload

from django_defer.cluster import ClusterOptions, Supervisor
from django_defer.conf import conf
from django_defer.console import plain_errors
from django_defer.models import Run
from django_defer.states import State
from django_defer.sync import sync


def serve(
    *,
    workers: int | None = None,
    queues: Sequence[str] | None = None,
    drain: bool = False,
    reload: bool = False,
    schedules: bool = True,
    sync_first: bool = True,
) -> Iterator[str]:
    """Run a cluster until it ends; yield lines for a person."""
    using = str(conf.database)
    if reload and not settings.DEBUG:
        raise CommandError("--reload is for development: it needs DEBUG = True.")
    count = int(conf.workers) if workers is None else workers
    if count < 1:
        raise CommandError(f"--workers {count}: write 1 or more.")
    with plain_errors():  # what is wrong is better said before anything is forked
        Run.objects.using(using).exists()
        if sync_first:
            sync(using)
    has_changed = watch_code() if reload else None
    supervisor = Supervisor(
        ClusterOptions(
            using=using,
            workers=count,
            queues=queues or conf.queues,
            schedules=schedules,
            drain=drain,
            on_round=has_changed,
        )
    )
    supervisor.run()
    if has_changed is not None and not supervisor.stop_requests:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves
    if drain:
        yield left_for_later(using)


def watch_code() -> Callable[[], bool]:
    """Return a function that says whether a source file changed since it was last asked."""
    reloader = autoreload.StatReloader()

    def modified() -> dict[object, float]:
        return dict(reloader.snapshot_files())

    before = modified()

    def has_changed() -> bool:
        nonlocal before
        now = modified()
        changed = any(before.get(file, time) != time for file, time in now.items())
        before = now
        return changed

    return has_changed


def left_for_later(using: str) -> str:
    """Say which runs wait for a later time or for other code."""
    runs = Run.objects.using(using)
    waiting = runs.filter(state=State.SCHEDULED).aggregate(n=Count("pk"), first=Min("run_after"))
    parked = runs.filter(state=State.PARKED).count()
    queued = runs.filter(state=State.QUEUED).count()
    parts = []
    if waiting["n"]:
        runs_wait = "1 run waits" if waiting["n"] == 1 else f"{waiting['n']} runs wait"
        parts.append(f"{runs_wait}, next at {waiting['first']:%Y-%m-%d %H:%M:%S} UTC")
    if parked:
        parts.append(f"{parked} parked")
    if queued:
        parts.append(f"{queued} queued for other workers")
    return "Nothing left to do now" + (": " + "; ".join(parts) + "." if parts else ".")
