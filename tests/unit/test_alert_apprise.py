"""apprise: any address that it knows, and its words where it fails, without the address."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import pytest

from django_defer.alerts import apprise as module
from django_defer.alerts.apprise import AppriseChannel
from django_defer.alerts.messages import TryLater
from django_defer.models.alerts import MessageKind
from tests.alert_messages import NASTY, new_message
from tests.listeners import HttpListener, Reply, free_port, http_listener

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def listener() -> Iterator[HttpListener]:
    with http_listener() as found:
        yield found


def address(listener: HttpListener) -> str:
    return f"json://ann:opensesame@127.0.0.1:{listener.port}/sesametoken"


def test_a_message_arrives_as_title_and_text(listener: HttpListener) -> None:
    assert AppriseChannel("apprise", url=address(listener)).send(new_message()) == "sent"
    (request,) = listener.requests
    body = request.json
    assert body["title"] == "shop.send_report failed 5,000 times"
    assert body["message"].startswith("All attempts are used up.\n\nFor: user 42\n")
    assert "https://shop.example.com/admin/alert/7/" in body["message"]
    assert body["type"] == "failure"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"kind": MessageKind.REMINDER}, "failure"),
        ({"kind": MessageKind.RECOVERED}, "success"),
        ({"kind": MessageKind.TEST}, "info"),
        ({"event": "slot_missed"}, "warning"),
    ],
)
def test_the_type_says_how_bad_it_is(
    listener: HttpListener, values: dict[str, Any], kind: str
) -> None:
    AppriseChannel("apprise", url=address(listener)).send(new_message(**values))
    assert listener.requests[0].json["type"] == kind


def test_several_addresses_all_get_it(listener: HttpListener) -> None:
    channel = AppriseChannel("apprise", urls=[address(listener), f"{address(listener)}2"])
    assert channel.send(new_message()) == "sent to 2 addresses"
    assert len(listener.requests) == 2


def test_what_functions_say_stays_text(listener: HttpListener) -> None:
    AppriseChannel("apprise", url=address(listener)).send(new_message(title=NASTY, text=NASTY))
    body = listener.requests[0].json
    assert "\n" not in body["title"]
    assert "<script>" in body["message"]


@pytest.mark.parametrize("status", [404, 429, 500])
def test_what_fails_is_tried_later_with_what_apprise_says(
    listener: HttpListener, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    listener.replies = [Reply(status, "opensesame sesametoken")]
    with pytest.raises(
        TryLater, match=rf"Failed to send JSON POST notification: .*error={status}"
    ) as caught:
        AppriseChannel("apprise", url=address(listener)).send(new_message())
    assert "sesame" not in repr(caught.value)
    assert "sesame" not in caplog.text


def test_a_server_that_is_gone_is_tried_later(caplog: pytest.LogCaptureFixture) -> None:
    url = f"json://ann:opensesame@127.0.0.1:{free_port()}/sesametoken"
    with pytest.raises(TryLater, match="Connection error") as caught:
        AppriseChannel("apprise", url=url).send(new_message())
    assert "sesame" not in repr(caught.value)
    assert "127.0.0.1" not in str(caught.value)


def test_no_redirect_is_followed(listener: HttpListener) -> None:
    with http_listener() as other:
        listener.replies = [Reply(307, "", {"Location": other.url("/elsewhere")})]
        with pytest.raises(TryLater):
            AppriseChannel("apprise", url=address(listener)).send(new_message())
        assert other.requests == []


def test_a_server_that_hangs_is_left_in_time(
    listener: HttpListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST", 0.5)
    listener.replies = [Reply(hang=True)]
    started = time.monotonic()
    with pytest.raises(TryLater, match="no answer within"):
        AppriseChannel("apprise", url=f"{address(listener)}?rto=2").send(new_message())
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, '"url" is empty'),
        ({"url": ""}, '"url" is empty'),
        ({"urls": []}, '"urls" is empty'),
        ({"urls": ["json://127.0.0.1", None]}, '"urls" is empty'),
        ({"urls": "json://opensesame"}, '"urls" is no list'),
        ({"url": 5}, "no text"),
        ({"url": "json://opensesame", "urls": ["json://opensesame"]}, "both there"),
        ({"url": "opensesame"}, "address 1 means nothing to apprise"),
        ({"urls": ["json://127.0.0.1", "nothing://opensesame"]}, "address 2 means nothing"),
    ],
    ids=str,
)
def test_an_address_that_apprise_does_not_know_is_refused_without_being_quoted(
    options: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ValueError, match=says) as caught:
        AppriseChannel("apprise", **options)
    assert "sesame" not in str(caught.value)
    assert "sesame" not in caplog.text
