"""django-q2's Broker on the run table: `dequeue` claims runs for the workers that are idle now.

Nothing is claimed for a busy worker, unless it has executed all and only writes how the last one
went; and what a chunk brought it goes back when one run takes long. So nothing waits behind a long
run while another host idles. Tasks hold ids and nothing else.
"""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from django.db import DatabaseError, connections

from django_defer.board import Board
from django_defer.chunk_sizes import ChunkSizes
from django_defer.chunk_watch import ChunkWatch
from django_defer.claims import Claim, waiting_queues
from django_defer.conf import MOST_CLAIMS, conf
from django_defer.connections import drop, is_busy
from django_defer.django_q2 import Broker
from django_defer.durations import parse_duration
from django_defer.exceptions import DeferError
from django_defer.fronts import Front
from django_defer.models import Run
from django_defer.statements import prefer_indexes
from django_defer.transitions import release
from django_defer.wakeup import CHANNEL, WINDOW, announce

logger = logging.getLogger(__name__)

Task = tuple[str, dict[str, Any]]  # an id, and what is sent to the worker

LONGEST_WAIT: Final = 1.0  # seconds between two looks when nothing wakes us
SQLITE_LOOK: Final = 0.05  # seconds between two looks at SQLite's data_version
QUEUES_LOOK: Final = 5.0  # seconds between two looks for queues that no code names
LONGEST_LOOK: Final = 1000  # runs that are looked at to see what a fair share is


class RunBroker(Broker):  # type: ignore[misc]
    """Takes work from the run table. Holds no connection of its own: it uses Django's."""

    def __init__(
        self,
        using: str,
        cluster: UUID,
        queues: Sequence[str],
        keys: Sequence[str],
        board: Board,
        *,
        serves_all: bool = False,
    ) -> None:
        self.using = using
        self.cluster = cluster
        self.queues = list(queues)
        self.serves_all = serves_all
        self._queues_seen = 0.0
        self.keys = list(keys)
        self.board = board
        self._turn = 0
        self._fronts: dict[str, Front] = {}
        self._idle: list[int] = []  # as of the last look
        self._sizes = ChunkSizes(min(conf.chunk_size, MOST_CLAIMS))
        self._watch = ChunkWatch(board, self._sizes.learn)
        self._wanted_back: list[tuple[str, list[Claim]]] = []
        self._pause = 0.0
        self._session: Any = None  # the connection that listens
        self._data_version: int | None = None
        self._look_again_at: float | None = None  # monotonic
        self._is_empty = False  # the last look found nothing to do
        super().__init__(",".join(queues))

    # -- what django-q2 asks of a broker ---------------------------------------------------

    def dequeue(self) -> list[Task]:
        """Return a task for each worker that has something to do; wait if there was none.

        Never raises: django-q2's pusher would sleep 10 s and end.
        """
        if self.board.is_stopping:
            return []
        try:
            if self._is_empty:
                self._wait()
            tasks = self._claim()
            self._is_empty = not tasks
        except Exception as error:  # noqa: BLE001
            self._back_off(error)
            self._is_empty = False
            return []
        self._pause = 0.0
        return tasks

    def enqueue(self, task: object) -> None:
        """Refuse: runs are enqueued by calling a background function."""
        raise DeferError(
            "django-defer's broker takes no django-q2 tasks: call a function decorated with "
            "@defer, or keep a qcluster of your own for async_task()."
        )

    def ping(self) -> bool:
        """Answer django-q2 without asking the database."""
        return True

    def info(self) -> str:
        """Name this broker."""
        return "django-defer"

    def set_stat(self, key: str, value: str, timeout: int) -> None:
        """Do nothing: the cluster's row is its status."""

    def get_stat(self, key: str) -> None:
        """Return nothing: the cluster's row is its status."""

    @staticmethod
    def get_cache() -> None:
        """Use no cache."""

    # -- claiming --------------------------------------------------------------------------

    def _take_back(self) -> None:
        """Give back what waits behind a run that takes long."""
        self._wanted_back += self._watch.look()
        while self._wanted_back:
            worker, claims = self._wanted_back[0]
            held = Run.objects.using(self.using).held_by(self.cluster, worker)
            released = release(held.filter(claim_id__in=[each.claim_id for each in claims]))
            if released:
                announce(self.using)
            logger.debug(
                "chunk.taken_back worker=%s released=%s of %s",
                worker,
                released,
                len(claims),
                extra={"event": "chunk.taken_back"},
            )
            self._wanted_back.pop(0)  # what an error kept from being given back is tried again

    def _claim(self) -> list[Task]:
        """Claim for idle workers, beginning with another queue each time.

        What they did since the last time is looked at first.
        """
        self._take_back()
        self._idle = idle = self.board.idle_slots()
        if self.board.is_stopping or self.board.is_stale or not self.keys:
            self._idle = []  # nothing is claimed, so nothing is listened to either
            return []
        if not idle:
            return []
        self._set_up_session()
        self._find_queues()
        slots = {f"{slot}.{self.board.generation(slot)}": slot for slot in idle}
        chunks: dict[str, list[Claim]] = {}
        for offset in range(len(self.queues)):
            queue = self.queues[(self._turn + offset) % len(self.queues)]
            free = [worker for worker in slots if worker not in chunks]
            if not free:
                break
            front = self._front(queue)
            for worker, mine in front.claim(free * self._size(front, len(free))):
                chunks.setdefault(worker, []).append(mine)
        self._turn += 1
        return [self._task(slots[worker], worker, claims) for worker, claims in chunks.items()]

    def _size(self, front: Front, idle: int) -> int:
        """Return how many claims each of the idle workers gets from this queue.

        Looks at what waits only where the last claim found enough: a look takes its time, too.
        """
        if not (front.was_full and self._sizes.is_of_use()):
            return 1
        fleet = self.board.fleet
        waiting = front.look(min(self._sizes.most * fleet, LONGEST_LOOK))
        return self._sizes.size(waiting, idle, fleet)

    def _front(self, queue: str) -> Front:
        if queue not in self._fronts:
            self._fronts[queue] = Front(self.using, queue, self.cluster, self.keys)
        return self._fronts[queue]

    def _longest_wait(self) -> float:
        """Return how long to sleep when nothing wakes us: a front may be due for a look."""
        looks = (front.seconds_until_look() for front in self._fronts.values())
        return min([LONGEST_WAIT, *(seconds for seconds in looks if seconds is not None)])

    def _find_queues(self) -> None:
        """Serve queues that no code names too, unless told which ones to serve."""
        now = time.monotonic()
        if self.serves_all and now - self._queues_seen > QUEUES_LOOK:
            self._queues_seen = now
            self.queues = sorted({*self.queues, *waiting_queues(self.using)})

    def _task(self, slot: int, worker: str, claims: list[Claim]) -> Task:
        self._watch.give(slot, worker, claims)
        name = claims[0].run_id.hex
        task = {
            "id": name,
            "name": name,
            "args": ([mine.as_list() for mine in claims],),
            "kwargs": {},
            "slot": slot,
            "save": False,
            "timeout": -1,
        }
        return name, task

    # -- waiting -----------------------------------------------------------------------------

    def _wait(self) -> None:
        """Return when a worker became idle, when the database has news, or after a while."""
        if not self._idle:
            self._select(LONGEST_WAIT)
        elif connections[self.using].vendor == "sqlite":
            self._wait_for_sqlite()
        elif self._session is not None:
            self._wait_for_notification()
        else:
            self._select(parse_duration(conf.poll_interval).total_seconds())

    def _select(self, seconds: float, *sockets: Any) -> list[Any]:
        """Sleep until a worker, the supervisor or one of the sockets has news; return which.

        Not for long while a run may hold up its chunk.
        """
        seconds = min(seconds, self._watch.seconds_until_look() or seconds)
        readable, _, _ = select.select([self.board.pusher_bell.fd, *sockets], [], [], seconds)
        if self.board.pusher_bell.fd in readable:
            self.board.pusher_bell.answer()
        return readable

    def _set_up_session(self) -> None:
        """LISTEN on a new connection before the first look: what is enqueued later wakes us."""
        prefer_indexes(self.using)
        connection = connections[self.using]
        if connection.vendor != "postgresql" or not conf.listen:
            self._session = None
            return
        connection.ensure_connection()
        raw = connection.connection
        if self._session is not raw:
            raw.add_notify_handler(self._on_notification)
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL}")
            self._session = raw

    def _wait_for_notification(self) -> None:
        """Wait on the LISTEN socket. Every notification is followed by a second look a window
        later, since another one may have been throttled away; what else wakes us is no reason to
        look later."""
        again = self._look_again_at
        seconds = self._longest_wait() if again is None else max(0.0, again - time.monotonic())
        self._select(seconds, self._session.fileno())
        if again is not None and time.monotonic() >= again:
            self._look_again_at = None

    def _on_notification(self, notification: object) -> None:
        self._look_again_at = time.monotonic() + WINDOW

    def _wait_for_sqlite(self) -> None:
        """Look at data_version, which changes when another connection has written."""
        until = time.monotonic() + (self._watch.seconds_until_look() or LONGEST_WAIT)
        while time.monotonic() < until:
            with connections[self.using].cursor() as cursor:
                cursor.execute("PRAGMA data_version")
                version = cursor.fetchone()[0]
            if version != self._data_version:
                self._data_version = version
                return
            if self._select(SQLITE_LOOK):
                return

    def _back_off(self, error: Exception) -> None:
        """Say once what is wrong, and try again 0.1 to 2 s later."""
        busy = is_busy(error, self.using)
        if not self._pause and not busy:
            logger.warning(
                "database.unreachable cannot claim: %s",
                str(error).strip() or type(error).__name__,
                exc_info=None if isinstance(error, DatabaseError) else error,
                extra={"event": "database.unreachable"},
            )
        if not busy:
            drop(self.using)
        self._pause = min(max(self._pause * 2, 0.1), 2.0)
        time.sleep(0.05 if busy else self._pause)
