"""Every example of the page on alerts runs, and its tables are those of the code."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.template.loader import get_template
from django.test import RequestFactory, override_settings
from django.utils.module_loading import import_string

from django_defer.alerts import http
from django_defer.alerts.events import DEFAULT, Event
from django_defer.alerts.routes import CHANNELS, RATE, Route, read_route, routes
from django_defer.alerts.webhook import WebhookChannel, payload
from django_defer.checks.alerts import check_alerts
from django_defer.models.alerts import MessageKind
from django_defer.registry import registry
from tests.alert_messages import new_example, new_message
from tests.listeners import http_listener
from tests.scratch import define, own_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "alerts.md").read_text()
BLOCKS = [
    (language, textwrap.dedent(text))
    for _, language, text in re.findall(r"^( *)```(\w+)\n(.*?)^ *```$", PAGE, re.M | re.S)
]
PYTHON = [text for language, text in BLOCKS if language == "python"]
ENTRIES = [text for text in PYTHON if text.startswith("{")]
SETTINGS = [text for text in PYTHON if "DEFER = {" in text]
FUNCTIONS = [text for text in PYTHON if text.startswith("@defer")]
(RECEIVER,) = [text for text in PYTHON if "def receive(" in text]
(OWN_CHANNEL,) = [text for text in PYTHON if "class SyslogChannel" in text]
(SECRET_COMMAND,) = re.findall(r"^\$ (python -c .+)$", PAGE, re.M)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T0/B0/x")
    monkeypatch.setenv("SLACK_BILLING_URL", "https://hooks.slack.com/services/T0/B0/y")
    monkeypatch.setenv("ALERTS_SECRET", new_secret())
    with own_registry():
        yield


def new_secret() -> str:
    """Return what the page's command prints."""
    words = SECRET_COMMAND.partition("'")[2].removesuffix("'")
    command = [sys.executable, "-c", words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def executed(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {"os": os, "__name__": "shop.alerts"}
    exec(compile(source, "docs/how-to/alerts.md", "exec"), names)
    return names


def settings_of(source: str) -> dict[str, Any]:
    found: dict[str, Any] = executed(source)["DEFER"]
    return found


def table(first: str, number: int = 0) -> list[list[str]]:
    """Return the cells of the nth table whose head begins with this word."""
    found = re.findall(rf"^\| {first} \|.*\n\|[- |]+\|\n((?:\|.*\n)+)", PAGE, re.M)
    return [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in found[number].split("\n")
        if row
    ]


def test_each_example_is_of_a_kind_that_is_run_here() -> None:
    kinds = [*ENTRIES, *SETTINGS, *FUNCTIONS, RECEIVER, OWN_CHANNEL]
    assert sorted(kinds) == sorted(PYTHON)
    assert [len(each) for each in (ENTRIES, SETTINGS, FUNCTIONS)] == [4, 2, 2]


@pytest.mark.parametrize("source", SETTINGS)
def test_the_settings_can_be_used_as_they_are(source: str) -> None:
    with override_settings(DEFER=settings_of(source)):
        assert check_alerts() == []
        assert len(routes()) == len(settings_of(source)["ALERTS"])


@pytest.mark.parametrize("source", ENTRIES)
def test_the_entries_can_be_used_as_they_are(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("shop.alerts")
    vars(module).update(executed(OWN_CHANNEL))
    monkeypatch.setitem(sys.modules, "shop", type(sys)("shop"))
    monkeypatch.setitem(sys.modules, "shop.alerts", module)
    read_route(eval(source, {"os": os})).open()


def test_the_functions_name_channels_that_are_there() -> None:
    for source in FUNCTIONS:
        define(source)
    assert {"shop.send_report", "shop.weekly_reports", "shop.charge"} <= {f.key for f in registry}
    with override_settings(DEFER=settings_of(SETTINGS[1])):
        assert check_alerts() == []
        billing = next(route for route in routes() if route.name == "slack-billing")
    charge = registry.find("shop.charge")
    assert charge is not None
    assert billing.wants(Event.RUN_FAILED, "shop.charge", charge.options.alert)


def test_the_json_of_the_page_is_what_is_sent() -> None:
    (shown,) = [text for language, text in BLOCKS if language == "json"]
    assert json.loads(shown) == payload(new_message(examples=(new_example(),)))
    for kind in MessageKind:
        assert f"`alert.{kind.value}`" in PAGE


def test_the_receiver_takes_what_is_sent_and_nothing_else() -> None:
    receive = executed(RECEIVER)["receive"]
    with http_listener() as listener:
        WebhookChannel("webhook", listener.url(), os.environ["ALERTS_SECRET"]).send(new_message())
    (request,) = listener.requests
    forged = request.body.replace(b"5000", b"5001")
    for body, status in ((request.body, 200), (forged, 401)):
        made = RequestFactory().generic(
            "POST", "/", body, "application/json", headers=request.headers
        )
        assert receive(made).status_code == status


def test_the_channel_of_ones_own_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    names = executed(OWN_CHANNEL)
    said: list[str] = []
    monkeypatch.setattr(names["syslog"], "syslog", lambda priority, text: said.append(text))
    assert names["SyslogChannel"]("syslog").send(new_message(url="")) == "logged"
    assert said == ["shop.send_report failed 5,000 times "]
    with pytest.raises(ValueError, match='"facility" is'):
        names["SyslogChannel"]("syslog", facility="NOWHERE")


def test_all_events_are_on_the_page_with_what_is_told_by_default() -> None:
    shown = {row[0].strip("`"): row[2] for row in table("event")}
    assert shown == {str(each): "yes" if each in DEFAULT else "no" for each in Event}


def test_the_keys_of_an_entry_are_on_the_page() -> None:
    rows = {row[0].strip("`"): row[1] for row in table("key")}
    fields = set(Route.__dataclass_fields__) - {"path", "options"}
    assert set(rows) == {"channel", *fields}
    assert rows["rate"] == f"`{RATE}`"
    for channel in CHANNELS:
        assert f'`"{channel}"`' in PAGE


@pytest.mark.parametrize(("number", "channel"), [(1, "email"), (2, "webhook"), (3, "apprise")])
def test_the_options_of_each_channel_are_on_the_page(number: int, channel: str) -> None:
    taken = inspect.signature(import_string(CHANNELS[channel])).parameters
    rows = {row[0].strip("`"): row[1] for row in table("key", number)}
    assert list(rows) == list(taken)[1:]
    for name, default in rows.items():
        value = taken[name].default
        if value is inspect.Parameter.empty:
            assert default == ""
        elif value is not None:
            assert default.strip("`") == (json.dumps(value) if value == "" else str(value))


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    assert f"first {http.MOST_TOLD} characters of the answer" in PAGE
    assert http.SECONDS == 5
    assert "silence for five seconds" in PAGE
    assert "408, 409, 425, 429" in PAGE
    assert sorted(http.TEMPORARY) == [408, 409, 425, 429]
    for template in ("alert.txt", "alert.html"):
        assert f"`django_defer/{template}`" in PAGE
        assert get_template(f"django_defer/{template}")
