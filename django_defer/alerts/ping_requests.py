"""One GET to a dead man's switch: bounded in time, and led away to no other host.

The address is a secret: no error quotes it.
"""

from __future__ import annotations

from datetime import timedelta
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from django_defer.alerts.patience import NoAnswer, within

STEP: Final = 5.0  # seconds to connect, and for each part of the answer
LONGEST: Final = 10.0  # seconds in all, from looking up the name on
LONGEST_WAIT: Final = timedelta(minutes=30)  # that an answer may ask for
TEMPORARY: Final = frozenset({408, 425, 429})  # of the answers 4xx


class PingUndelivered(Exception):
    """It may work later: after `after`, if the other side said so."""

    def __init__(self, reason: str, after: timedelta | None = None) -> None:
        super().__init__(reason)
        self.after = after


class PingRefused(Exception):
    """It would be refused again."""


_KEPT: Final = {"http": ("http", "https"), "https": ("https",)}


class _SameHost(HTTPRedirectHandler):
    """Follows a redirect only to the same host, which may be one from http to https."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.hostname != old.hostname or new.scheme not in _KEPT[old.scheme]:
            fp.close()
            raise PingRefused(f"HTTP {code}: it leads to another host")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_opener = build_opener(_SameHost)


def request(address: str) -> None:
    """Make the request. Raises PingUndelivered or PingRefused if nobody took it."""
    try:
        within(LONGEST, lambda: _request(address))
    except NoAnswer:
        raise PingUndelivered(f"no answer within {LONGEST:g} s") from None


def _request(address: str) -> None:
    asked = Request(address, headers={"User-Agent": "django-defer"})  # noqa: S310 - from code
    try:
        with _opener.open(asked, timeout=STEP):
            pass
    except HTTPError as answer:
        answer.close()
        if 400 <= answer.code < 500 and answer.code not in TEMPORARY:
            raise PingRefused(f"HTTP {answer.code}") from None
        after = _seconds(answer.headers.get("Retry-After"))
        raise PingUndelivered(f"HTTP {answer.code}", after) from None
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError
        reason = getattr(error, "reason", error)
        raise PingUndelivered(f"{type(reason).__name__}") from None


def _seconds(text: str | None) -> timedelta | None:
    if text is None or not text.strip().isdecimal():
        return None
    return min(timedelta(seconds=min(int(text), 10**6)), LONGEST_WAIT)
