"""One POST: bounded in time and size, no redirect, and the address in no answer and no error."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from django_defer.alerts import http
from django_defer.alerts.http import Answer, judge, post, read_url, retry_after
from django_defer.alerts.messages import Refused, TryLater
from tests.listeners import CERTIFICATE, HttpListener, Reply, free_port, http_listener

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "/services/T0SECRET0/B0SECRET0/xyzsecretxyz"
NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


@pytest.fixture
def listener() -> Iterator[HttpListener]:
    with http_listener() as found:
        yield found


def send(url: str) -> str:
    return judge(post(url, b"{}", {"Content-Type": "application/json"}), url)


def test_what_is_taken_is_told_with_its_status(listener: HttpListener) -> None:
    listener.replies = [Reply(202, "accepted\nmore")]
    assert send(listener.url(PATH)) == "HTTP 202: accepted more"
    (request,) = listener.requests
    assert (request.method, request.path, request.body) == ("POST", PATH, b"{}")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *[(status, Refused) for status in (400, 401, 403, 404, 405, 410, 413, 422)],
        *[(status, TryLater) for status in (408, 409, 425, 429, 500, 502, 503, 504)],
    ],
)
def test_an_answer_is_final_or_not(
    listener: HttpListener, status: int, error: type[Exception]
) -> None:
    listener.replies = [Reply(status, "because")]
    with pytest.raises(error) as caught:
        send(listener.url(PATH))
    assert type(caught.value) is error
    assert str(caught.value) == f"HTTP {status}: because"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(listener: HttpListener, status: int) -> None:
    with http_listener() as other:
        listener.replies = [Reply(status, "", {"Location": other.url("/elsewhere")})]
        with pytest.raises(TryLater, match="redirect, which is not followed"):
            send(listener.url(PATH))
        assert other.requests == []
    assert len(listener.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_what_asks_to_wait_is_waited_for(listener: HttpListener, status: int) -> None:
    listener.replies = [Reply(status, "slow down", {"Retry-After": "30"})]
    with pytest.raises(TryLater) as caught:
        send(listener.url(PATH))
    assert caught.value.after == timedelta(seconds=30)


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("0", timedelta(0)),
        ("120", timedelta(minutes=2)),
        ("Mon, 23 Nov 2026 08:05:00 GMT", timedelta(minutes=5)),
        ("Mon, 23 Nov 2026 07:00:00 GMT", timedelta(0)),
        ("Mon, 23 Nov 2026 08:05:00 -0000", timedelta(minutes=5)),
        ("999999999999999999999", timedelta(days=1)),
        ("Tue, 23 Nov 2027 08:00:00 GMT", timedelta(days=1)),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("١٢", None),
    ],
)
def test_the_wait_is_read_from_seconds_or_a_date(text: str, wait: timedelta | None) -> None:
    assert retry_after({"RETRY-AFTER": text}, NOW) == wait


def test_a_server_that_hangs_is_left_in_time(
    listener: HttpListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (http.SECONDS, http.LONGEST) == (5.0, 10.0)
    monkeypatch.setattr(http, "SECONDS", 0.3)
    listener.replies = [Reply(hang=True)]
    started = time.monotonic()
    with pytest.raises(TryLater, match=r"no answer within 0\.3 seconds"):
        send(listener.url(PATH))
    assert time.monotonic() - started < 3


def test_an_answer_without_end_is_left_in_time(
    listener: HttpListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "LONGEST", 0.5)
    listener.replies = [Reply(trickle=True)]
    started = time.monotonic()
    with pytest.raises(TryLater, match=r"no answer within 0\.5 seconds"):
        send(listener.url(PATH))
    assert time.monotonic() - started < 3


def test_a_huge_answer_is_read_in_part(listener: HttpListener) -> None:
    listener.replies = [Reply(500, "x" * 10_000_000)]
    answer = post(listener.url(PATH), b"", {})
    assert len(answer.text) == http.MOST_READ
    with pytest.raises(TryLater) as caught:
        judge(answer, listener.url(PATH))
    assert len(str(caught.value)) < 300


def test_a_server_that_is_gone_is_tried_later() -> None:
    with pytest.raises(TryLater, match="Connection refused"):
        send(f"http://127.0.0.1:{free_port()}{PATH}")


def test_a_name_that_nobody_knows_is_tried_later() -> None:
    with pytest.raises(TryLater):
        send(f"https://nowhere.invalid{PATH}")


def test_a_connection_that_is_dropped_is_tried_later(listener: HttpListener) -> None:
    listener.replies = [Reply(drop=True)]
    with pytest.raises(TryLater):
        send(listener.url(PATH))


@pytest.mark.parametrize(
    "reply",
    [
        Reply(404, f"Cannot POST {PATH}"),
        Reply(500, "no: T0SECRET0 xyzsecretxyz"),
        Reply(200, "thanks xyzsecretxyz"),
        Reply(302, PATH, {"Location": PATH}),
        Reply(drop=True),
    ],
    ids=str,
)
def test_the_address_is_in_no_answer_and_no_error(listener: HttpListener, reply: Reply) -> None:
    listener.replies = [reply]
    try:
        said = send(listener.url(PATH))
    except (Refused, TryLater) as error:
        said = f"{error!r} {error.__cause__!r}"
    assert "SECRET" not in said
    assert "xyz" not in said


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with http_listener(tls=True) as listener:
        with pytest.raises(TryLater, match="certificate verify failed") as caught:
            send(listener.url(PATH))
        assert listener.requests == []
        assert "SECRET" not in str(caught.value)
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        assert send(listener.url(PATH)) == "HTTP 200: ok"


def test_control_characters_of_an_answer_are_left_out() -> None:
    answer = Answer(status=200, text="fine\x1b[31m\r\n\x00and more")
    assert judge(answer, "https://example.com/") == "HTTP 200: fine [31m and more"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:8443/a/b?c=d",
        "http://localhost:9000/",
        "http://127.0.0.1/",
        "http://[::1]:80/",
    ],
)
def test_an_address_that_can_be_written_to_is_taken(url: str) -> None:
    assert read_url(url) == url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (None, "is empty"),
        ("", "is empty"),
        ("xyzsecret", "is no address"),
        ("ftp://xyzsecret", "is no address"),
        ("file:///xyzsecret", "is no address"),
        ("https://", "is no address"),
        ("https://a:xyzsecret/", "is no address"),
        ("https://example.com/xyz secret", "is no address"),
        ("https://example.com/xyzsecret\n", "is no address"),
        ("https://exämple.com/xyzsecret", "is no address"),
        (["https://example.com/xyzsecret"], "is no address"),
        (b"https://example.com/xyzsecret", "is no address"),
        ("https://user:xyzsecret@example.com/", "has a user name in it"),
        ("http://example.com/xyzsecret", "begins with http://"),
        ("http://10.0.0.1/xyzsecret", "begins with http://"),
    ],
)
def test_an_address_that_cannot_is_refused_without_being_quoted(url: object, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        read_url(url)
    assert "xyz" not in str(caught.value)


def test_a_network_of_ones_own_may_do_without_encryption() -> None:
    assert read_url("http://10.0.0.1/hook", insecure=True) == "http://10.0.0.1/hook"
