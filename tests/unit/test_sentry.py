"""Without Sentry nothing of it is imported; with it, each process and each run is kept apart."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import sentry_sdk
from sentry_sdk.transport import Transport

import django_defer
from django_defer import defer, sentry, surroundings
from django_defer.attempt_facts import Started
from django_defer.claims import Claim
from django_defer.event_masking import Masker
from django_defer.metadata import Pairs
from django_defer.surroundings import process_begins, process_ends, surrounded
from tests.runs import defer_settings
from tests.scratch import Project, own_registry, write_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentry_sdk.envelope import Envelope

SECRET = "hunter2-and-more"
ROOT = Path(django_defer.__file__).parents[1]

SHOP = """
    from django_defer import defer

    @defer(retry=False)
    def fail():
        raise ValueError
"""
WITHOUT = """
    import sys

    class Blocked:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "sentry_sdk":
                raise RuntimeError("somebody asked for Sentry")

    sys.meta_path.insert(0, Blocked())
    sys.path.insert(0, sys.argv[1])

    import django

    django.setup()

    from django.core.management import call_command
    from django_defer.surroundings import process_begins, process_ends
    from django_defer.testing import drain
    from shop.defer import fail

    call_command("migrate", verbosity=0)
    process_begins(forked=True)
    fail()
    assert drain().failed == 1
    process_ends()
    assert not [name for name in sys.modules if name.startswith("sentry_sdk")]
    print("fine")
"""


class Kept(Transport):
    """Keeps what would be sent; options hold the class, so that each client has one of its own."""

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.events.append(envelope.get_event())


def kept() -> list[Any]:
    transport = sentry_sdk.get_client().transport
    assert isinstance(transport, Kept)
    return transport.events


@pytest.fixture
def _initialised() -> Iterator[None]:
    """Initialise the SDK, and leave it inactive again."""
    former = sentry_sdk.get_global_scope().client
    client = sentry_sdk.Client(
        dsn="http://key@127.0.0.1:9/1",
        transport=Kept,
        default_integrations=False,
        auto_enabling_integrations=False,
    )
    sentry_sdk.get_global_scope().set_client(client)
    try:
        yield
    finally:
        sentry_sdk.get_global_scope().set_client(former)


def started(function: str = "shop.pay", *args: object) -> Started:
    return Started(
        claim=Claim(uuid4(), uuid4(), 1),
        function=function,
        args={"args": list(args), "kwargs": {}},
        started_at=datetime.now(UTC),
        slot=None,
        missed_slots=0,
        root_id=uuid4(),
        failures=0,
        max_attempts=3,
    )


def pay(card: str, note: str = "") -> None:
    """Be a function with a secret."""


def pin_named_type(type: str) -> None:  # noqa: A002
    """Be a function whose secret has a name that events use too."""


@contextmanager
def registered() -> Iterator[None]:
    with own_registry():
        defer(pay, name="shop.pay", sensitive="card")
        yield


def test_where_the_sdk_is_not_installed_nothing_breaks_and_nothing_asks_for_it(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path, "shop", DEFER={})
    write_files(tmp_path, {"shop/__init__.py": "", "shop/defer.py": SHOP, "without.py": WITHOUT})
    done = project.python("without.py", str(ROOT))
    assert done.stdout.endswith("fine\n"), done.stderr


@pytest.mark.usefixtures("_initialised")
def test_it_is_used_where_it_is_initialised_unless_the_setting_says_no() -> None:
    assert sentry.sdk() is sentry_sdk
    with defer_settings(SENTRY=False):
        assert sentry.sdk() is None


def test_a_client_that_was_never_initialised_is_left_alone() -> None:
    assert not sentry_sdk.get_client().is_active()
    assert sentry.sdk() is None
    before = sentry_sdk.get_global_scope().client
    process_begins(forked=True)
    with surrounded(started()):
        pass
    process_ends()
    assert sentry_sdk.get_global_scope().client is before


@pytest.mark.usefixtures("_initialised")
def test_a_forked_process_has_a_client_of_its_own_with_the_same_options() -> None:
    before = sentry_sdk.get_client()
    process_begins(forked=False)
    assert sentry_sdk.get_client() is before
    process_begins(forked=True)
    after = sentry_sdk.get_client()
    assert after is not before
    assert after.is_active()
    assert after.options["dsn"] == before.options["dsn"]
    assert after.transport is not before.transport


@pytest.mark.usefixtures("_initialised")
def test_what_is_set_in_one_run_is_not_there_in_the_next() -> None:
    with surrounded(started("shop.one")):
        sentry_sdk.set_tag("shop", "17")
        sentry_sdk.add_breadcrumb(message="said")
    with surrounded(started("shop.two")):
        sentry_sdk.capture_message("hello")
    (event,) = kept()
    assert event["transaction"] == "shop.two"
    assert event["tags"]["defer.function"] == "shop.two"
    assert "shop" not in event["tags"]
    assert "said" not in str(event)


@pytest.mark.usefixtures("_initialised")
def test_a_sensitive_argument_is_masked_in_all_that_a_run_sends() -> None:
    with registered(), surrounded(started("shop.pay", SECRET)):
        sentry_sdk.set_context("payment", {"of": [f"card {SECRET}", {"card": 12}, 1.5, None]})
        sentry_sdk.capture_message(f"paying with {SECRET}")
    (event,) = kept()
    assert event["message"] == "paying with ••••••"
    assert event["contexts"]["payment"]["of"][:2] == ["card ••••••", {"card": "••••••"}]
    assert SECRET not in str(event)


@pytest.mark.usefixtures("_initialised")
def test_metadata_that_is_called_like_a_sensitive_parameter_is_left_out() -> None:
    run = replace(started("shop.pay", SECRET), metadata=Pairs({"card": "4711", "order": "17"}))
    with registered(), surrounded(run):
        sentry_sdk.capture_message("hello")
    (event,) = kept()
    assert event["contexts"]["run"]["metadata"] == {"order": "17"}


@pytest.mark.usefixtures("_initialised")
def test_what_sentry_knows_an_event_by_is_left_as_it_is() -> None:
    with own_registry():
        defer(pin_named_type, name="shop.pin", sensitive="type")
        with surrounded(started("shop.pin", str(datetime.now(UTC).year))):
            try:
                raise ValueError("of this year")
            except ValueError as error:
                sentry_sdk.capture_exception(error)
    (event,) = kept()
    assert event["timestamp"].startswith(str(datetime.now(UTC).year))
    assert event["exception"]["values"][0]["type"] == "ValueError"
    assert event["contexts"]["trace"]["trace_id"].isalnum()


def test_what_cannot_be_masked_is_not_sent() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    with registered():
        masker = Masker(started("shop.pay", SECRET))
        assert masker({"extra": {"odd": Odd()}}, {}) is None
        assert masker({"extra": {"odd": 1}}, {}) == {"extra": {"odd": 1}}


def test_of_our_own_frames_no_variables_are_sent() -> None:
    frames = [
        {"module": "django_defer.executor", "function": "body", "vars": {"args": [1]}},
        {"module": "shop.defer", "function": "ship", "vars": {"order": "1"}},
    ]
    event = {"exception": {"values": [{"stacktrace": {"frames": frames}}]}}
    masked = Masker(started("shop.ship"))(event, {})
    shown = [each.get("vars") for each in masked["exception"]["values"][0]["stacktrace"]["frames"]]
    assert shown == [None, {"order": "1"}]


def test_what_fails_around_a_run_is_logged_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def broken(of: Started) -> Iterator[None]:
        raise ZeroDivisionError
        yield

    monkeypatch.setattr(surroundings, "hooks", lambda: [SimpleNamespace(around=broken)])
    done = []
    with caplog.at_level(logging.ERROR), surrounded(started()):
        done.append(1)
    assert done == [1]
    assert "surroundings.failed" in caplog.text
