"""What a function says while it runs: its log lines, its prints and its progress, into the spool.

In a worker, one handler listens to the root logger (and to those that pass nothing on to it) for
records that are emitted in the context of a run. Only what carries that context is taken, so other
threads' lines are not mixed in, and neither are our own loggers'. Whatever is wrong with a line,
the function goes on.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
import time
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

from django_defer.conf import conf
from django_defer.context import current_recorder
from django_defer.spool import Line, Step, pack_line, pack_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from django_defer.spool import Spool

HEAD_LINES: Final = 500  # of each attempt these are kept, and as many of its latest
HEAD_SIZE: Final = 128 * 1024  # characters of them
MAX_MESSAGE: Final = 10_000  # characters; a longer one is cut in its middle
MAX_LOGGER: Final = 200  # characters of a logger's name
MAX_NOTE: Final = 200  # characters of a progress's message
PATIENCE: Final = 0.05  # seconds that a line waits for another thread's, before it is left out
PRINTED: Final = "print"  # what stands for the logger of what was printed

_OWN: Final = __name__.partition(".")[0]
_formatter: Final = logging.Formatter()


class Recorder:
    """Takes down what one attempt says. Safe in threads; ends with `close`.

    `find_hider` returns what masks in a text what nobody is shown: most attempts say nothing.
    """

    def __init__(
        self,
        scribe: Scribe,
        run_id: UUID,
        attempt: int,
        find_hider: Callable[[], Callable[[str], str] | None] = lambda: None,
    ) -> None:
        self.scribe = scribe
        self._run_id = run_id
        self._attempt = attempt
        self._find_hider = find_hider
        self._numbers = itertools.count(1)
        self._room = HEAD_LINES
        self._size = HEAD_SIZE
        self._printed = ""
        self._last: Step | None = None

    @cached_property
    def _hide(self) -> Callable[[str], str]:
        return self._find_hider() or str

    def say(self, level: int, logger: str, message: str, at: float) -> None:
        """Take down a line; `at` is in seconds since 1970."""
        message = _cut(self._hide(message))
        self._room -= 1
        self._size -= len(message)
        record = pack_line(
            Line(
                self._run_id,
                self._attempt,
                next(self._numbers),
                level,
                round(at * 1e6),
                logger[:MAX_LOGGER],
                message,
            )
        )
        self.scribe.put(record, keep=self._room >= 0 and self._size >= 0)

    def print(self, text: str) -> None:
        """Take down what was printed, a line at a time."""
        *lines, rest = (self._printed + text).split("\n")
        if len(rest) >= MAX_MESSAGE:
            lines, rest = [*lines, rest], ""
        self._printed = rest
        for line in lines:
            if line.strip():
                self.say(logging.INFO, PRINTED, line, time.time())

    def show(self, done: int, total: int | None, message: str) -> None:
        """Show how far the attempt is."""
        at = time.time_ns() // 1000
        note = self._hide(message)[:MAX_NOTE]
        self._last = step = Step(self._run_id, self._attempt, done, total, at, note)
        self.scribe.show(pack_step(step))

    def close(self) -> None:
        """Take down what is left when the attempt ends."""
        self.scribe.renew()
        if self._printed:
            self.print("\n")
        if self._last is not None:  # the next attempt will show its own
            self.scribe.put(pack_step(self._last), keep=True)


class Scribe:
    """Writes to the spool for this process: one record at a time. Make it in the worker.

    An interrupt (the time limit, an abort) may come anywhere in here, and leave the lock held and
    the flag set. So both are renewed after each attempt, and nobody waits long for the lock.
    """

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self._pid = os.getpid()
        self._handler: RunLogHandler | None = None
        self._listened_to: list[logging.Logger] = []
        self._stdout: Any = None
        self.renew()

    def renew(self) -> None:
        """Forget what an interrupt left behind; where no interrupt comes."""
        self._lock = threading.RLock()
        self._is_writing = False

    def put(self, record: bytes, *, keep: bool) -> None:
        """Put a record into the spool."""
        self._write(partial(self.spool.put, record, keep=keep))

    def show(self, progress: bytes) -> None:
        """Show progress in the spool."""
        self._write(partial(self.spool.show, progress))

    def _write(self, write: Callable[[], object]) -> None:
        """Write, but not in a child that was forked, nor in a signal handler amid another write."""
        lock = self._lock
        if os.getpid() != self._pid or not lock.acquire(timeout=PATIENCE):
            return
        try:
            if not self._is_writing:
                self._is_writing = True
                try:
                    write()
                finally:
                    self._is_writing = False
        finally:
            lock.release()

    def current_recorder(self) -> Recorder | None:
        """Return what takes down what this code says; None if that is not for this one."""
        recorder = current_recorder()
        return recorder if isinstance(recorder, Recorder) and recorder.scribe is self else None

    def listen(self) -> None:
        """Listen to the loggers, and to what is printed, as the settings say."""
        level = conf.log_level
        if level is not None:
            self._handler = RunLogHandler(self, level)
            self._listened_to = [logging.getLogger(), *_loggers_that_pass_nothing_on()]
            for logger in self._listened_to:
                logger.addHandler(self._handler)
        if conf.log_prints:
            self._stdout = sys.stdout
            sys.stdout = PrintListener(self, sys.stdout)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for a while."""
        self.listen()
        try:
            yield
        finally:
            self.stop_listening()

    def stop_listening(self) -> None:
        """Leave loggers and standard output as they were."""
        if self._handler is not None:
            for logger in self._listened_to:
                logger.removeHandler(self._handler)
        if self._stdout is not None:
            sys.stdout = self._stdout
        self._handler = self._stdout = None


class RunLogHandler(logging.Handler):
    """Gives the records of the run that this code executes in to its recorder.

    Where nobody else handles a record, `logging` would write a warning to standard error. With
    this handler it no longer does, so that is done here.
    """

    def __init__(self, scribe: Scribe, level: str) -> None:
        super().__init__(level)
        self._scribe = scribe
        self._least = self.level
        self._last_resort = None if logging.getLogger().handlers else logging.lastResort
        if self._last_resort is not None:
            self.setLevel(min(self.level, self._last_resort.level))

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit it, without the lock of other handlers: an interrupt could leave that held."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Take down the record, unless it is our own or nobody's."""
        last_resort = self._last_resort
        if last_resort is not None and record.levelno >= last_resort.level:
            self._handle_unless_others_do(record, last_resort)
        recorder = self._scribe.current_recorder()
        if recorder is None or record.levelno < self._least:
            return
        if record.name.partition(".")[0] != _OWN:
            recorder.say(record.levelno, record.name, _text_of(record), record.created)

    def _handle_unless_others_do(
        self, record: logging.LogRecord, last_resort: logging.Handler
    ) -> None:
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return
            logger = logger.parent if logger.propagate else None
        last_resort.handle(record)


class PrintListener:
    """Stands in for standard output: passes everything on, and gives it to the recorder."""

    def __init__(self, scribe: Scribe, stream: Any) -> None:
        self._scribe = scribe
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, and take it down."""
        written: int = self._stream.write(text)
        recorder = self._scribe.current_recorder()
        if recorder is not None:
            recorder.print(text)
        return written

    def writelines(self, lines: Any) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _loggers_that_pass_nothing_on() -> list[logging.Logger]:
    found = [
        logger
        for logger in logging.root.manager.loggerDict.copy().values()
        if isinstance(logger, logging.Logger) and not logger.propagate
    ]
    return [logger for logger in found if logger.name.partition(".")[0] != _OWN]


def _text_of(record: logging.LogRecord) -> str:
    """Return the message, with the traceback and the stack if it has one."""
    try:
        text = record.getMessage()
    except Exception as error:  # noqa: BLE001 - a line that can't be formatted is kept as it is
        text = f"{record.msg!s} (its arguments do not fit: {type(error).__name__})"
    if record.exc_info and record.exc_info[0] is not None:
        text += "\n" + (record.exc_text or _formatter.formatException(record.exc_info))
    if record.stack_info:
        text += "\n" + record.stack_info
    return text


def _cut(message: str) -> str:
    """Leave out the middle of a message that is too long, and say so: a traceback's end counts."""
    if len(message) <= MAX_MESSAGE:
        return message
    end = MAX_MESSAGE // 3
    begin = MAX_MESSAGE - end
    left_out = f"\n… {len(message) - MAX_MESSAGE:,} characters left out …\n"
    return message[:begin] + left_out + message[-end:]
