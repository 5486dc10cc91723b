"""What a worker writes while it executes a chunk: each success goes with the next start.

On PostgreSQL that is one statement, and its commit does not wait for the disk. The last commit of
the chunk does, and with it all before it are durable. Until then they are kept here, and written
again on a new connection: a database that crashed has forgotten them, while the claims, which were
durable before, stand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.db import connections, transaction

from django_defer import attempts
from django_defer.conf import conf
from django_defer.statements import execute
from django_defer.states import State

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_defer.attempt_facts import Started, Success
    from django_defer.claims import Claim

# A commit that wrote nothing does not wait for the disk; this one writes a message for nobody.
_WAIT_FOR_DISK: Final = "SELECT pg_logical_emit_message(true, 'django_defer', '')"


class ChunkWrites:
    """The successes of one chunk. Each method is safe to repeat when its answer was lost."""

    def __init__(self, using: str, worker: str) -> None:
        self.using = using
        self.worker = worker
        self.unwritten: Success | None = None  # goes with the next start
        self._kept: list[Success] = []  # written, and not known to be durable
        self._session: Any = None  # the connection they were written on

    def start(self, claim: Claim) -> tuple[bool, Started | None]:
        """Start an attempt; return whether what was unwritten counts, and what to execute."""
        connection = self._renewed()
        success = self.unwritten
        if success is None:
            return False, attempts.start(self.using, claim, self.worker)
        now, started = attempts.succeed_and_start(self.using, success, claim, self.worker)
        written = now or self._was_written(success)
        if now and started is None:
            self._kept.clear()  # nothing was started, so this commit was durable
        elif written and connection.vendor == "postgresql":
            self._kept.append(success)
        self.unwritten = None
        return written, started

    def finish(self) -> bool:
        """Make all of it durable; return whether what was unwritten counts."""
        self._renewed()
        success = self.unwritten
        now = success is not None and attempts.write_success(self.using, success)
        if self._kept and not (now and conf.prepare_statements):
            self._make_durable()  # a pooler's server may have crashed, and nobody noticed
        self._kept.clear()
        self.unwritten = None
        return now or (success is not None and self._was_written(success))

    def _renewed(self) -> BaseDatabaseWrapper:
        """Return the connection; what was written on another, lost one is written again first."""
        connection = connections[self.using]
        connection.ensure_connection()
        if self._session is not connection.connection:
            if self._kept:
                self._make_durable()
                self._kept.clear()
            self._session = connection.connection
        return connection

    def _make_durable(self) -> None:
        with transaction.atomic(using=self.using):
            for success in self._kept:
                attempts.write_success(self.using, success)
            execute(self.using, _WAIT_FOR_DISK, {})

    def _was_written(self, success: Success) -> bool:
        claim = success.started.claim
        return attempts.state_written(self.using, claim) == State.SUCCEEDED
