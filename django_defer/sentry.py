"""Sentry, where the project has initialised it: the errors of runs, and check-ins of slots.

The SDK is taken from the modules that the project has imported, and never imported for its own
sake. It sends from a thread of its own, so nothing here waits for Sentry, except for the end of a
worker, and that for two seconds at most.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from django.db import DatabaseError

from django_defer import signals
from django_defer.check_ins import check_in
from django_defer.conf import conf
from django_defer.event_masking import Masker
from django_defer.exceptions import Retry
from django_defer.models import Run
from django_defer.redaction import sensitive_names
from django_defer.states import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from django_defer.attempt_facts import Started
    from django_defer.signals import RunEvent

FLUSH: Final = 2.0  # seconds that a worker's end may wait for what is not sent yet
LEVELS: Final = {"run.failed": "error", "run.retrying": "warning", "run.lost": "warning"}

_former: list[object] = []  # clients of the parent process: their locks may be held for ever here


def sdk() -> Any | None:
    """Return `sentry_sdk` if the project has initialised it and `DEFER["SENTRY"]` is on."""
    module = sys.modules.get("sentry_sdk")
    if module is None or not conf.sentry:
        return None
    if not hasattr(module, "get_client"):  # an SDK older than 2
        return None
    return module if module.get_client().is_active() else None


def is_event_wanted(name: str, function: str) -> bool:
    """Say whether `receive` is to be told: of everything, where there is Sentry."""
    return sdk() is not None


def begin_process(forked: bool) -> None:
    """Report the errors of runs here, and not what is logged of them; as a child, by a new client.

    A client that was forked would send again what its parent has not sent yet.
    """
    sentry = sdk()
    if sentry is None:
        return
    from sentry_sdk.integrations.logging import ignore_logger

    ignore_logger(signals.logger.name)
    if not forked:
        return
    former = sentry.get_client()
    _former.append(former)
    client = copy.copy(former)  # with the same options
    for scope in (
        sentry.get_current_scope(),
        sentry.get_isolation_scope(),
        sentry.get_global_scope(),
    ):
        if scope.client is former:
            scope.set_client(client)


def end_process() -> None:
    """Let the SDK send what it has, for a short time: a forked process ends without asking it."""
    sentry = sdk()
    if sentry is not None:
        sentry.get_client().flush(timeout=FLUSH)


def around(started: Started) -> AbstractContextManager[None] | None:
    """Keep what is set on Sentry's scope during an attempt to this attempt, and name its run."""
    sentry = sdk()
    return None if sentry is None else _scope_of(sentry, started)


@contextmanager
def _scope_of(sentry: Any, started: Started) -> Iterator[None]:
    with sentry.isolation_scope() as scope:
        scope.clear_breadcrumbs()
        scope.set_new_propagation_context()
        scope.set_transaction_name(started.function, source="task")
        context = {
            "id": str(started.claim.run_id),
            "function": started.function,
            "attempt": started.claim.attempt,
            "max_attempts": started.max_attempts,
            "slot": started.slot and started.slot.isoformat(),
            "metadata": _shown(started.function, started.metadata),
        }
        _name(scope, started.function, context)
        scope.add_event_processor(Masker(started))
        yield


def receive(event: RunEvent) -> None:
    """Send what Sentry is to know of this: an error, a check-in, both or nothing."""
    sentry = sdk()
    if sentry is None:
        return
    if event.slot is not None:
        check_in(event)
    if event.name in LEVELS and not _is_no_news(event):
        _capture(sentry, event)


def _is_no_news(event: RunEvent) -> bool:
    """Say whether the function asked for another attempt, which is no error of its own."""
    return event.name == "run.retrying" and isinstance(event.exception, Retry)


def _capture(sentry: Any, event: RunEvent) -> None:
    from sentry_sdk.utils import event_from_exception

    state, context = _facts_of(event)
    if event.name == "run.lost" and state == State.FAILED:
        return  # the failure, which comes next, says the same
    with sentry.new_scope() as scope:
        scope.set_level(LEVELS[event.name])
        _name(scope, event.function, context)
        if event.exception is None:  # its process is gone
            scope.set_transaction_name(event.function, source="task")
            scope.fingerprint = [event.function, event.name, event.error]
            sentry.capture_message(f"{event.function}: {event.error}", level=LEVELS[event.name])
            return
        mechanism = {"type": "django_defer", "handled": event.name != "run.failed"}
        options = sentry.get_client().options
        made, hint = event_from_exception(event.exception, options, mechanism)
        sentry.capture_event(made, hint=hint)


def _facts_of(event: RunEvent) -> tuple[str, dict[str, Any]]:
    """Return the state of the run and what Sentry is told of it; of its arguments, nothing."""
    context: dict[str, Any] = {
        "id": str(event.run_id),
        "function": event.function,
        "attempt": event.attempt,
        "slot": event.slot and event.slot.isoformat(),
        "retry_in": event.retry_in and event.retry_in.total_seconds(),
    }
    names = ("state", "queue", "label", "metadata", "max_attempts", "failures", "losses")
    try:
        runs = Run.objects.using(str(conf.database)).filter(pk=event.run_id)
        facts = runs.values(*names).first() or {}
        facts["metadata"] = _shown(event.function, facts.get("metadata"))
    except DatabaseError:  # it has gone away since
        facts = {}
    return str(facts.pop("state", "")), context | facts


def _shown(function: str, metadata: Any) -> dict[str, str]:
    """Return the metadata without what is called like a sensitive parameter."""
    pairs = metadata if isinstance(metadata, Mapping) else {}
    hidden = sensitive_names(function, str(conf.database)) if pairs else set()
    return {key: str(value) for key, value in pairs.items() if key not in hidden}


def _name(scope: Any, function: str, context: dict[str, Any]) -> None:
    scope.set_context("run", context)
    scope.set_tag("defer.function", function)
    scope.set_tag("defer.run_id", context["id"])
    scope.set_tag("defer.attempt", context["attempt"])
    if "queue" in context:
        scope.set_tag("defer.queue", context["queue"])
