"""The hot path in the database: an attempt's start and its success, each alone or both at once.

Each is one conditional UPDATE that names the `claim_id`, so a worker whose claim was taken away
changes nothing. `endings` has the attempts that do not succeed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_defer.attempt_facts import Started, Success
from django_defer.claims import Claim
from django_defer.clock import SQL_NOW, DatabaseNow, as_instant, as_text
from django_defer.metadata import Pairs
from django_defer.models import Run
from django_defer.outcomes import Ended, is_success_wanted, record
from django_defer.statements import execute, execute_together
from django_defer.states import ACTIVE, Outcome, Reason, State
from django_defer.transitions import discard

# Only the start's durability is advisory: after a database crash the row says "claimed" again,
# and the finish accepts that. Where a second execution is forbidden, the start is durable too.
_START: Final = """
UPDATE {run} SET state = 'running', started_at = {now}, worker = %(worker)s
WHERE id = %(id)s AND claim_id = %(claim)s AND (state = 'running'
    OR state = 'claimed' AND (discard_after IS NULL OR discard_after > {now}))
RETURNING function, args, started_at, slot, missed_slots, root_id, failures, max_attempts,
    definition_id, rerun_of_id, metadata{lazy}
"""
_LAZY_COMMIT: Final = (
    ", CASE WHEN rerun_if_lost THEN set_config('synchronous_commit', 'off', true) END AS lazy"
)
_SUCCEED: Final = """
UPDATE {run} SET state = 'succeeded', finished_at = {now}, started_at = %(started_at)s,
    result = %(result)s, error_class = '', error_message = '', key = NULL
WHERE id = %(ended_id)s AND claim_id = %(ended_claim)s AND state IN ('claimed', 'running')
RETURNING 1
"""
_SUCCEED_AND_START: Final = f"""
WITH ended AS ({_SUCCEED}), begun AS ({_START})
SELECT EXISTS (SELECT FROM ended), begun.* FROM (VALUES (1)) AS one LEFT JOIN begun ON true
"""  # noqa: S608


def start(using: str, claim: Claim, worker: str) -> Started | None:
    """Move claimed → running and return what to execute; None: do not run it.

    Safe to repeat when the answer to it was lost: one worker alone holds the claim.
    """
    connection = connections[using]
    vendor = connection.vendor
    rows = execute(using, _sql(_START, vendor), _begun(vendor, claim, worker), hot=True)
    return _started(connection, claim, rows[0]) if rows else None


def succeed_and_start(
    using: str, success: Success, claim: Claim, worker: str
) -> tuple[bool, Started | None]:
    """Do what `succeed` and `start` do, in one commit.

    Waits for the disk only if nothing was started.
    """
    connection = connections[using]
    vendor = connection.vendor
    if vendor != "postgresql":
        ended = _sql(_SUCCEED, vendor), _ended(vendor, success)
        begun = _sql(_START, vendor), _begun(vendor, claim, worker)
        written, rows = execute_together(using, ended, begun)
        return bool(written), _started(connection, claim, rows[0]) if rows else None
    values = {**_ended(vendor, success), **_begun(vendor, claim, worker)}
    ((written, *row),) = execute(using, _sql(_SUCCEED_AND_START, vendor), values, hot=True)
    return bool(written), None if row[0] is None else _started(connection, claim, row)


def _started(connection: BaseDatabaseWrapper, claim: Claim, row: Sequence[Any]) -> Started:
    function, args, started_at, slot, missed, root, failures, most = row[:8]
    definition, original, metadata = row[8:11]
    return Started(
        claim=claim,
        function=function,
        args=_from_json(args),
        started_at=as_instant(started_at, connection),
        slot=as_instant(slot, connection) if slot else slot_of_original(connection.alias, original),
        missed_slots=missed,
        root_id=UUID(str(root)) if root else claim.run_id,
        failures=failures,
        max_attempts=most,
        definition_id=definition,
        metadata=Pairs(_from_json(metadata)),
    )


def _from_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def discard_expired(using: str, claim: Claim) -> bool:
    """Discard what was claimed too late to begin. False: the claim itself was taken away."""
    mine = Run.objects.using(using).filter(pk=claim.run_id, claim_id=claim.claim_id)
    return bool(discard(using, mine.filter(discard_after__lte=DatabaseNow()), Reason.EXPIRED))


def slot_of_original(using: str, original: Any) -> datetime | None:
    """Return the slot that a rerun, which has none of its own, stands for."""
    while original is not None:
        runs = Run.objects.using(using).filter(pk=original)
        row = runs.values_list("slot", "rerun_of").first()
        if row is None or row[0] is not None:
            return row and row[0]
        original = row[1]
    return None


def succeed(using: str, success: Success) -> bool:
    """Finish with a result. False: the claim was taken away."""
    started = success.started
    if not is_success_wanted(started.function, success.seconds):
        return write_success(using, success)
    with transaction.atomic(using=using):
        if not write_success(using, success):
            return False
        end = Ended(
            run_id=started.claim.run_id,
            function=started.function,
            state=State.SUCCEEDED,
            outcome=Outcome.SUCCEEDED,
            seconds=success.seconds,
        )
        record(using, [end])
    return True


def write_success(using: str, success: Success) -> bool:
    """Write the row alone. False: the claim was taken away, or it was written before."""
    vendor = connections[using].vendor
    return bool(execute(using, _sql(_SUCCEED, vendor), _ended(vendor, success), hot=True))


def state_written(using: str, claim: Claim) -> State | None:
    """Return the state that an earlier write of this attempt, which went through, led to."""
    mine = Run.objects.using(using).filter(pk=claim.run_id, claim_id=claim.claim_id)
    state = mine.exclude(state__in=ACTIVE).values_list("state", flat=True).first()
    return None if state is None else State(state)


@cache  # psycopg goes on as it did when it is given the very same object again
def _sql(template: str, vendor: str) -> str:
    """Fill in the table, the clock and the manner of this database."""
    lazy = _LAZY_COMMIT if vendor == "postgresql" else ""
    return template.format(run=Run._meta.db_table, now=SQL_NOW[vendor], lazy=lazy)


def _begun(vendor: str, claim: Claim, worker: str) -> dict[str, Any]:
    """Return what a start writes."""
    run_id, claim_id = _ids(vendor, claim)
    return {"id": run_id, "claim": claim_id, "worker": worker}


def _ended(vendor: str, success: Success) -> dict[str, Any]:
    """Return what the finish of a success writes."""
    run_id, claim_id = _ids(vendor, success.started.claim)
    started_at = success.started.started_at
    return {
        "result": success.result,
        "started_at": started_at if vendor == "postgresql" else as_text(started_at),
        "ended_id": run_id,
        "ended_claim": claim_id,
    }


def _ids(vendor: str, claim: Claim) -> tuple[UUID | str, UUID | str]:
    """Return the ids of run and claim as this database stores them."""
    if vendor == "postgresql":
        return claim.run_id, claim.claim_id
    return claim.run_id.hex, claim.claim_id.hex
