"""Slack: what is sent keeps to Slack's limits and notation, and each answer has its meaning."""

from __future__ import annotations

import json
import logging
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from django_defer.alerts import http
from django_defer.alerts.messages import Refused, TryLater
from django_defer.alerts.routes import read_route
from django_defer.alerts.slack import SlackChannel
from django_defer.models.alerts import MessageKind
from tests.alert_messages import NASTY, new_example, new_message
from tests.listeners import HttpListener, Reply, free_port, http_listener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_defer.alerts.messages import Message

PATH = "/services/T0SECRET0/B0SECRET0/xyzsecretxyz"


@pytest.fixture
def listener() -> Iterator[HttpListener]:
    with http_listener() as found:
        yield found


def send(listener: HttpListener, message: Message | None = None) -> str:
    return SlackChannel("slack", listener.url(PATH)).send(message or new_message())


def sent(listener: HttpListener, message: Message | None = None) -> dict[str, Any]:
    """Send it; return what Slack gets, after a look at all the limits that it documents."""
    assert send(listener, message) == "HTTP 200: ok"
    (request,) = listener.requests
    assert request.headers["content-type"].startswith("application/json")
    body: dict[str, Any] = request.json
    assert 0 < len(body["text"]) <= 3000
    assert 0 < len(body["blocks"]) <= 50
    for block in body["blocks"]:
        texts = block["elements"] if block["type"] == "context" else [block["text"]]
        most = {"header": 150, "section": 3000, "context": 2000}[block["type"]]
        assert 1 <= len(texts) <= 10
        for text in texts:
            assert 0 < len(text["text"]) <= most
            assert text["type"] == ("plain_text" if block["type"] == "header" else text["type"])
    return body


def marked(body: dict[str, Any]) -> list[str]:
    """Return every text that Slack reads as markup."""
    texts = [body["text"]]
    for block in body["blocks"]:
        parts = block.get("elements", [block.get("text")])
        texts += [part["text"] for part in parts if part["type"] == "mrkdwn"]
    return texts


def test_a_message_says_what_failed_for_whom_and_where_to_look(listener: HttpListener) -> None:
    body = sent(listener)
    header, text, first, second, context = body["blocks"]
    assert header["text"]["text"] == "🔴 shop.send_report failed 5,000 times"
    assert text["text"] == {
        "type": "plain_text",
        "text": "All attempts are used up.",
        "emoji": False,
    }
    assert first["text"]["verbatim"] is True
    assert first["text"]["text"].split("\n") == [
        "For `user 42`",
        "Metadata `plan: pro, country: de`",
        "Slot `2026-11-23 08:00 UTC`",
        "Position `3 of 300 of shop.weekly, 2026-11-23 08:00 UTC`",
        "Attempts `17 of 17`",
        "2026-11-23 08:03:00 UTC  ·  <https://shop.example.com/admin/run/"
        "0193a1b2-0000-7000-8000-000000000001/?a=1&amp;b=2|open the run>",
        "`ValueError: no such user`",
    ]
    assert "Slot" not in second["text"]["text"]
    assert context["elements"][0]["text"] == (
        "and 4,998 more  ·  2026-11-23 08:00:00 UTC to 2026-11-23 08:05:00 UTC  ·  "
        "<https://shop.example.com/admin/alert/7/|open the alert>"
    )
    assert body["text"] == "shop.send_report failed 5,000 times\nAll attempts are used up."
    assert body["unfurl_links"] is False
    assert body["unfurl_media"] is False


def test_without_the_sites_address_there_are_no_links(listener: HttpListener) -> None:
    body = sent(listener, new_message(url="", examples=(new_example(url=""),)))
    assert "<" not in "".join(marked(body))


def test_a_message_without_examples_counts_no_others(listener: HttpListener) -> None:
    body = sent(listener, new_message(text="", examples=()))
    assert [block["type"] for block in body["blocks"]] == ["header", "context"]
    assert "more" not in json.dumps(body)


@pytest.mark.parametrize(
    ("values", "sign"),
    [
        ({"kind": MessageKind.RECOVERED}, "🟢"),
        ({"kind": MessageKind.TEST}, "🔵"),
        ({"event": "run_slow"}, "🟠"),
        ({"event": "no_workers"}, "🔴"),
    ],
)
def test_a_sign_says_how_bad_it_is(
    listener: HttpListener, values: dict[str, Any], sign: str
) -> None:
    header = sent(listener, new_message(**values))["blocks"][0]
    assert header["text"]["text"].startswith(f"{sign} ")


def test_what_functions_say_mentions_nobody_and_makes_no_links(listener: HttpListener) -> None:
    example = new_example(
        error=NASTY, label=NASTY, metadata={NASTY: NASTY}, attempts=NASTY, fan_out=NASTY
    )
    body = sent(listener, new_message(title=NASTY, text=NASTY, examples=(example,)))
    for text in marked(body):
        links = re.findall(r"<[^>]*>", text)
        assert all(
            re.fullmatch(r"<https://shop\.example\.com/[^<>|]+\|open the \w+>", x) for x in links
        )
        rest = re.sub(r"<[^>]*>", "", text)
        assert "<" not in rest
        assert ">" not in rest
        assert not re.search(r"&(?!amp;|lt;|gt;)", rest)
        assert rest.count("`") % 2 == 0
    section = body["blocks"][2]["text"]["text"]
    for line in section.split("\n"):
        bare = re.sub(r"`[^`]+`", "", line)
        assert not re.search(r"[*~@!]", bare), bare
    for text in re.findall(r'"text": "((?:[^"\\]|\\.)*)"', json.dumps(body)):
        assert all(line.isprintable() for line in json.loads(f'"{text}"').split("\n"))
    assert body["blocks"][0]["text"]["type"] == "plain_text"
    assert body["blocks"][1]["text"]["type"] == "plain_text"


def test_a_backtick_does_not_end_the_code_span(listener: HttpListener) -> None:
    example = new_example(error="no column `name; *see* below", label="`", metadata={})
    lines = sent(listener, new_message(examples=(example,)))["blocks"][2]["text"]["text"].split(
        "\n"
    )
    assert lines[0] == "For `'`"
    assert lines[-1] == "`no column 'name; *see* below`"


def test_the_longest_texts_keep_to_the_limits(listener: HttpListener) -> None:
    long = "<&>" * 5000
    example = new_example(
        error=long,
        label=long,
        metadata={f"{long}{n}": long for n in range(50)},
        attempts=long,
        fan_out=long,
        url=f"https://example.com/{'a' * 5000}",
    )
    body = sent(
        listener, new_message(title=long, text=long, url=example.url, examples=(example,) * 60)
    )
    assert len(body["blocks"]) == 13
    for text in marked(body):
        assert not re.search(r"&(?!amp;|lt;|gt;)", text), "an escape was cut in two"


def test_an_address_that_would_end_the_link_makes_none(listener: HttpListener) -> None:
    body = sent(listener, new_message(url="https://a.example/|<!channel>", examples=()))
    assert "channel" not in json.dumps(body["blocks"])


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, "invalid_payload"),
        (403, "invalid_token"),
        (403, "action_prohibited"),
        (404, "no_service"),
        (404, "channel_not_found"),
        (410, "channel_is_archived"),
    ],
)
def test_what_slack_refuses_is_refused_with_its_word(
    listener: HttpListener, status: int, word: str
) -> None:
    listener.replies = [Reply(status, word)]
    with pytest.raises(Refused) as caught:
        send(listener)
    assert str(caught.value) == f"HTTP {status}: {word}"
    assert len(listener.requests) == 1


def test_blocks_that_slack_does_not_take_are_sent_as_text(listener: HttpListener) -> None:
    listener.replies = [Reply(400, "invalid_blocks"), Reply()]
    assert send(listener) == "HTTP 200: ok"
    first, second = (request.json for request in listener.requests)
    assert "blocks" in first
    assert "blocks" not in second
    assert second["text"] == f"{first['text']}\nhttps://shop.example.com/admin/alert/7/"


def test_who_is_too_fast_waits_as_long_as_slack_says(listener: HttpListener) -> None:
    listener.replies = [Reply(429, "rate_limited", {"Retry-After": "30"})]
    with pytest.raises(TryLater) as caught:
        send(listener)
    assert caught.value.after == timedelta(seconds=30)
    assert len(listener.requests) == 1


def test_an_error_of_slack_is_tried_later_and_once_only_here(listener: HttpListener) -> None:
    listener.replies = [Reply(500, "rollup_error")]
    with pytest.raises(TryLater, match="HTTP 500: rollup_error"):
        send(listener)
    assert len(listener.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(listener: HttpListener, status: int) -> None:
    with http_listener() as other:
        listener.replies = [Reply(status, "", {"Location": other.url("/elsewhere")})]
        with pytest.raises(TryLater, match="redirect"):
            send(listener)
        assert other.requests == []


def test_a_slack_that_hangs_is_left_in_time(
    listener: HttpListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "SECONDS", 0.3)
    listener.replies = [Reply(hang=True)]
    with pytest.raises(TryLater, match="no answer within"):
        send(listener)
    assert len(listener.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(),
        Reply(404, f"no {PATH}"),
        Reply(500, "xyzsecretxyz"),
        Reply(302, "", {"Location": PATH}),
        None,
    ],
    ids=str,
)
def test_the_address_is_in_no_answer_no_error_and_no_log(
    listener: HttpListener, caplog: pytest.LogCaptureFixture, reply: Reply | None
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"http://127.0.0.1:{free_port()}{PATH}" if reply is None else listener.url(PATH)
    listener.replies = [reply or Reply()]
    channel = SlackChannel("slack", url)
    try:
        said = channel.send(new_message())
    except (Refused, TryLater) as error:
        said = f"{error!r} {error.__cause__!r}"
    route = read_route({"channel": "slack", "url": url})
    for text in (said, repr(channel), repr(route), caplog.text):
        assert "SECRET" not in text
        assert "xyz" not in text


def test_an_entry_of_the_settings_opens_the_channel() -> None:
    channel = read_route({"channel": "slack", "name": "ops", "url": "https://a.example/x"}).open()
    assert isinstance(channel, SlackChannel)
    assert channel.name == "ops"
