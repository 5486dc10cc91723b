"""The webhook: JSON of one shape, signed so that the Standard Webhooks' own library verifies it."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from django_defer.alerts import http
from django_defer.alerts.messages import Refused, TryLater
from django_defer.alerts.routes import read_route
from django_defer.alerts.webhook import WebhookChannel
from django_defer.models.alerts import MessageKind
from tests.alert_messages import NASTY, RUN, SITE, new_example, new_message
from tests.listeners import HttpListener, Reply, http_listener

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes ...").decode()


@pytest.fixture
def listener() -> Iterator[HttpListener]:
    with http_listener() as found:
        yield found


def channel(listener: HttpListener, secret: Any = SECRET) -> WebhookChannel:
    return WebhookChannel("webhook", listener.url("/hooks/sesame?key=opensesame"), secret)


def test_the_json_has_the_shape_that_is_documented(listener: HttpListener) -> None:
    message = new_message(examples=(new_example(), new_example(slot=None)))
    assert channel(listener).send(message) == "HTTP 200: ok"
    (request,) = listener.requests
    assert request.headers["content-type"] == "application/json"
    body = request.json
    second = body["data"]["examples"].pop()
    assert body == {
        "type": "alert.opened",
        "version": 1,
        "timestamp": "2026-11-23T08:05:00Z",
        "data": {
            "event": "run_failed",
            "subject": "shop.send_report",
            "title": "shop.send_report failed 5,000 times",
            "text": "All attempts are used up.",
            "count": 5000,
            "first_at": "2026-11-23T08:00:00Z",
            "last_at": "2026-11-23T08:05:00Z",
            "url": f"{SITE}/alert/7/",
            "examples": [
                {
                    "run_id": str(RUN),
                    "at": "2026-11-23T08:03:00Z",
                    "error": "ValueError: no such user",
                    "label": "user 42",
                    "metadata": {"plan": "pro", "country": "de"},
                    "attempts": "17 of 17",
                    "slot": "2026-11-23T08:00:00Z",
                    "fan_out": "3 of 300 of shop.weekly, 2026-11-23 08:00 UTC",
                    "url": f"{SITE}/run/{RUN}/?a=1&b=2",
                }
            ],
        },
    }
    assert second["slot"] is None


@pytest.mark.parametrize("kind", MessageKind)
def test_the_type_says_the_kind(listener: HttpListener, kind: MessageKind) -> None:
    channel(listener).send(new_message(kind=kind))
    assert listener.requests[0].json["type"] == f"alert.{kind.value}"


def test_the_standard_library_for_it_verifies_the_signature(listener: HttpListener) -> None:
    channel(listener).send(new_message(title=NASTY, text="ü – 🔴"))
    (request,) = listener.requests
    body = Webhook(SECRET).verify(request.body, request.headers)
    assert body["data"]["title"] == NASTY
    other = "whsec_" + base64.b64encode(bytes(32)).decode()
    for key, data in ((other, request.body), (SECRET, request.body.replace(b"5000", b"5001"))):
        with pytest.raises(WebhookVerificationError):
            Webhook(key).verify(data, request.headers)


def test_a_message_that_is_sent_again_has_the_same_id(listener: HttpListener) -> None:
    one = channel(listener)
    one.send(new_message())
    one.send(new_message())
    one.send(new_message(id="alert-7-2"))
    assert [request.headers["webhook-id"] for request in listener.requests] == [
        "alert-7-1",
        "alert-7-1",
        "alert-7-2",
    ]


def test_without_a_signature_there_is_still_an_id(listener: HttpListener) -> None:
    channel(listener, secret=False).send(new_message())
    (request,) = listener.requests
    assert request.headers["webhook-id"] == "alert-7-1"
    assert "webhook-signature" not in request.headers


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        (None, "is empty"),
        ("", "is empty"),
        (True, "is none: write"),
        ("opensesame", "is none: write"),
        (b"whsec_opensesame", "is none: write"),
        ("whsec_opensesame!", "is not in base64"),
        ("whsec_ü", "is not in base64"),
        ("whsec_" + base64.b64encode(b"opensesame").decode(), "has 10 bytes"),
        ("whsec_" + base64.b64encode(b"opensesame" * 7).decode(), "has 70 bytes"),
    ],
)
def test_a_secret_that_is_none_is_refused_without_being_quoted(secret: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        WebhookChannel("webhook", "https://example.com/", secret)
    assert "sesame" not in str(caught.value)


def test_only_a_network_of_ones_own_goes_without_encryption() -> None:
    url = "http://hooks.internal/"
    with pytest.raises(ValueError, match="begins with http://"):
        WebhookChannel("webhook", url, SECRET)
    WebhookChannel("webhook", url, SECRET, insecure=True)
    with pytest.raises(ValueError, match='"insecure" is neither'):
        WebhookChannel("webhook", url, SECRET, insecure="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reply", "error", "after"),
    [
        (Reply(410, "gone"), Refused, None),
        (Reply(401, "who?"), Refused, None),
        (Reply(408), TryLater, None),
        (Reply(429, "", {"Retry-After": "7"}), TryLater, timedelta(seconds=7)),
        (Reply(503, "", {"Retry-After": "7"}), TryLater, timedelta(seconds=7)),
        (Reply(500), TryLater, None),
        (Reply(307, "", {"Location": "/"}), TryLater, None),
        (Reply(drop=True), TryLater, None),
        (Reply(hang=True), TryLater, None),
    ],
    ids=str,
)
def test_each_answer_has_its_meaning_and_tells_no_secret(
    listener: HttpListener,
    monkeypatch: pytest.MonkeyPatch,
    reply: Reply,
    error: type[Exception],
    after: timedelta | None,
) -> None:
    monkeypatch.setattr(http, "SECONDS", 0.3)
    listener.replies = [reply]
    with pytest.raises(error) as caught:
        channel(listener).send(new_message())
    assert type(caught.value) is error
    assert getattr(caught.value, "after", None) == after
    assert "sesame" not in repr(caught.value)
    assert len(listener.requests) == 1


def test_no_secret_is_in_what_is_shown_of_a_channel(listener: HttpListener) -> None:
    options = {"url": listener.url("/opensesame"), "secret": SECRET}
    route = read_route({"channel": "webhook", **options})
    shown = f"{route!r} {route.open()!r} {vars(route.open())['_signer']!r}"
    assert SECRET not in shown
    assert "sesame" not in shown


@pytest.mark.parametrize("text", ["ü – 🔴", "half a character: \udc80"])
def test_any_text_can_be_sent_and_is_signed_as_it_is_sent(
    listener: HttpListener, text: str
) -> None:
    channel(listener).send(new_message(text=text))
    (request,) = listener.requests
    assert request.body.isascii()
    assert Webhook(SECRET).verify(request.body, request.headers)["data"]["text"] == text
