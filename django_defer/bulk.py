"""From many calls to many rows: an INSERT a batch, whose runs differ in id and arguments only.

Items are read no further than the batch that is inserted next, so that millions of them need no
more memory than a thousand.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypedDict

from django.db import connections, transaction
from django.db.models import QuerySet

from django_defer.conf import conf
from django_defer.enqueue import (
    as_stored,
    check_fit,
    explained,
    open_transaction_elsewhere,
    tell_workers,
    without_arguments,
)
from django_defer.event_loop import refuse_event_loop
from django_defer.exceptions import InvalidOption
from django_defer.ids import uuid7
from django_defer.inserts import insert_calls

if TYPE_CHECKING:
    from uuid import UUID

    from django_defer.call_options import CallOptions
    from django_defer.models import Run
    from django_defer.registry import Function

Progress = Callable[[int], object]

BATCH: Final = 1000  # rows an INSERT


class InBulk(TypedDict, total=False):
    """What `map` and the like can be told beside the items."""

    batch_size: int | None
    progress: Progress | None


class Batch(NamedTuple):
    """Runs to insert: what they have in common, and the stored arguments of each by its id."""

    run: Run
    calls: dict[UUID, dict[str, Any]]


def enqueue_many(
    function: Function[Any, Any],
    items: Iterable[Any],
    options: CallOptions,
    *,
    as_args: Callable[[Any], tuple[Any, ...]] = tuple,
    batch_size: int | None = None,
    progress: Progress | None = None,
    verb: str = ".map()",
) -> int:
    """Insert a run for each item, of which `as_args` makes the arguments; return how many.

    All in one transaction, or one transaction a batch when `batch_size` is given. Where another
    database's transaction is open, all wait in memory for its commit.
    """
    refuse_event_loop(verb)
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise InvalidOption(f"batch_size={batch_size!r}: write a whole number of rows from 1 up.")
    if progress is not None and not callable(progress):
        raise InvalidOption(f"progress={progress!r}: write a function that takes a number of runs.")
    if options.key is not None:
        raise InvalidOption(f"key={options.key!r} names one run, and {verb} makes many.")
    using = str(conf.database)
    insert = partial(_insert, using=using, at_once=batch_size is None, progress=progress)
    calls = map(as_args, _streamed(items))
    batches = _batches(function, calls, options, batch_size or BATCH)
    other = open_transaction_elsewhere(using)
    if other is None:
        return insert(batches)
    waiting = list(batches)  # what is wrong with one of them is said here, not at the commit
    transaction.on_commit(partial(insert, waiting), using=other)
    return sum(len(batch.calls) for batch in waiting)


def _streamed(items: Iterable[Any]) -> Iterable[Any]:
    """Return items of which a QuerySet keeps none in memory.

    SQLite reads it all at once: a SELECT that is open on a connection meets what this inserts, and
    lets it insert nothing more once another process has.
    """
    if not isinstance(items, QuerySet) or items._result_cache is not None:
        return items
    if connections[items.db].vendor == "sqlite":
        return items
    return items.iterator(chunk_size=BATCH)


def _batches(
    function: Function[Any, Any],
    calls: Iterable[tuple[Any, ...]],
    options: CallOptions,
    size: int,
) -> Iterator[Batch]:
    """Check and encode each call when it is read: the caller may change an item afterwards."""
    stored = _stored(function, calls)
    while batch := {uuid7(): call for call in itertools.islice(stored, size)}:
        yield Batch(without_arguments(function, options), batch)


def _stored(
    function: Function[Any, Any], calls: Iterable[tuple[Any, ...]]
) -> Iterator[dict[str, Any]]:
    fitting: set[int] = set()  # without keywords, it is their number that fits or does not
    for args in calls:
        if len(args) not in fitting:
            check_fit(function, args, {})
            fitting.add(len(args))
        yield as_stored(function, args, {})


def _insert(
    batches: Iterable[Batch], *, using: str, at_once: bool, progress: Progress | None
) -> int:
    count = 0
    with transaction.atomic(using=using) if at_once else nullcontext():
        for run, calls in batches:
            with explained(), transaction.mark_for_rollback_on_error(using):
                insert_calls(using, run, calls)
            tell_workers(run.queue, using)
            count += len(calls)
            if progress is not None:
                progress(count)
    return count
