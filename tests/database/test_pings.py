"""The dead man's switch: what is written with a run, and what is asked of the address."""

from __future__ import annotations

import socket
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from django_defer import attempts, defer, endings
from django_defer.alerts import ping_requests
from django_defer.alerts.pings import is_ping_due, send_due_pings
from django_defer.attempt_facts import Failure, Success
from django_defer.clock import database_now
from django_defer.models import Ping, PingKind, Run
from django_defer.registry import registry
from django_defer.signals import emit
from django_defer.states import Outcome, Reason, State
from django_defer.transitions import discard
from tests.receivers import listening
from tests.runs import DATABASE, DATABASES, captured, new_run, start, statements
from tests.scratch import own_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.receivers import Received

pytestmark = pytest.mark.django_db(databases=DATABASES)

OOPS = Failure(outcome=Outcome.FAILED, error_class="ValueError", error_message="no such user")
SECOND = timedelta(seconds=1)


def nightly() -> None:
    """Be watched."""


def weekly() -> None:
    """Be watched too."""


def plain() -> None:
    """Be watched by nobody."""


@pytest.fixture
def switch() -> Iterator[Received]:
    """A switch, and two functions that ping it."""
    with listening() as received, own_registry():
        watch(received.url)
        yield received


def watch(url: str) -> None:
    defer.every("1h", name="shop.nightly", ping_url=f"{url}/abc")(nightly)
    defer.cron("@weekly", name="shop.weekly", ping_url=f"{url}/def/?create=1")(weekly)
    defer.every("1h", name="shop.plain")(plain)


def running(function: str = "shop.nightly", **columns: Any) -> Any:
    return start(new_run(function, state=State.CLAIMED, **columns))


def written() -> list[tuple[str, str]]:
    return list(Ping.objects.using(DATABASE).values_list("function", "kind"))


def ping(function: str = "shop.nightly", kind: str = "", number: int = 1, **columns: Any) -> Ping:
    made = Ping(function=function, kind=kind, run_id=UUID(int=number), **columns)
    made.save(using=DATABASE)
    return made


def send(after: timedelta = SECOND) -> int:
    return send_due_pings(DATABASE, database_now(DATABASE) + after, 30)


def rid(number: int) -> str:
    return f"rid={UUID(int=number)}"


# -- written ---------------------------------------------------------------------------------------


def test_the_first_start_is_pinged_and_no_later_one(switch: Received) -> None:
    run = new_run("shop.nightly")
    for attempt in (1, 2):
        emit("run.started", run_id=run.pk, function="shop.nightly", attempt=attempt)
    assert written() == [("shop.nightly", PingKind.START)]


def test_a_success_is_pinged(switch: Received) -> None:
    assert attempts.succeed(DATABASE, Success(running(), "1", 0.0))
    assert written() == [("shop.nightly", PingKind.SUCCESS)]


def test_a_failure_is_pinged_once_it_is_for_good(switch: Received) -> None:
    endings.fail(DATABASE, running(), OOPS, timedelta(0))
    assert written() == []
    endings.fail(DATABASE, running(), OOPS, None)
    assert written() == [("shop.nightly", PingKind.FAIL)]


def test_a_loss_is_pinged_once_it_is_for_good(switch: Received) -> None:
    lost = Failure(outcome=Outcome.LOST, error_message="killed")
    endings.lose(DATABASE, new_run("shop.nightly", state=State.RUNNING), lost)
    assert written() == []
    endings.lose(DATABASE, new_run("shop.nightly", state=State.RUNNING, losses=2), lost)
    assert written() == [("shop.nightly", PingKind.FAIL)]


def test_a_function_that_cancels_its_run_is_alive(switch: Received) -> None:
    endings.cancel_running(DATABASE, running(), "nothing to do")
    assert written() == [("shop.nightly", PingKind.SUCCESS)]


def test_what_never_began_is_silent(switch: Received) -> None:
    new_run("shop.nightly")
    discard(DATABASE, Run.objects.using(DATABASE).all(), Reason.EXPIRED)
    assert written() == []


def test_a_function_without_an_address_costs_nothing(switch: Received) -> None:
    started = running("shop.plain")
    with captured() as queries:
        emit("run.started", run_id=started.claim.run_id, function="shop.plain", attempt=1)
    assert statements(queries) == []
    with captured() as queries:
        assert attempts.succeed(DATABASE, Success(started, "1", 0.0))
    assert len(statements(queries)) <= 1  # on PostgreSQL it passes by the cursor that captures
    assert written() == []


def test_without_addresses_nobody_asks_whether_a_ping_is_due() -> None:
    now = database_now(DATABASE)
    with own_registry(), captured() as queries:
        assert not is_ping_due(DATABASE, now)
    assert statements(queries) == []


def test_a_start_that_cannot_be_written_is_logged_and_harms_nothing(
    switch: Received, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started = running()
    monkeypatch.setattr(Ping._meta, "db_table", "gone")
    emit("run.started", run_id=started.claim.run_id, function="shop.nightly", attempt=1)
    monkeypatch.undo()
    assert "ping.not_written shop.nightly" in caplog.text
    assert Run.objects.using(DATABASE).get(pk=started.claim.run_id).state == State.RUNNING


# -- sent ------------------------------------------------------------------------------------------


def test_the_address_says_what_happened_and_to_which_run(switch: Received) -> None:
    ping(kind="start", number=1)
    ping(kind="", number=1)
    ping("shop.weekly", "fail", number=2)
    assert is_ping_due(DATABASE, database_now(DATABASE) + SECOND)
    assert send() == 3
    assert [path for path in switch.paths if "abc" in path] == [
        f"/abc/start?{rid(1)}",
        f"/abc?{rid(1)}",
    ]
    assert f"/def/fail?create=1&{rid(2)}" in switch.paths
    assert {method for method, _ in switch.requests} == {"GET"}
    assert written() == []
    assert not is_ping_due(DATABASE, database_now(DATABASE) + SECOND)


def test_one_that_fails_is_sent_again_and_the_later_ones_wait_for_it(switch: Received) -> None:
    switch.status = 503
    ping(kind="start")
    ping(kind="")
    assert send() == 0
    assert len(switch.paths) == 1
    assert not is_ping_due(DATABASE, database_now(DATABASE) + 2 * SECOND)  # neither of the two
    switch.status = 200
    assert send(10 * SECOND) == 2
    assert switch.paths[1:] == [f"/abc/start?{rid(1)}", f"/abc?{rid(1)}"]


def test_one_function_does_not_wait_for_another(switch: Received) -> None:
    with own_registry():
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        defer.every("1h", name="shop.nightly", ping_url=f"http://127.0.0.1:{port}/x")(nightly)
        defer.every("1h", name="shop.weekly", ping_url=f"{switch.url}/def")(weekly)
        ping("shop.nightly")
        ping("shop.weekly")
        assert send() == 1
    assert written() == [("shop.nightly", "")]


def test_an_answer_may_say_when_to_come_again(switch: Received) -> None:
    switch.status, switch.headers = 429, {"Retry-After": "120"}
    ping()
    assert send() == 0
    due = Ping.objects.using(DATABASE).get().due_at
    assert due > database_now(DATABASE) + 100 * SECOND


def test_what_is_refused_is_given_up_and_said_without_the_address(
    switch: Received, caplog: pytest.LogCaptureFixture
) -> None:
    switch.status = 404
    ping()
    assert send() == 0
    assert written() == []
    assert "ping.refused shop.nightly kind=success" in caplog.text
    assert "abc" not in caplog.text


def test_what_is_an_hour_late_is_dropped(
    switch: Received, caplog: pytest.LogCaptureFixture
) -> None:
    ping(at=database_now(DATABASE) - timedelta(minutes=61))
    assert send() == 0
    assert written() == []
    assert switch.paths == []
    assert "ping.dropped too late: 1" in caplog.text


def test_a_redirect_is_followed_on_the_same_host_only(switch: Received) -> None:
    with listening() as other:
        switch.status = 302
        switch.headers = {"Location": f"http://localhost:{other.port}/elsewhere"}
        ping()
        assert send() == 0
        assert written() == []
        assert other.paths == []
        switch.headers = {"Location": f"{other.url}/here"}  # the same host, another port
        ping()
        assert send() == 1
        assert other.paths == ["/here"]


def test_what_another_sender_has_taken_is_left_to_it(
    switch: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    ping()
    asked: list[str] = []

    def meanwhile(address: str) -> None:
        asked.append(address)
        assert send() == 0

    monkeypatch.setattr(ping_requests, "request", meanwhile)
    assert send() == 1
    assert len(asked) == 1


def test_the_address_comes_from_the_code_of_now(switch: Received) -> None:
    ping("shop.gone")  # perhaps another host's code knows it
    registry.remove("shop.nightly")
    ping("shop.nightly")
    assert send() == 0
    assert switch.paths == []
    assert len(written()) == 2


def test_a_listener_that_never_answers_takes_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ping_requests, "LONGEST", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent, own_registry():
        watch(f"http://127.0.0.1:{silent.getsockname()[1]}")
        ping()
        began = time.monotonic()
        assert send() == 0
        assert time.monotonic() - began < 3
    assert written() == [("shop.nightly", "")]


def test_it_stops_when_its_time_is_up(switch: Received) -> None:
    ping()
    assert send_due_pings(DATABASE, database_now(DATABASE) + SECOND, 0) == 0
    assert written() == [("shop.nightly", "")]
