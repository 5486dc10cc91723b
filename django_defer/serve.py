"""What `defer_worker` does: check the code, sync, supervise, and say what is left to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.conf import settings
from django.core.management.base import CommandError
from django.db.models import Count, Min

from django_defer.cluster import ClusterOptions, Supervisor
from django_defer.conf import conf
from django_defer.console import plain_errors
from django_defer.models import Run
from django_defer.registry import registry
from django_defer.reload import restart, watch_code
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
    refuse_broken_code()
    with plain_errors():  # what is wrong is better said before anything is forked
        Run.objects.using(using).exists()
        kept = sync(using).kept if sync_first else ()
    supervisor = Supervisor(
        ClusterOptions(
            using=using,
            workers=count,
            queues=queues or conf.queues,
            schedules=schedules,
            drain=drain,
            kept=kept,
            on_round=watch_code() if reload else None,
        )
    )
    supervisor.run()
    if reload and not supervisor.stop_requests:
        restart()
    if drain:
        yield left_for_later(using)


def refuse_broken_code() -> None:
    """Refuse to start with modules that could not be imported, also where checks are skipped."""
    if registry.problems:
        wrong = "\n".join(
            f"{problem.module}: {type(problem.error).__name__}: {problem.error}"
            for problem in registry.problems
        )
        raise CommandError(f"No worker starts until this is mended:\n{wrong}")


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
