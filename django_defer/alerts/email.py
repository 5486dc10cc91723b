"""Messages by Django's mail, as text and HTML; those of one alert are one conversation."""

from __future__ import annotations

import smtplib
from email.headerregistry import Address
from email.utils import getaddresses, parseaddr
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.core import mail
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.template.loader import render_to_string

from django_defer.alerts.http import MOST_TOLD, reason_of
from django_defer.alerts.messages import Channel, Refused, TryLater
from django_defer.alerts.texts import as_text, context, one_line
from django_defer.models.alerts import MessageKind
from django_defer.redaction import hide

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from django_defer.alerts.messages import Message

SECONDS: Final = 10  # for each step of the mail server, unless the project's settings say
MOST_SUBJECT: Final = 200  # characters
NO_DOMAIN: Final = "django-defer.invalid"


class EmailChannel(Channel):
    """Mail `to` these addresses, `from_` DEFAULT_FROM_EMAIL unless another is given."""

    def __init__(
        self,
        name: str,
        to: str | list[str] | tuple[str, ...] | None,
        from_: str | None = None,
        subject_prefix: Any = "",
    ) -> None:
        super().__init__(name)
        self._to = _read_addresses(to)
        if from_:
            _check_address(parseaddr(from_)[1], "from_")
        if not isinstance(subject_prefix, str):
            raise ValueError('"subject_prefix" is no text: write one such as "[shop] "')
        self._from = from_ or None
        self._prefix = subject_prefix

    def send(self, message: Message) -> str:
        """Hand it to the mail server. What that refuses for good is not tried again."""
        connection = _connection()
        try:
            connection.send_messages([self._compose(message)])
        except (smtplib.SMTPException, OSError) as error:
            raise _judge(error, _passwords(connection)) from None
        return one_line(f"handed to the mail server for {', '.join(self._to)}", MOST_TOLD)

    def _compose(self, message: Message) -> mail.EmailMultiAlternatives:
        sender = self._from or settings.DEFAULT_FROM_EMAIL
        composed = mail.EmailMultiAlternatives(
            subject=one_line(self._prefix + message.title, MOST_SUBJECT),
            body=as_text(message),
            from_email=sender,
            to=self._to,
            headers={"Auto-Submitted": "auto-generated", **_thread(message, sender)},
        )
        html = render_to_string("django_defer/alert.html", context(message))
        composed.attach_alternative(html, "text/html")
        return composed


def _thread(message: Message, sender: str) -> dict[str, str]:
    """Return headers by which a mail program puts all messages of an alert below the first."""
    domain = parseaddr(sender)[1].rpartition("@")[2] or NO_DOMAIN
    first = _message_id(f"{message.subject} {_stamp(message.first_at)}", domain)
    if message.kind == MessageKind.OPENED:
        return {"Message-ID": first}
    headers = {"Message-ID": _message_id(f"{message.id} {_stamp(message.last_at)}", domain)}
    if message.kind != MessageKind.TEST:
        headers |= {"In-Reply-To": first, "References": first}
    return headers


def _stamp(instant: datetime) -> str:
    return f"{instant.timestamp():.6f}"


def _message_id(text: str, domain: str) -> str:
    return f"<django-defer.{sha256(text.encode()).hexdigest()[:32]}@{domain}>"


def _connection() -> Any:
    """Return the project's mail backend; one that would wait for ever waits SECONDS."""
    mailers = getattr(mail, "mailers", None)  # Django 6.1
    connection: Any = mailers.default if mailers is not None else mail.get_connection()
    if getattr(connection, "timeout", SECONDS) is None:
        connection.timeout = SECONDS
    return connection


def _judge(error: Exception, passwords: Iterable[str]) -> Exception:
    """Return what to raise: Refused where every recipient, the sender or the text is refused."""
    code: int
    said: bytes | str
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, said = min(error.recipients.values())
    elif isinstance(error, smtplib.SMTPResponseException):
        code, said = error.smtp_code, error.smtp_error
    else:
        return TryLater(hide(_words(error), sorted(passwords)))
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    words = hide(f"SMTP {code}: {one_line(text, MOST_TOLD)}", sorted(passwords))
    final = (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused, smtplib.SMTPDataError)
    return Refused(words) if isinstance(error, final) and code >= 500 else TryLater(words)


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError) or "timed out" in str(error):  # smtplib wraps some
        return "no answer from the mail server in time"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "the mail server ended the connection"
    if isinstance(error, smtplib.SMTPException):
        return one_line(f"{type(error).__name__}: {error}", MOST_TOLD)
    return reason_of(error)


def _passwords(connection: Any) -> list[str]:
    password = getattr(connection, "password", None)
    return [password] if isinstance(password, str) and password else []


def _read_addresses(to: Any) -> list[str]:
    """Return addresses from a list, or from a text with commas. Raises ValueError."""
    texts = [to] if isinstance(to, str) else to
    if not texts or (isinstance(texts, (list, tuple)) and not all(texts)):
        raise ValueError('"to" is empty: the environment variable that it is in may be unset')
    if not isinstance(texts, (list, tuple)) or not all(isinstance(each, str) for each in texts):
        raise ValueError('"to" is no list of addresses: write ["ops@example.com"]')
    if not all(each.isprintable() for each in texts):
        raise ValueError('"to" has control characters: leave them out')
    found = getaddresses(texts)
    for _name, address in found:
        _check_address(address, "to")
    return [str(Address(name, addr_spec=address)) for name, address in found]


def _check_address(address: Any, option: str) -> None:
    try:
        validate_email(address)
    except ValidationError:
        raise ValueError(
            f'"{option}" has {address!r}: write an address such as "ops@example.com"'
        ) from None
