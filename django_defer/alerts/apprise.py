"""Messages to whatever the library apprise has an address for: Teams, Discord, PagerDuty, ntfy."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from django_defer.alerts.extras import missing

try:
    import apprise
except ImportError:
    raise missing("apprise", "apprise") from None

from django_defer.alerts.http import LONGEST, MOST_TOLD, secrets_of, within
from django_defer.alerts.messages import Channel, TryLater
from django_defer.alerts.texts import as_text, mood, one_line
from django_defer.redaction import hide

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_defer.alerts.messages import Message

_TYPES: Final = {
    "failure": apprise.NotifyType.FAILURE,
    "warning": apprise.NotifyType.WARNING,
    "success": apprise.NotifyType.SUCCESS,
    "info": apprise.NotifyType.INFO,
}


class AppriseChannel(Channel):
    """One address, `url`, or several, `urls`. If one of several fails, all are tried again."""

    def __init__(
        self,
        name: str,
        url: str | None = None,
        urls: list[str] | tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(name)
        found = _read_urls(url, urls)
        self._secrets = sorted({s for each in found for s in _secrets_of(each)}, key=len)[::-1]
        self._apprise = apprise.Apprise(asset=apprise.AppriseAsset(http_redirects=False))
        for number, each in enumerate(found, start=1):
            with _listening(), warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of what its plugins import
                is_known = self._apprise.add(each)
            if not is_known:
                raise ValueError(
                    f"address {number} means nothing to apprise: write one such as "
                    f'"ntfy://topic"; its documentation lists them'
                )

    def send(self, message: Message) -> str:
        """Send it. apprise doesn't say whether a failure is for good: it is tried again."""
        is_sent, heard = within(LONGEST, lambda: self._notify(message))
        if not is_sent:
            words = one_line(heard, MOST_TOLD) or "apprise does not say why"
            raise TryLater(hide(words, self._secrets))
        count = len(self._apprise)
        return "sent" if count == 1 else f"sent to {count} addresses"

    def _notify(self, message: Message) -> tuple[bool, str]:
        """Return whether it was sent, and what was logged, as long as it takes."""
        with _listening() as heard:
            is_sent = self._apprise.notify(
                title=one_line(message.title, MOST_TOLD),
                body=as_text(message),
                notify_type=_TYPES[mood(message)],
                body_format=apprise.NotifyFormat.TEXT,
            )
        return bool(is_sent), " ".join(heard)


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Collect what apprise logs, and keep it out of the project's log: it may quote addresses.

    So does urllib3, which it sends with.
    """
    heard: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.name == "apprise" and record.levelno >= logging.WARNING:
            heard.append(record.getMessage())
        return False

    loggers = [logging.getLogger(name) for name in ("apprise", "urllib3.connectionpool")]
    for logger in loggers:
        logger.addFilter(keep)
    try:
        yield heard
    finally:
        for logger in loggers:
            logger.removeFilter(keep)


def _read_urls(url: Any, urls: Any) -> list[str]:
    if url is not None and urls is not None:
        raise ValueError('"url" and "urls" are both there: write one of them')
    found = [url] if urls is None else urls
    if not isinstance(found, (list, tuple)):
        raise ValueError('"urls" is no list: write ["ntfy://topic", …], or "url" for one')
    if not found or not all(found):
        option = "url" if urls is None else "urls"
        raise ValueError(f'"{option}" is empty: the environment variable may be unset')
    if not all(isinstance(each, str) for each in found):
        raise ValueError('"urls" has what is no text: write addresses such as "ntfy://topic"')
    return list(found)


def _secrets_of(url: str) -> list[str]:
    """Return the parts of an address: here also what looks like host, user or password."""
    host = url.partition("://")[2].partition("/")[0].partition("?")[0]
    parts = [host, *host.replace("@", ":").split(":")]
    return [*secrets_of(url), *(each for each in parts if len(each) > 3)]
