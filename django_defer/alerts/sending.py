"""Send one message through one channel, within seconds, whatever the channel does."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from django.db import connections

from django_defer.alerts.http import SHORTEST_SECRET, secrets_of
from django_defer.alerts.messages import ChannelError, TryLater
from django_defer.alerts.patience import NoAnswer, within
from django_defer.redaction import hide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django_defer.alerts.messages import Channel, Message
    from django_defer.alerts.routes import Route

logger = logging.getLogger(__name__)

MOST_ANSWER: Final = 500  # characters


def send_within(
    channel: Channel,
    message: Message,
    seconds: float,
    on_late: Callable[[str], None] | None = None,
) -> str:
    """Send it and return the answer; TryLater once the time is up.

    In a thread of its own: a channel may hang for ever, and nobody waits for it. An answer that
    comes after all is given to `on_late`, in that thread.
    """

    def send() -> str:
        try:
            return str(channel.send(message) or "")[:MOST_ANSWER]
        except Exception:
            raise
        except BaseException as error:  # noqa: BLE001 - it would end the thread that waits
            raise TryLater(repr(error)) from None
        finally:
            connections.close_all()  # of this thread

    def keep(answer: str) -> None:
        try:
            if on_late is not None:
                on_late(answer)
        except Exception:
            logger.exception("alert.late_answer_lost", extra={"event": "alert.late_answer_lost"})
        finally:
            connections.close_all()

    try:
        return within(seconds, send, on_late=keep)
    except NoAnswer:
        raise TryLater(f"no answer within {seconds:.0f} s") from None


def reason_of(error: Exception, route: Route) -> str:
    """Return what an error says, without the options of its channel: these are secrets."""
    text = str(error).strip()
    if not isinstance(error, ChannelError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
        text = hide(text, secrets_in(route.options))
    return text[:MOST_ANSWER]


def secrets_in(options: object) -> list[str]:
    """Return the texts of a channel's options, and the parts of addresses; the longest first."""
    found: set[str] = set()
    for text in _texts(options):
        found.update(secrets_of(text) if "://" in text else [text])
    return sorted((each for each in found if len(each) >= SHORTEST_SECRET), key=len, reverse=True)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for each in value:
            yield from _texts(each)
