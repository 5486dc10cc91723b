"""What `manage.py check` says of ALERTS; and what is imported, or missing, for a channel."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004
from django.test import override_settings

from django_defer.alerts.messages import Channel
from django_defer.alerts.routes import read_route, routes
from django_defer.checks.alerts import check_alerts
from django_defer.checks.settings import check_settings
from tests.scratch import Project, define, own_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SITE = "https://shop.example.com"
URL = "https://hooks.slack.com/services/T0SECRET0/B0SECRET0/xyzsecret"
SLACK = {"channel": "slack", "url": URL}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Pigeon(Channel):
    """A channel of a project's own."""

    def __init__(self, name: str, loft: str, speed: int = 5) -> None:
        super().__init__(name)
        if loft == "far":
            raise LookupError("no loft there")
        if not loft:
            raise ValueError('"loft" is empty: write where the pigeon lives')


class Anything(Channel):
    """A channel that takes any option."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name)


def not_a_class(name: str) -> None:
    """Return no channel."""


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    with own_registry():
        yield


def check(*entries: Any, **settings: Any) -> list[CheckMessage]:
    with override_settings(DEFER={"ALERTS": entries, "SITE_URL": SITE, **settings}):
        return check_alerts()


def only(id: str, *entries: Any, **settings: Any) -> CheckMessage:  # noqa: A002
    (message,) = check(*entries, **settings)
    assert message.id == id
    assert isinstance(message, Error if ".E" in id else Warning)
    assert message.hint
    assert message.obj
    for text in (message.msg, str(message.hint)):
        assert "SECRET" not in text
        assert "xyz" not in text
    return message


def test_nothing_is_said_of_entries_that_work() -> None:
    entries = (
        SLACK,
        {**SLACK, "name": "billing", "events": ["run_failed"], "functions": ["shop.*"], "rate": 5},
        {"channel": "email", "to": "ops@example.com"},
        {"channel": "webhook", "url": "https://example.com/", "secret": SECRET},
        {"channel": "apprise", "url": "json://127.0.0.1/"},
        {"channel": f"{__name__}.Pigeon", "name": "pigeon", "loft": "roof"},
        {"channel": f"{__name__}.Anything", "name": "anything", "goes": 1},
    )
    assert check(*entries) == []
    assert check(*list(entries)) == []


@pytest.mark.parametrize("defer", [{}, {"ALERTS": ()}, {"ALERTS": []}, {"ALERTS": "slack"}, None])
def test_nothing_is_said_where_nobody_is_to_be_told(defer: Any) -> None:
    with override_settings(DEFER=defer):
        assert check_alerts() == []


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (URL, "an entry is a dict such as"),
        ({"channel": URL}, '"channel" is an address: write "slack"'),
        ({"channel": "slak"}, '"channel" is \'slak\': write "slack"'),
        ({**SLACK, "events": ["failed"]}, "\"events\" has 'failed': there are run_failed"),
        ({**SLACK, "functions": None}, '"functions"'),
        ({"channel": "nowhere.Channel"}, "No module named 'nowhere'"),
        ({"channel": f"{__name__}.Owl"}, 'does not define a "Owl"'),
        ({"channel": f"{__name__}.not_a_class"}, "which is no class"),
        ({"channel": "slack"}, '"url" is missing'),
        ({"channel": "slack", "ulr": URL}, '"ulr" is no option of this channel: write "url"'),
        ({"channel": "slack", "url": "xyz"}, '"url" is no address'),
        ({"channel": "webhook", "url": "https://example.com/"}, '"secret" is missing'),
        ({"channel": "email"}, '"to" is missing'),
        ({"channel": "email", "to": ["ops"]}, "\"to\" has 'ops'"),
        ({"channel": "apprise"}, '"url" is empty'),
        ({"channel": "apprise", "url": "xyz"}, "address 1 means nothing to apprise"),
        ({"channel": f"{__name__}.Pigeon", "loft": ""}, '"loft" is empty: write where'),
        ({"channel": f"{__name__}.Pigeon"}, '"loft" is missing'),
        ({"channel": f"{__name__}.Pigeon", "loft": "far"}, "LookupError: no loft there"),
    ],
    ids=str,
)
def test_an_entry_that_tells_nobody_is_an_error(entry: Any, says: str) -> None:
    message = only("defer.E007", SLACK, entry if isinstance(entry, str) else {"name": "x", **entry})
    assert message.msg.startswith('settings.DEFER["ALERTS"][1]: ')
    assert says in message.msg


def test_two_entries_of_one_name_are_an_error() -> None:
    message = only("defer.E007", SLACK, SLACK)
    assert message.msg == (
        'settings.DEFER["ALERTS"][1]: "name" is \'slack\' as it is in an entry before.'
    )


@pytest.mark.parametrize(
    ("entry", "option"),
    [
        ({"channel": "slack", "url": None}, "url"),
        ({"channel": "slack", "url": ""}, "url"),
        ({"channel": "email", "to": None}, "to"),
        ({"channel": "email", "to": [""]}, "to"),
        ({"channel": "webhook", "url": "https://example.com/", "secret": None}, "secret"),
        ({"channel": "apprise", "urls": [None]}, "urls"),
    ],
    ids=str,
)
def test_what_an_environment_lacks_is_a_warning_so_that_the_site_starts(
    entry: dict[str, Any], option: str
) -> None:
    message = only("defer.W011", entry)
    assert f'"{option}" of the channel' in message.msg
    assert "the environment variable that it is in may be unset" in message.msg
    with pytest.raises(ValueError, match="may be unset"):
        read_route(entry).open()  # what the channel's state in the admin says


def test_messages_without_links_are_warned_about() -> None:
    assert "no SITE_URL" in only("defer.W010", SLACK, SITE_URL=None).msg


def test_a_functions_channel_has_to_be_there() -> None:
    define("@defer(alert='slack-biling')\ndef charge(): ...", module="shop.defer")
    entries = (SLACK, {**SLACK, "name": "slack-billing"})
    message = only("defer.E008", *entries)
    assert message.msg == "shop.charge: alert='slack-biling' is the name of no entry of ALERTS."
    assert message.hint == "Write 'slack-billing'."
    assert str(message.obj).startswith("shop/defer.py:")
    assert check() == []  # a site where nobody is told at all


def test_a_functions_channel_like_no_other_gets_all_of_them_listed() -> None:
    define("@defer(alert=['slack', 'phone'])\ndef charge(): ...")
    message = only("defer.E008", SLACK, {**SLACK, "name": "billing"})
    assert message.hint == "Write 'slack' or 'billing'."


def test_a_functions_channel_may_be_the_one_that_has_a_mistake() -> None:
    define("@defer(alert='billing')\ndef charge(): ...")
    only("defer.E007", {**SLACK, "name": "billing", "events": "run_failed"})


@pytest.mark.parametrize("alert", ["False", "None", "'slack'"])
def test_functions_that_name_what_is_there_are_fine(alert: str) -> None:
    define(f"@defer(alert={alert})\ndef charge(): ...")
    assert check(SLACK) == []


def test_alerts_that_are_no_list_are_an_error_that_quotes_no_address() -> None:
    with override_settings(DEFER={"ALERTS": SLACK}):
        (message,) = check_settings()
    assert message.id == "defer.E001"
    assert "xyzsecret" not in f"{message.msg} {message.hint}"


def test_no_address_is_in_what_is_shown_of_the_routes() -> None:
    with override_settings(DEFER={"ALERTS": [SLACK]}):
        assert "xyzsecret" not in repr(routes())


# -- the libraries ---------------------------------------------------------------------------------

LIBRARIES = ("slack_sdk", "standardwebhooks", "apprise")


@pytest.mark.parametrize(
    ("channel", "library", "options"),
    [
        ("slack", "slack_sdk", {"url": URL}),
        ("webhook", "standardwebhooks", {"url": "https://example.com/", "secret": SECRET}),
        ("apprise", "apprise", {"url": "json://127.0.0.1/"}),
    ],
)
def test_a_library_that_is_missing_is_named_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, channel: str, library: str, options: dict[str, str]
) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"django_defer.alerts.{channel}", raising=False)
    message = only("defer.E007", {"channel": channel, **options})
    assert f'the channel "{channel}" needs: pip install "django-defer[{channel}]"' in message.msg


def test_a_webhook_without_a_signature_needs_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "standardwebhooks", None)
    assert check({"channel": "webhook", "url": "https://example.com/", "secret": False}) == []


@pytest.mark.parametrize("alerts", [(), ({"channel": "email", "to": "ops@example.com"},)])
def test_no_library_is_imported_that_no_channel_needs(tmp_path: Path, alerts: Any) -> None:
    project = Project(tmp_path, DEFER={"ALERTS": alerts, "SITE_URL": SITE})
    done = project.python(
        "-c",
        f"import sys\n"
        f"for name in {LIBRARIES!r}: sys.modules[name] = None\n"
        f"import django\n"
        f"django.setup()\n"
        f"from django.core.management import call_command\n"
        f"call_command('check', fail_level='WARNING')\n"
        f"import django_defer.alerts.recording, django_defer.alerts.routes\n"
        f"print('fine')",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("fine\n")
