"""One POST to an address of the settings: bounded in time and size, and no redirect is followed.

The address is a secret. No error and no answer that leaves this module quotes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.error import URLError
from urllib.parse import SplitResult, urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from django_defer.alerts import patience
from django_defer.alerts.messages import Refused, TryLater
from django_defer.alerts.texts import one_line
from django_defer.redaction import hide

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SECONDS: Final = 5.0  # for each step: to connect, to read
LONGEST: Final = 10.0  # in all, from looking up the name on
MOST_READ: Final = 1024  # bytes of an answer
MOST_TOLD: Final = 200  # characters of it that are kept
LONGEST_WAIT: Final = timedelta(days=1)  # that an answer may ask for
SHORTEST_SECRET: Final = 6  # characters of a part of an address

# The answers of the class 4xx after which the same request may be accepted.
TEMPORARY: Final = frozenset({408, 409, 425, 429})

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the other side said."""

    status: int
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def read_url(url: Any, *, insecure: bool = False) -> str:
    """Return an address that may be written to. Raises ValueError, without quoting it."""
    if not url:
        raise ValueError('"url" is empty: the environment variable that it is in may be unset')
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except (AttributeError, TypeError, ValueError):
        parts, is_address = SplitResult("", "", "", "", ""), None
    if not is_address or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(
            '"url" is no address: write one such as "https://example.com/hook", with no blanks'
        )
    if "@" in parts.netloc:
        raise ValueError('"url" has a user name in it: write the address without')
    if parts.scheme == "http" and not insecure and not _is_loopback(str(parts.hostname)):
        raise ValueError(
            '"url" begins with http://, which anybody on the way can read: write https://'
        )
    return str(url)


def post(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Send it and return the answer, whatever its status. Raises TryLater where there is none."""
    return within(LONGEST, lambda: _post(url, body, headers))


def judge(answer: Answer, url: str) -> str:
    """Return a good answer in a few words. Raises Refused or TryLater for the others."""
    told = hide(one_line(answer.text, MOST_TOLD), secrets_of(url))
    words = f"HTTP {answer.status}: {told}" if told else f"HTTP {answer.status}"
    if 200 <= answer.status < 300:
        return words
    if 300 <= answer.status < 400:
        raise TryLater(f"{words} (a redirect, which is not followed: write where it leads to)")
    if 400 <= answer.status < 500 and answer.status not in TEMPORARY:
        raise Refused(words)
    raise TryLater(words, retry_after(answer.headers))


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> timedelta | None:
    """Return how long to wait by the header Retry-After: seconds or a date. None: it says not."""
    text = {name.lower(): value for name, value in headers.items()}.get("retry-after", "").strip()
    if text.isdecimal() and text.isascii():
        wait = timedelta(seconds=min(int(text[:9]), LONGEST_WAIT.total_seconds()))
    else:
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return None
        aware = date if date.tzinfo else date.replace(tzinfo=UTC)
        wait = aware - (now or datetime.now(UTC))
    return max(timedelta(0), min(wait, LONGEST_WAIT))


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return what the call returns. Raises TryLater if that takes longer."""
    try:
        return patience.within(seconds, call)
    except patience.NoAnswer:
        raise TryLater(f"no answer within {seconds:g} seconds") from None


def secrets_of(url: str) -> list[str]:
    """Return what of an address is shown to nobody, the longest first."""
    parts = urlsplit(url)
    rest = url.partition(parts.netloc)[2] if parts.netloc else ""
    pieces = rest.replace("?", "/").replace("&", "/").replace("=", "/").split("/")
    values = {url, rest, parts.path, *(each for each in pieces if len(each) >= SHORTEST_SECRET)}
    return sorted(values - {"", "/"}, key=lambda value: (-len(value), value))


def reason_of(error: BaseException) -> str:
    """Say in a few words why there was no answer. Only what the system says: no address."""
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, TimeoutError):
        return f"no answer within {SECONDS:g} seconds"
    if isinstance(reason, OSError) and reason.strerror:
        return one_line(reason.strerror, MOST_TOLD)
    return type(reason).__name__


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    request = Request(url, data=body, headers=dict(headers), method="POST")  # noqa: S310 - read_url
    try:
        with _opener().open(request, timeout=SECONDS) as response:
            text = response.read(MOST_READ).decode("utf-8", "replace")
            return Answer(status=response.status, text=text, headers=dict(response.headers.items()))
    except (HTTPException, OSError, ValueError) as error:
        raise TryLater(hide(reason_of(error), secrets_of(url))) from None


def _opener() -> OpenerDirector:
    """Return an opener that knows HTTP and the environment's proxies, and no redirects."""
    opener = OpenerDirector()
    for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler()):
        opener.add_handler(handler)
    return opener


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
