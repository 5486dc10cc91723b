"""From a caller to a row: enqueue is one INSERT in the caller's own transaction.

Rolled back means never run, committed means run. The call reads no other row.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.db import DatabaseError, connections, transaction

from django_defer.clock import database_now
from django_defer.conf import conf
from django_defer.context import current_run
from django_defer.deadlines import deadline, due_at
from django_defer.durations import parse_duration
from django_defer.event_loop import in_thread, refuse_event_loop
from django_defer.exceptions import (
    NotDiscoverable,
    NotMigrated,
    UnserializableValue,
)
from django_defer.keys import insert_once
from django_defer.metadata import merged
from django_defer.models import Cluster, Run
from django_defer.payloads import encode_call
from django_defer.registry import Function, home_for
from django_defer.sensitive import MARK, hide_path, mark
from django_defer.states import State
from django_defer.wakeup import announce

if TYPE_CHECKING:
    from django_defer.call_options import CallOptions

logger = logging.getLogger(__name__)

_hinted: set[str] = set()


def enqueue(
    function: Function[Any, Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: CallOptions,
    *,
    verb: str = ".enqueue()",
) -> Run:
    """Insert one run and return it."""
    refuse_event_loop(verb)
    return insert(build_run(function, args, kwargs, options))


def insert(run: Run) -> Run:
    """Insert the row in the caller's own transaction.

    Where another database's transaction is open, the INSERT waits for its commit, and the run
    that is returned has an id and no state yet.
    """
    using = str(conf.database)
    other = open_transaction_elsewhere(using)
    if other is None:
        _insert(run, using)
        return run
    transaction.on_commit(partial(_insert_later, run, run.state, using), using=other)
    run.state, run.enqueued_after = None, (other, threading.get_ident())  # type: ignore[assignment]
    return run


def _insert_later(run: Run, state: str, using: str) -> None:
    run.state, run.enqueued_after = state, None
    _insert(run, using)


def is_pending(run: Run) -> bool:
    """Say whether the INSERT of this run still waits for the commit of another database.

    False: that was rolled back. Another thread's transaction can't be looked at and counts as open.
    """
    if run.enqueued_after is None:
        return False
    alias, thread = run.enqueued_after
    if thread != threading.get_ident():
        return True
    callbacks = (entry[1] for entry in connections[alias].run_on_commit)
    return any(
        isinstance(each, partial) and each.func is _insert_later and each.args[0] is run
        for each in callbacks
    )


async def aenqueue(
    function: Function[Any, Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: CallOptions,
) -> Run:
    """`enqueue` from async code."""
    return cast("Run", await in_thread(enqueue)(function, args, kwargs, options))


def build_run(
    function: Function[Any, Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: CallOptions,
) -> Run:
    """Check the call and return the row it will be, not yet saved."""
    run = without_arguments(function, options)
    check_fit(function, args, kwargs)
    run.args = as_stored(function, args, kwargs)
    return run


def without_arguments(function: Function[Any, Any], options: CallOptions) -> Run:
    """Return all of the row that is the same whatever the function is called with."""
    if not function.is_discoverable:
        raise NotDiscoverable(function.key, function.module, home_for(function.module))
    own = function.options
    run = Run(
        function_id=function.key,
        queue=options.queue or own.queue or conf.default_queue,
        priority=own.priority if options.priority is None else options.priority,
        label=options.label,
        key=options.key,
        metadata=merged(own.metadata, options.metadata, where=f"{function.key}: ") or None,
        max_attempts=own.retry.max_attempts,
        rerun_if_lost=own.rerun_if_lost,
    )
    due = due_at(options)
    if due is not None:  # the database's clock says whether that is past
        run.state, run.run_after = State.SCHEDULED, due
    run.discard_after = deadline(options, own.discard_after)
    inherit(run)
    return run


def check_fit(
    function: Function[Any, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Raise TypeError if the function does not take these arguments."""
    try:
        function.signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{function.key}() {error}") from None


def as_stored(
    function: Function[Any, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments as they are stored, and what nobody is shown of them."""
    try:
        call = encode_call(function.key, function.parameter_names, args, kwargs)
    except UnserializableValue as error:
        hide_path(error, function)
        raise
    return {**call, MARK: mark(function, args, kwargs)} if function.sensitive else call


def inherit(run: Run) -> None:
    """Link the run to the one that is enqueuing it, if any."""
    current = current_run()
    if current is not None:
        run.parent_id, run.root_id = current.id, current.root_id
        run.enqueued_by = run.enqueued_by or current.function


def _insert(run: Run, using: str) -> None:
    with explained():
        if run.key is None:
            run.save(using=using)
        elif not insert_once(run, using):
            return  # it is an earlier one, which is unfinished
    tell_workers(run.queue, using)


def tell_workers(queue: str, using: str) -> None:
    """Wake those of idle clusters; while developing, say if there is none."""
    announce(using)
    _hint_at_worker(queue, using)


@contextmanager
def explained() -> Iterator[None]:
    """Say what to do when the tables are missing."""
    try:
        yield
    except DatabaseError as error:
        if NotMigrated.explains(error):
            raise NotMigrated from error
        raise


def open_transaction_elsewhere(using: str) -> str | None:
    """Return the alias whose open transaction the INSERT must wait for, or None."""
    if connections[using].in_atomic_block:
        return None
    for connection in connections.all(initialized_only=True):
        if connection.alias != using and connection.in_atomic_block:
            return str(connection.alias)
    return None


def _hint_at_worker(queue: str, using: str) -> None:
    """While developing, say once that nobody is there to execute what was just enqueued."""
    if not settings.DEBUG or queue in _hinted:
        return
    _hinted.add(queue)
    live = Cluster.objects.using(using).live(database_now(using), _lease())
    if not any(queue in cluster.queues or not cluster.queues for cluster in live):
        logger.warning(
            'enqueue.no_worker No worker serves the queue "%s": start one with '
            "`manage.py defer_worker`.",
            queue,
            extra={"event": "enqueue.no_worker", "queue": queue},
        )


def _lease() -> timedelta:
    return parse_duration(conf.lease, name='DEFER["LEASE"]')
