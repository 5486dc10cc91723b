"""The background and scheduled functions of the test app."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from django_defer import Cancel, Retry, RetryPolicy, RunAborted, current_run, defer, endings
from tests.testapp.models import Customer, Effect


@defer
def add(first: int, second: int = 1) -> int:
    """Return a sum."""
    return first + second


@defer
def noop(value: Any = None) -> Any:
    """Return the argument."""
    return value


@defer(max_duration="2m")
def leave_effect(name: str, detail: str = "") -> None:
    """Write one row."""
    Effect.objects.create(name=name, detail=detail)


@defer
def greet(customer: Customer) -> str:
    """Take a model instance."""
    return f"Hello, {customer.name}"


@defer
async def add_async(first: int, second: int) -> int:
    """Be a coroutine function."""
    await asyncio.sleep(0)
    await Effect.objects.acreate(name="add_async")
    return first + second


@defer(retry=RetryPolicy(max_attempts=3, initial_interval="50ms", randomization_factor=0))
def fail_until(attempt: int) -> int:
    """Fail before this attempt."""
    current = current_run()
    assert current is not None
    if current.attempt < attempt:
        raise ConnectionError(f"attempt {current.attempt} failed")
    return current.attempt


@defer(retry=False)
def fail() -> None:
    """Fail, without a retry."""
    raise ValueError("no <b>luck</b>")


@defer
def ask_for_retry(after: float) -> str:
    """Raise Retry once."""
    current = current_run()
    assert current is not None
    if current.attempt == 1:
        raise Retry(after=after)
    return "done"


@defer
def cancel_itself() -> None:
    """Raise Cancel."""
    raise Cancel("not needed any more")


@defer(max_duration="0.3s", retry=False)
def too_long(seconds: float) -> None:
    """Sleep, interruptibly."""
    time.sleep(seconds)


@defer(max_duration="0.3s", retry=False)
async def too_long_async(seconds: float) -> None:
    """Sleep in an event loop."""
    await asyncio.sleep(seconds)


@defer(max_duration="0.3s", retry=False)
def swallow_time_limit(seconds: float) -> None:
    """Go on whatever is raised."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(seconds)
        except BaseException:  # noqa: BLE001
            pass


@defer(retry=False)
def sleep(seconds: float, name: str = "") -> float:
    """Sleep, leaving an effect before and after."""
    if name:
        Effect.objects.create(name=name, detail=f"start pid={os.getpid()}")
    time.sleep(seconds)
    if name:
        Effect.objects.create(name=name, detail="end")
    return seconds


@defer(retry=False)
def slow_at_first(seconds: float, name: str = "") -> int:
    """Take long at the first attempt only; leave an effect, if it has a name."""
    current = current_run()
    assert current is not None
    if current.attempt == 1:
        time.sleep(seconds)
    if name:
        Effect.objects.create(name=name, detail=str(current.attempt))
    return current.attempt


@defer(rerun_if_lost=False)
def sleep_once(seconds: float) -> None:
    """Sleep; never to be executed twice."""
    time.sleep(seconds)


@defer
def kill_itself(times: int) -> str:
    """Be killed the first `times` times."""
    current = current_run()
    assert current is not None
    if current.attempt <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@defer.cron("0 8 * * MON", atomic=True, retry=RetryPolicy(initial_interval="50ms"))
def weekly() -> int:
    """Fan out to every customer who opted in, dying once half-way when told to."""
    current = current_run()
    assert current is not None
    customers = list(Customer.objects.filter(opted_in=True).order_by("pk"))
    for index, customer in enumerate(customers):
        if index == len(customers) // 2 and current.attempt == 1:
            how = os.environ.get("DEFER_TEST_WEEKLY_DIES", "")
            if how == "exception":
                raise ConnectionError("half-way")
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        recommend.using(label=customer.name)(customer)
    return len(customers)


@defer
def recommend(customer: Customer) -> None:
    """Leave one effect a customer."""
    Effect.objects.create(name="mail", detail=customer.name)


@defer(retry=False)
def write_then_fail(name: str) -> None:
    """Write a row, then fail."""
    Effect.objects.create(name=name)
    raise ValueError("after writing")


@defer
def enqueue_itself() -> None:
    """Never come to an end."""
    enqueue_itself()


# -- functions that behave badly -------------------------------------------------------------

SOON = RetryPolicy(initial_interval="100ms", max_interval="500ms", max_attempts=100)


@defer(retry=SOON)
def leave_mark(name: str, seconds: float = 0.01) -> int:
    """Take a little time and write one row, whatever it takes; return the process."""
    time.sleep(seconds)
    Effect.objects.create(name=name)
    return os.getpid()


@defer(retry=SOON)
def note(path: str, name: str, seconds: float = 0.0) -> None:
    """Take a little time and append a line to a file, without a word to the database."""
    time.sleep(seconds)
    with Path(path).open("a") as file:  # one short write a line: two processes don't mix them
        file.write(f"{name}\n")


@defer(retry=SOON)
def note_and_die_once(path: str, name: str) -> None:
    """Append a line to a file, unless the name says to die and this is the first attempt."""
    current = current_run()
    if current is not None and current.attempt == 1 and name == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    note.call(path, name)


@defer(retry=SOON, atomic=True)
def leave_mark_atomically(name: str, seconds: float = 0.01) -> int:
    """Write one row in the transaction that also records the run's end."""
    Effect.objects.create(name=name)
    time.sleep(seconds)
    return os.getpid()


@defer
def process_id() -> int:
    """Return the worker's process id."""
    return os.getpid()


@defer
def exit_at_once(code: int) -> None:
    """End the worker's process."""
    os._exit(code)


@defer(retry=False)
def exit_politely(code: int) -> None:
    """Raise SystemExit."""
    sys.exit(code)


@defer(retry=False)
def press_ctrl_c() -> None:
    """Raise KeyboardInterrupt."""
    raise KeyboardInterrupt


@defer
def close_connection() -> None:
    """Close the connection under the executor."""
    connection.close()


@defer
def leave_atomic_open(*, close: bool = False) -> None:
    """Enter a transaction, write, and never leave."""
    transaction.atomic().__enter__()
    Effect.objects.create(name="never committed")
    if close:
        connection.close()


@defer
def begin_by_hand() -> None:
    """Begin a transaction behind Django's back."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
    Effect.objects.create(name="never committed")


@defer
def turn_autocommit_off() -> None:
    """Begin a transaction that nobody ends."""
    transaction.set_autocommit(False)
    Effect.objects.create(name="never committed")


@defer(retry=False)
def break_transaction() -> None:
    """Leave a transaction in which a statement has failed."""
    transaction.atomic().__enter__()
    with connection.cursor() as cursor:
        cursor.execute("SELECT nonsense")


@defer(atomic=True, retry=False)
def roll_back_silently() -> str:
    """Mark its own transaction for a rollback, and return as if nothing were wrong."""
    Effect.objects.create(name="rolled back")
    transaction.set_rollback(True)
    return "fine"


@defer(atomic=True, retry=False)
def leave_savepoint_open() -> None:
    """Enter a nested block of its transaction, and never leave."""
    transaction.atomic().__enter__()
    Effect.objects.create(name="rolled back")


@defer
def change_signal_handlers() -> None:
    """Put other handlers in place of those that the worker needs."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0)


@defer
def fork_and_return() -> int:
    """Return twice: in the worker, and in a child that nobody expects."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return os.getpid()


@defer(atomic=True)
def fork_and_return_atomically() -> int:
    """Return twice, inside a transaction."""
    Effect.objects.create(name="forked")
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return os.getpid()


@defer
def stop_a_program() -> int:
    """Start a program and stop it with SIGTERM; return how it ended."""
    with subprocess.Popen(["sleep", "60"]) as program:
        time.sleep(0.1)
        program.terminate()
        return program.wait(timeout=10)


@defer(max_duration="0.3s", retry=False)
def query_too_long(seconds: int) -> None:
    """Wait inside a query of PostgreSQL."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])


@defer(max_duration="0.3s", retry=False, atomic=True)
def query_too_long_atomically(seconds: int) -> None:
    """Wait inside a query of PostgreSQL, in a transaction."""
    Effect.objects.create(name="too late")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])


@defer(max_duration="0.3s", retry=False, atomic=True)
def atomic_too_long(seconds: float) -> None:
    """Write, then take too long."""
    Effect.objects.create(name="too late")
    time.sleep(seconds)


@defer
def break_the_executor() -> None:
    """Damage the code that would record the failure, then fail."""
    endings.fail = None  # type: ignore[assignment]
    raise ValueError("not to be recorded")


@defer(retry=False)
def raise_unreadable() -> None:
    """Raise an error whose text cannot be stored as it is."""
    raise ValueError("NUL \x00, a lone surrogate \ud800")


@defer
def fan_out(children: int) -> None:
    """Enqueue some children."""
    for number in range(children):
        noop(number)


@defer(retry=RetryPolicy(initial_interval="1h"))
def always_fail_for_now() -> None:
    """Fail; the retry is an hour away."""
    raise ConnectionError("not now")


@defer(atomic=True, max_duration="1s", retry=False)
def commit_with_hook(kind: str) -> None:
    """Leave an effect, and a hook that fails, hangs or enqueues once it is committed."""
    Effect.objects.create(name="committed", detail=kind)

    def hook() -> None:
        if kind == "fails":
            raise ValueError("after the commit")
        if kind == "hangs":
            time.sleep(60)
        noop.using(label="from the hook")()

    transaction.on_commit(hook)


@defer(retry=False)
def terminate_a_forked_process() -> int | None:
    """Fork a process by multiprocessing and end it with SIGTERM; return its exit code."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join(5)
    exit_code = child.exitcode
    child.kill()
    return exit_code


@defer(retry=False)
def read_then_write(name: str) -> None:
    """Count up, reading before writing in one transaction."""
    with transaction.atomic():
        effect = Effect.objects.select_for_update().get(name=name)
        time.sleep(0.002)
        Effect.objects.filter(pk=effect.pk).update(detail=str(int(effect.detail) + 1))


@defer
def backend_id() -> int:
    """Return the id of PostgreSQL's process behind this worker's connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


# -- functions that are aborted ----------------------------------------------------------------


@defer(retry=SOON)
def sleep_for_long() -> None:
    """Sleep; clean up when interrupted."""
    try:
        time.sleep(60)
    finally:
        Effect.objects.create(name="cleaned up")


@defer(retry=SOON)
async def sleep_for_long_async() -> None:
    """Sleep in an event loop; clean up when interrupted."""
    try:
        await asyncio.sleep(60)
    finally:
        await Effect.objects.acreate(name="cleaned up")


@defer(retry=SOON, atomic=True)
def sleep_atomically() -> None:
    """Write, then sleep in one transaction."""
    Effect.objects.create(name="cleaned up")
    time.sleep(60)


@defer(retry=SOON)
def swallow_abort(seconds: float) -> None:
    """Go on whatever is raised."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(seconds)
        except BaseException:  # noqa: BLE001
            pass


@defer(retry=SOON)
def return_when_aborted() -> str:
    """Return when told to end."""
    try:
        time.sleep(60)
    except RunAborted:
        pass
    return "as if nothing were wrong"


@defer(retry=SOON)
def fail_when_aborted() -> None:
    """Raise another error when told to end."""
    try:
        time.sleep(60)
    except RunAborted:
        raise ConnectionError("another error") from None


# -- functions of a short interval, for the tests that name them in DEFER_TEST_EVERY -----------


def _is_named(name: str) -> Callable[[], bool]:
    return lambda: name in os.environ.get("DEFER_TEST_EVERY", "").split()


def _leave_slot(name: str) -> None:
    current = current_run()
    assert current is not None
    assert current.slot is not None
    Effect.objects.create(name=name, detail=current.slot.isoformat())


@defer.every("1s", catch_up="all", retry=False, enabled=_is_named("every_second"))
def every_second() -> None:
    """Leave one effect a slot."""
    _leave_slot("every_second")


@defer.every("1s", overlap="queue", retry=False, enabled=_is_named("slow_in_turn"))
def slow_in_turn() -> None:
    """Take longer than until the next slot, which waits."""
    _leave_slot("slow_in_turn")
    time.sleep(1.5)


@defer.every("3s", overlap="replace", retry=False, enabled=_is_named("slow_replaced"))
def slow_replaced() -> None:
    """Take longer than until the next slot, which ends this one."""
    _leave_slot("slow_replaced")
    time.sleep(10)


@defer(retry=SOON)
def leave_mark_early(name: str, seconds: float) -> None:
    """Write one row, and take a little time after it: who is killed then does it twice."""
    Effect.objects.create(name=name)
    time.sleep(seconds)


# -- functions that use up what the machine has ------------------------------------------------

_MEGABYTES: Final = 1_000_000


@defer
def leak_memory(most: int) -> None:
    """Take ever more memory: 5 MB every hundredth of a second, up to `most` MB."""
    leaked: list[bytes] = []
    while len(leaked) * 5 < most:
        leaked.append(b"x" * 5 * _MEGABYTES)  # written to, so that it is really taken
        time.sleep(0.01)
    raise MemoryError("nobody ended this process")


@defer
def hold_the_gil(seconds: float) -> float:
    """Compute in C, where no other thread and no signal handler gets a turn.

    Returns how long no other thread got one.
    """
    ticks, stop = [time.monotonic()], threading.Event()

    def tick() -> None:
        while not stop.wait(0.01):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    rounds, took = 1_000_000, 0.0
    while took < seconds:
        began = time.monotonic()
        sum(itertools.repeat(0, rounds))
        took = time.monotonic() - began
        rounds = int(rounds * max(1.1, min(20, 1.2 * seconds / took)))
    stop.set()
    thread.join()
    return max(later - earlier for earlier, later in itertools.pairwise(ticks))


@defer
def spin(seconds: float) -> int:
    """Compute in Python."""
    rounds, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        rounds += 1
    return rounds


def _limit_writes(connection: BaseDatabaseWrapper, **kwargs: object) -> None:
    """Let SQLite behave as on a small disk, and as a read-only one while a certain file exists."""
    if connection.vendor == "sqlite":
        raw: Any = connection.connection
        raw.execute(f"PRAGMA max_page_count = {os.environ['DEFER_TEST_PAGES']}")
        if _obey_switch not in connection.execute_wrappers:
            connection.execute_wrappers.append(_obey_switch)


def _obey_switch(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    is_on = Path(os.environ["DEFER_TEST_READ_ONLY"]).exists()
    context["connection"].connection.execute(f"PRAGMA query_only = {int(is_on)}")
    return execute(sql, params, many, context)


if "DEFER_TEST_PAGES" in os.environ:
    connection_created.connect(_limit_writes)


# -- functions that only one of two versions of the code has -------------------------------------


def _leave_run_id() -> None:
    current = current_run()
    assert current is not None
    Effect.objects.create(name=str(current.id))


if os.environ.get("DEFER_TEST_CODE") == "old":

    @defer
    def only_in_old_code() -> None:
        """Leave an effect called after the run."""
        _leave_run_id()


if os.environ.get("DEFER_TEST_CODE") == "new":

    @defer
    def only_in_new_code() -> None:
        """Leave an effect called after the run."""
        _leave_run_id()


# -- functions that fork --------------------------------------------------------------------------


def _fork_within(in_child: Callable[[], object]) -> int:
    """Fork; the child does that, and this process waits for its end. Returns the process."""
    child = os.fork()
    if not child:
        in_child()
    else:
        os.waitpid(child, 0)
    return os.getpid()


@defer(retry=False)
def fork_and_raise() -> int:
    """Return in the worker; raise in a child that nobody expects."""
    return _fork_within(lambda: int("not a number"))


@defer(retry=False)
def fork_and_exit() -> int:
    """Return in the worker; raise SystemExit in a child, as programs do at their end."""
    return _fork_within(sys.exit)


@defer(retry=False)
def fork_and_linger(seconds: float) -> int:
    """Return at once in the worker, and later in a child that nobody waits for."""
    if not os.fork():
        time.sleep(seconds)
    return os.getpid()


@defer(retry=False)
async def fork_and_return_async() -> int:
    """Return twice from an event loop."""
    return _fork_within(lambda: None)


@defer(retry=False, atomic=True)
def fork_in_commit_hook() -> int:
    """Return twice from what is called after the commit."""
    Effect.objects.create(name="forked")
    transaction.on_commit(lambda: _fork_within(lambda: None) and None)
    return os.getpid()


# -- functions that say something -----------------------------------------------------------------

talk_log = logging.getLogger("testapp.talk")
talk_log.setLevel(logging.INFO)
aloof_log = logging.getLogger("testapp.aloof")  # passes nothing on
aloof_log.setLevel(logging.INFO)
aloof_log.propagate = False


def _wait_for_file(path: str) -> None:
    while path and not Path(path).exists():
        time.sleep(0.01)


@defer(retry=False)
def talk(
    text: str = "hello", lines: int = 1, until_file: str = "", progress: int = 0, last: str = ""
) -> None:
    """Log, print and show progress; return when there is such a file, with last words."""
    for n in range(lines):
        talk_log.info("%s %s", text, n + 1)
    print(f"printed {text}")
    if progress and (run := current_run()):
        run.progress(progress, 300, text)
    _wait_for_file(until_file)
    if last:
        talk_log.info(last)


@defer(retry=False)
def talk_in_steps(directory: str, steps: int, lines: int = 1) -> str:
    """Log and show progress in steps; each begins when there is a file of its number."""
    run = current_run()
    assert run is not None
    for step in range(1, steps + 1):
        _wait_for_file(f"{directory}/{step}")
        for n in range(lines):
            talk_log.info("step %s, line %s", step, n + 1)
        run.progress(step, steps, f"at step {step}")
    _wait_for_file(f"{directory}/end")
    return "all steps"


@defer(retry=False, atomic=True, max_duration="20s")
def talk_atomically(text: str, until_file: str = "") -> None:
    """Write a row, and say so, in a transaction that stays open until there is such a file."""
    Effect.objects.create(name=text)
    talk_log.info("%s written", text)
    if run := current_run():
        run.progress(1, 2, text)
    _wait_for_file(until_file)
    talk_log.info("%s committing", text)


@defer(retry=False)
def talk_from_threads(text: str) -> None:
    """Log in a thread that carries the context, and in one that does not."""
    context = contextvars.copy_context()
    say = functools.partial(talk_log.info, "%s in context", text)
    for target in (lambda: context.run(say), lambda: talk_log.info("%s outside", text)):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()


@defer(retry=False)
async def talk_async(text: str) -> None:
    """Log in a coroutine, in a task and in a thread."""
    talk_log.info("%s in a coroutine", text)
    await asyncio.gather(_talk_in_task(text))
    await asyncio.to_thread(talk_log.info, "%s in a thread", text)


async def _talk_in_task(text: str) -> None:
    talk_log.info("%s in a task", text)


@defer(retry=False)
def talk_in_child(text: str) -> None:
    """Log here, in a forked child and here again."""
    talk_log.info("%s before", text)
    if not (child := os.fork()):
        talk_log.info("%s in a child", text)
        os._exit(0)
    os.waitpid(child, 0)
    talk_log.info("%s after", text)


@defer(retry=RetryPolicy(max_attempts=2, initial_interval="50ms", randomization_factor=0))
def talk_and_fail_once(text: str) -> None:
    """Log a traceback and fail at the first attempt."""
    run = current_run()
    assert run is not None
    talk_log.info("%s at attempt %s", text, run.attempt)
    if run.attempt == 1:
        try:
            raise ValueError(text)
        except ValueError:
            talk_log.exception("it went wrong")
            raise


@defer(retry=False, sensitive=("token",))
def talk_of_secret(token: str) -> None:
    """Log, print and show a sensitive argument."""
    talk_log.info("the token is %s", token)
    print(f"it is {token}")
    if run := current_run():
        run.progress(1, None, f"with {token}")


@defer(retry=False)
def talk_badly() -> None:
    """Log what no database takes and what is too long, where nobody looks, and what is not kept."""
    talk_log.info("nul \x00 and surrogate \udcff")
    talk_log.info("x" * 15_000 + "the end")
    aloof_log.info("from one that passes nothing on")
    talk_log.debug("too low")
    logging.getLogger("django_defer.shop").warning("our own")


@defer(retry=False)
def track_items(count: int, until_file: str = "") -> None:
    """Show how many items are done."""
    run = current_run()
    assert run is not None
    for _ in run.track(range(count), message="counting"):
        pass
    _wait_for_file(until_file)


@defer(retry=False, max_duration="2m")
def flood(lines: int, until_file: str = "") -> float:
    """Log as fast as it goes; return how many seconds it took."""
    began = time.monotonic()
    for n in range(lines):
        talk_log.info("line %s", n + 1)
    took = time.monotonic() - began
    _wait_for_file(until_file)
    return took


@defer(
    retry=RetryPolicy(max_attempts=2, initial_interval="50ms", randomization_factor=0),
    sensitive="pin",  # a name that Sentry itself does not take for a secret's
)
def fail_with_secret(name: str, pin: str) -> None:
    """Fail twice, with a secret in many places."""
    header = f"Bearer {pin}"
    logging.getLogger("shop").warning("calling as %s", header)
    _call_with(header, name)


def _call_with(header: str, name: str) -> None:
    reversed_header = header[::-1]
    raise ConnectionError(f"{name} refused {header}, {len(reversed_header)} characters")


@defer(retry=False)
def fail_after_reporting() -> None:
    """Tell Sentry of an error, and let it go on."""
    import sentry_sdk

    sentry_sdk.set_tag("shop", "17")
    try:
        raise LookupError("reported by hand")
    except LookupError as error:
        sentry_sdk.capture_exception(error)
        raise


@defer
def say_hello_to_sentry() -> None:
    """Send a message of its own."""
    import sentry_sdk

    sentry_sdk.capture_message("hello")


# Names of the functions below that fail, and those that die; see the test of pings and check-ins.
_TROUBLE: Final = "DEFER_TEST_TROUBLE"


def _have_trouble() -> None:
    current = current_run()
    assert current is not None
    Effect.objects.create(name=current.function, detail=str(current.attempt))
    trouble = os.environ.get(_TROUBLE, "")
    if trouble == "die" or (trouble == "die once" and current.attempt == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if trouble == "fail" or (trouble == "fail once" and current.attempt == 1):
        raise ConnectionError("trouble")
    if trouble == "cancel":
        raise Cancel("nothing to do")


@defer.cron(
    "0 8 * * MON",
    timezone="Europe/Vienna",
    max_duration="10m",
    enabled=False,  # its tests make the runs
    retry=RetryPolicy(max_attempts=2, initial_interval="50ms", randomization_factor=0),
    ping_url=os.environ.get("DEFER_TEST_PING_URL"),
)
def watched() -> None:
    """Be watched from outside."""
    _have_trouble()
