"""Messages as signed JSON to an address of one's own, as the Standard Webhooks describe."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from django_defer.alerts.extras import missing
from django_defer.alerts.http import judge, post, read_url
from django_defer.alerts.messages import Channel

if TYPE_CHECKING:
    from django_defer.alerts.messages import Example, Message

VERSION: Final = 1  # of the JSON; a key that is added doesn't change it
PREFIX: Final = "whsec_"
FEWEST_BYTES: Final = 24  # of a secret; the Standard Webhooks ask for 24 to 64
MOST_BYTES: Final = 64
EXAMPLE: Final = (
    'write "whsec_" and 24 to 64 random bytes in base64, or False for messages without a signature'
)


class WebhookChannel(Channel):
    """A POST to `url`, signed with `secret`.

    A `secret` that is missing is refused rather than taken for "unsigned": it may be an environment
    variable that is unset.
    """

    def __init__(
        self, name: str, url: str | None, secret: str | bool | None, insecure: bool = False
    ) -> None:
        super().__init__(name)
        if not isinstance(insecure, bool):
            raise ValueError('"insecure" is neither True nor False: True allows http://')
        self._url = read_url(url, insecure=insecure)
        self._secret = _read_secret(secret)
        self._signer = _signer(self._secret) if self._secret else None

    def send(self, message: Message) -> str:
        """Send it. `webhook-id` is the same when it is sent again."""
        body = json.dumps(payload(message))
        now = datetime.now(UTC)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "django-defer",
            "webhook-id": message.id,
            "webhook-timestamp": str(int(now.timestamp())),
        }
        if self._signer is not None:
            headers["webhook-signature"] = self._signer.sign(message.id, now, body)
        return judge(post(self._url, body.encode(), headers), self._url)


def payload(message: Message) -> dict[str, Any]:
    """Return the JSON; docs/how-to/alerts.md says what each key means."""
    return {
        "type": f"alert.{message.kind}",
        "version": VERSION,
        "timestamp": _instant(message.last_at),
        "data": {
            "event": str(message.event),
            "subject": message.subject,
            "title": message.title,
            "text": message.text,
            "count": message.count,
            "first_at": _instant(message.first_at),
            "last_at": _instant(message.last_at),
            "url": message.url,
            "examples": [_example(each) for each in message.examples],
        },
    }


def _example(example: Example) -> dict[str, Any]:
    return {
        "run_id": str(example.run_id),
        "at": _instant(example.at),
        "error": example.error,
        "label": example.label,
        "metadata": dict(example.metadata),
        "attempts": example.attempts,
        "slot": _instant(example.slot) if example.slot else None,
        "fan_out": example.fan_out,
        "url": example.url,
    }


def _instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _read_secret(secret: Any) -> str:
    if secret is False:
        return ""
    if not secret:
        raise ValueError(
            '"secret" is empty: the environment variable that it is in may be unset. To send '
            "messages without a signature, write False"
        )
    if not isinstance(secret, str) or not secret.startswith(PREFIX):
        raise ValueError(f'"secret" is none: {EXAMPLE}')
    try:
        size = len(base64.b64decode(secret.removeprefix(PREFIX), validate=True))
    except (binascii.Error, ValueError):
        raise ValueError(f'"secret" is not in base64: {EXAMPLE}') from None
    if not FEWEST_BYTES <= size <= MOST_BYTES:
        raise ValueError(f'"secret" has {size} bytes: {EXAMPLE}')
    return secret


def _signer(secret: str) -> Any:
    try:
        from standardwebhooks import Webhook
    except ImportError:
        raise missing("webhook", "webhook") from None
    return Webhook(secret)
