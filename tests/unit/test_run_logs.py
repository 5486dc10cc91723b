"""Taking down what a function says while interrupts, threads and signals get in between."""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from django_defer.context import CurrentRun, running
from django_defer.run_logs import Recorder, RunLogHandler, Scribe
from django_defer.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = UUID(int=7)


class Interrupt(BaseException):
    """The time is up."""


@pytest.fixture
def _alarm() -> Iterator[None]:
    def interrupt(signum: int, frame: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("_alarm")
def test_an_interrupt_amid_a_line_harms_no_later_attempt_and_blocks_no_thread() -> None:
    scribe = Scribe(Spool(kept_bytes=4096, latest_bytes=4096))
    handler = RunLogHandler(scribe, "INFO")
    record = logging.LogRecord("shop", logging.INFO, "", 1, "hello", None, None)
    chance = random.Random(1)
    for attempt in range(1, 301):
        recorder = Recorder(scribe, RUN, attempt)
        run = CurrentRun(id=RUN, function="x", attempt=attempt, is_last_attempt=True, root_id=RUN)
        with running(run, recorder):
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 3e-4))
                while True:
                    handler.handle(record)
                    run.progress(1)
            except Interrupt:
                pass
            thread = threading.Thread(target=recorder.say, args=(20, "a thread's", "x", 1.0))
            thread.start()
            thread.join(5)
            assert not thread.is_alive()
        scribe.spool.take()
        scribe.spool.take()  # half a record is looked at twice
        after = Recorder(scribe, RUN, attempt)
        after.say(20, "shop", "afterwards", 1.0)
        assert [line.message for line in scribe.spool.take().kept] == ["afterwards"], attempt


def test_what_an_interrupt_left_behind_ends_with_the_attempt() -> None:
    scribe = Scribe(Spool())
    first, second = Recorder(scribe, RUN, 1), Recorder(scribe, RUN, 2)
    first.show(7, None, "")
    scribe._lock.acquire()  # as if an interrupt had come right after these two
    scribe._is_writing = True
    first.say(20, "shop", "left out", 1.0)
    first.close()
    thread = threading.Thread(target=second.say, args=(20, "shop", "hello", 1.0))
    thread.start()
    thread.join()
    taken = scribe.spool.take()
    assert [line.message for line in taken.kept] == ["hello"]
    assert taken.steps[0].done == 7  # the attempt's last


def test_threads_that_speak_at_once_lose_nothing_and_share_no_number() -> None:
    scribe = Scribe(Spool())
    recorder = Recorder(scribe, RUN, 1)

    def speak(name: str) -> None:
        for n in range(50):
            recorder.say(20, name, str(n), time.time())

    threads = [threading.Thread(target=speak, args=(f"thread-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = scribe.spool.take().kept
    assert sorted(line.number for line in lines) == list(range(1, 401))
    assert len({(line.logger, line.message) for line in lines}) == 400
