"""Health for machines: a view that says in JSON whether it works, to include in a project's urls.

The judgement is that of `defer_status`. It needs no login, so it names nothing: no host, function,
queue or error. It asks a fixed number of queries and one for each queue in which runs wait. Trouble
that it finds is also told, if ALERTS says to whom: the last worker cannot report its own death.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.db import Error, connections, transaction
from django.http import JsonResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from django_defer.alerts.from_web import tell
from django_defer.clock import database_now
from django_defer.conf import conf
from django_defer.exceptions import NotMigrated
from django_defer.troubles import judged_status, troubles_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from django.http import HttpRequest

    from django_defer.reports import Status

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT: Final = 3  # seconds, where the project sets none


@cache_control(no_store=True)
@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """Answer 200 when all is well, else 503."""
    try:
        with impatient():
            status = judged_status(database_now(str(conf.database)))
            body = _as_json(status)
            if not body["ok"]:
                tell(str(conf.database), status.now, has_workers=status.has_workers)
    except Error as error:
        word = "not_migrated" if NotMigrated.explains(error) else "database_unreachable"
        logger.warning("health.%s %s", word, error, extra={"event": f"health.{word}"})
        body = _blank([word])
    response = JsonResponse(body, status=200 if body["ok"] else 503)
    # Else Django logs each 503 as an error, and mails it to ADMINS as often as the monitor asks.
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response


# Nothing may touch the session or open a transaction before the view can catch what that raises.
health.login_required = False  # type: ignore[attr-defined]  # as `login_not_required` does
for _alias in settings.DATABASES:
    health = transaction.non_atomic_requests(_alias)(health)


def trouble_words(status: Status) -> list[str]:
    """Return a word for each kind of trouble."""
    return list(dict.fromkeys(str(trouble.kind) for trouble in troubles_of(status)))


def _as_json(status: Status) -> dict[str, Any]:
    now, live = status.now, [each.row for each in status.clusters if each.is_live]
    trouble = trouble_words(status)
    due = [queue.oldest_due_at for queue in status.queues if not queue.pause]
    due += [at for at in [status.scheduler.next_run_at] if at is not None and at <= now]
    oldest = min((at for at in due if at is not None), default=None)
    broken = sum(1 for each in status.definitions if each.fires and (each.error or each.is_overdue))
    return {
        **_blank(trouble),
        "ok": not trouble,
        "now": now.isoformat().replace("+00:00", "Z"),
        "clusters": {"live": len(live), "workers": sum(row.workers for row in live)},
        "scheduler_tick_age": _age(status.scheduler.ticked_at, now),
        "oldest_due_age": _age(oldest, now),
        "definitions_in_trouble": max(broken, status.definitions_total),
    }


def _blank(trouble: list[str]) -> dict[str, Any]:
    """Return every key, of which nothing is known but the trouble."""
    keys = ("now", "clusters", "scheduler_tick_age", "oldest_due_age", "definitions_in_trouble")
    return {"ok": False, "trouble": trouble, **dict.fromkeys(keys)}


def _age(instant: datetime | None, now: datetime) -> float | None:
    return None if instant is None else round(max(0.0, (now - instant).total_seconds()), 3)


@contextmanager
def impatient() -> Iterator[None]:
    """Wait no longer than CONNECT_TIMEOUT for a PostgreSQL to which there is no connection yet."""
    connection = connections[str(conf.database)]
    original = connection.settings_dict
    options = original.get("OPTIONS") or {}
    if connection.vendor == "postgresql" and "pool" not in options:
        options = {"connect_timeout": CONNECT_TIMEOUT, **options}
        connection.settings_dict = {**original, "OPTIONS": options}
    try:
        yield
    finally:
        connection.settings_dict = original
