"""Messages to a Slack channel, through an incoming webhook.

What comes from functions is shown in code spans or as plain text, so that it can neither mention
anybody nor look like something else.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from django_defer.alerts.extras import missing

try:
    from slack_sdk.models.blocks import (
        Block,
        ContextBlock,
        HeaderBlock,
        MarkdownTextObject,
        PlainTextObject,
        SectionBlock,
    )
    from slack_sdk.webhook import WebhookClient, WebhookResponse
except ImportError:
    raise missing("slack", "slack") from None

from django_defer.alerts.http import SECONDS, Answer, judge, post, read_url
from django_defer.alerts.messages import Channel
from django_defer.alerts.texts import MOST_EXAMPLES, facts, mood, one_line, others, paragraphs, when

if TYPE_CHECKING:
    from collections.abc import Iterator
    from urllib.request import Request

    from django_defer.alerts.messages import Example, Message

# Slack's limits are 150 and 3,000 characters, of which some, such as emoji, may count twice.
MOST_HEADER: Final = 140
MOST_SECTION: Final = 2900
MOST_FACT: Final = 450  # so that all facts of a run, escaped, are one section
MOST_URL: Final = 500

_SIGNS: Final = {"failure": "🔴", "warning": "🟠", "success": "🟢", "info": "🔵"}
_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "`": "'"}

# The library logs what it sends, and where to: the address is a secret.
_silent = logging.getLogger(f"{__name__}.client")
_silent.setLevel(logging.CRITICAL + 1)


class SlackChannel(Channel):
    """An incoming webhook of Slack: `url`."""

    def __init__(self, name: str, url: str | None) -> None:
        super().__init__(name)
        self._url = read_url(url)

    def send(self, message: Message) -> str:
        """Send it as blocks; as text alone if Slack says that it can't read them."""
        client = _Client(
            self._url, timeout=int(SECONDS), logger=_silent, retry_handlers=[]
        )  # no handlers: the dispatcher tries again
        text = _escaped(paragraphs(f"{message.title}\n{message.text}").strip(), MOST_SECTION)
        options = {"text": text, "unfurl_links": False, "unfurl_media": False}
        response = client.send_dict({**options, "blocks": list(blocks(message))})
        if response.status_code == 400 and "invalid_blocks" in response.body:
            link = f"\n{message.url}" if message.url else ""
            response = client.send_dict({**options, "text": f"{text}{_escaped(link, MOST_URL)}"})
        answer = Answer(status=response.status_code, text=response.body, headers=response.headers)
        return judge(answer, self._url)


class _Client(WebhookClient):
    """The library's client, but bounded in time and size, and following no redirects."""

    def _perform_http_request_internal(self, url: str, req: Request) -> WebhookResponse:
        body = req.data if isinstance(req.data, bytes) else b""
        answer = post(url, body, dict(req.header_items()))
        return WebhookResponse(
            url=url, status_code=answer.status, body=answer.text, headers=dict(answer.headers)
        )


def blocks(message: Message) -> Iterator[Block]:
    """Yield what Slack shows: a title, a sentence, a section for each example, and the times."""
    title = one_line(f"{_SIGNS[mood(message)]} {message.title}", MOST_HEADER)
    yield HeaderBlock(text=_plain(title))
    if text := paragraphs(message.text).strip():
        yield SectionBlock(text=_plain(text[:MOST_SECTION]))
    for example in message.examples[:MOST_EXAMPLES]:
        yield SectionBlock(text=_marked("\n".join(_lines(example))))
    more = [f"and {others(message):,} more"] if others(message) else []
    parts = [*more, when(message), *_link(message.url, "open the alert")]
    yield ContextBlock(elements=[_marked("  ·  ".join(parts))])


def _lines(example: Example) -> Iterator[str]:
    """Yield a line for each fact. A link, not a button: that would ask for an app that answers."""
    for word, text in facts(example):
        if word == "Error":
            yield _code(text)
        elif word == "When":
            yield "  ·  ".join([text, *_link(example.url, "open the run")])
        else:
            yield f"{word} {_code(text)}"


def _link(url: str, words: str) -> list[str]:
    """Return a link in Slack's notation, or nothing if the address can't be written in it."""
    fits = len(url) <= MOST_URL and url.startswith(("https://", "http://"))
    if not fits or any(c in "<>|" or c.isspace() for c in url):
        return []
    return [f"<{url.replace('&', '&amp;')}|{words}>"]


def _code(text: str) -> str:
    return f"`{_escaped(text, MOST_FACT)}`"


def _escaped(text: str, most: int) -> str:
    """Escape what Slack reads as markup, and cut between characters, not within an escape."""
    pieces: list[str] = []
    left = most - 1
    for piece in (_ESCAPES.get(character, character) for character in text):
        left -= len(piece)
        if left < 0:
            return "".join([*pieces, "…"])
        pieces.append(piece)
    return "".join(pieces)


def _plain(text: str) -> Any:
    return PlainTextObject(text=text, emoji=False)


def _marked(text: str) -> Any:
    return MarkdownTextObject(text=text, verbatim=True)
