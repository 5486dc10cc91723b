"""Send one message through one channel, within seconds, whatever the channel does."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from django.db import connections

from django_defer.alerts.http import secrets_of
from django_defer.alerts.messages import ChannelError, TryLater
from django_defer.redaction import hide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django_defer.alerts.messages import Channel, Message
    from django_defer.alerts.routes import Route

SHORTEST_SECRET: Final = 6  # characters of an option that is masked in what an error says
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
    answers: list[str] = []
    errors: list[BaseException] = []
    lock, is_late = threading.Lock(), False

    def send() -> None:
        try:
            answer = str(channel.send(message) or "")[:MOST_ANSWER]
            with lock:
                answers.append(answer)
            if is_late and on_late is not None:
                on_late(answer)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            errors.append(error)
        finally:
            connections.close_all()  # of this thread

    thread = threading.Thread(target=send, name=f"defer-alert-{channel.name}", daemon=True)
    thread.start()
    thread.join(seconds)
    with lock:
        is_late = not answers
    if errors:
        raise errors[0] if isinstance(errors[0], Exception) else TryLater(repr(errors[0]))
    if is_late:
        raise TryLater(f"no answer within {seconds:.0f} s")
    return answers[0]


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
