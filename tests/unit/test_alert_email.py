"""Mail: both parts, one conversation an alert, and which answers of a mail server are final."""

from __future__ import annotations

import re
import smtplib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import django
import pytest
from django.core import mail
from django.test import override_settings

from django_defer.alerts import email
from django_defer.alerts.email import EmailChannel
from django_defer.alerts.messages import Refused, TryLater
from django_defer.models.alerts import MessageKind
from tests.alert_messages import NASTY, new_example, new_message
from tests.listeners import SmtpListener, free_port, silent_listener, smtp_listener

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage

    from django_defer.alerts.messages import Message

TO = ["ops@example.com"]
BACKEND = "django.core.mail.backends.smtp.EmailBackend"


@contextmanager
def mail_server(port: int, **options: Any) -> Iterator[None]:
    """Let Django mail to that port."""
    if django.VERSION >= (6, 1):
        options = {"host": "127.0.0.1", "port": port, **options}
        with override_settings(MAILERS={"default": {"BACKEND": BACKEND, "OPTIONS": options}}):
            yield
    else:
        names = {"username": "HOST_USER", "password": "HOST_PASSWORD", "timeout": "TIMEOUT"}
        more = {f"EMAIL_{names[name]}": value for name, value in options.items()}
        with override_settings(
            EMAIL_BACKEND=BACKEND, EMAIL_HOST="127.0.0.1", EMAIL_PORT=port, **more
        ):
            yield


@pytest.fixture
def server() -> Iterator[SmtpListener]:
    with smtp_listener() as listener, mail_server(listener.port):
        yield listener


def sent(server: SmtpListener, message: Message | None = None, **options: Any) -> EmailMessage:
    EmailChannel("email", **{"to": TO, **options}).send(message or new_message())
    return server.messages[-1]


def part(message: EmailMessage, kind: str) -> str:
    body: Any = message.get_body((kind,))
    return str(body.get_content())


def test_a_mail_has_all_in_text_and_in_html(server: SmtpListener) -> None:
    message = sent(server, to=["ops@example.com", "Ann Lee <ann@example.com>"])
    assert message.get_content_type() == "multipart/alternative"
    assert message["Subject"] == "shop.send_report failed 5,000 times"
    assert message["From"] == "webmaster@localhost"
    assert message["To"] == "ops@example.com, Ann Lee <ann@example.com>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert server.recipients == [["ops@example.com", "ann@example.com"]]
    html = part(message, "html")
    for body in (part(message, "plain"), re.sub(r"\s+", " ", html.replace("&amp;", "&"))):
        for text in (
            "All attempts are used up.",
            "user 42",
            "plan: pro, country: de",
            "2026-11-23 08:00 UTC",
            "3 of 300 of shop.weekly, 2026-11-23 08:00 UTC",
            "17 of 17",
            "ValueError: no such user",
            "user 43",
            "and 4,998 more",
            "2026-11-23 08:00:00 UTC to 2026-11-23 08:05:00 UTC",
            "https://shop.example.com/admin/run/0193a1b2-0000-7000-8000-000000000001/?a=1&b=2",
            "https://shop.example.com/admin/alert/7/",
        ):
            assert text in body


def test_the_text_reads_as_it_is_laid_out(server: SmtpListener) -> None:
    body = part(sent(server, new_message(count=1, examples=(new_example(),))), "plain")
    assert body.replace("\r\n", "\n") == (
        "All attempts are used up.\n"
        "\n"
        "For: user 42\n"
        "Metadata: plan: pro, country: de\n"
        "Slot: 2026-11-23 08:00 UTC\n"
        "Position: 3 of 300 of shop.weekly, 2026-11-23 08:00 UTC\n"
        "Attempts: 17 of 17\n"
        "When: 2026-11-23 08:03:00 UTC\n"
        "Error: ValueError: no such user\n"
        "https://shop.example.com/admin/run/0193a1b2-0000-7000-8000-000000000001/?a=1&b=2\n"
        "\n"
        "2026-11-23 08:00:00 UTC to 2026-11-23 08:05:00 UTC\n"
        "https://shop.example.com/admin/alert/7/\n"
    )


def test_what_functions_say_adds_no_header_and_no_markup(server: SmtpListener) -> None:
    example = new_example(error=NASTY, label=NASTY, metadata={NASTY: NASTY}, url="javascript:1\"'>")
    message = sent(server, new_message(title=NASTY, text=NASTY, examples=(example,)))
    assert message["Bcc"] is None
    assert server.recipients == [TO]
    assert "\n" not in message["Subject"]
    assert "Bcc: x@evil.example" in message["Subject"]
    html = part(message, "html")
    assert "<script" not in html
    assert "<!channel>" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert 'href="javascript:1"' not in html
    for body in (html, part(message, "plain")):
        assert all(line.isprintable() for line in body.splitlines())
    # The text is for people, not for a browser: nothing is escaped in it.
    assert "<script>alert(1)</script> \"'" in part(message, "plain")


def test_a_prefix_and_a_sender_can_be_given(server: SmtpListener) -> None:
    message = sent(server, subject_prefix="[shop] ", from_="Shop <alerts@shop.example.com>")
    assert message["Subject"] == "[shop] shop.send_report failed 5,000 times"
    assert message["From"] == "Shop <alerts@shop.example.com>"
    with override_settings(DEFAULT_FROM_EMAIL="site@shop.example.com"):
        assert sent(server)["From"] == "site@shop.example.com"


def test_all_messages_of_an_alert_are_one_conversation(server: SmtpListener) -> None:
    opened = sent(server)
    reminder = sent(server, new_message(id="alert-7-2", kind=MessageKind.REMINDER, count=9000))
    over = sent(server, new_message(id="alert-7-3", kind=MessageKind.RECOVERED))
    again = sent(server)
    first = opened["Message-ID"]
    assert re.fullmatch(r"<django-defer\.[0-9a-f]{32}@localhost>", first)
    assert opened["References"] is None
    assert (reminder["In-Reply-To"], reminder["References"]) == (first, first)
    assert (over["In-Reply-To"], over["References"]) == (first, first)
    assert again["Message-ID"] == first
    assert len({each["Message-ID"] for each in (opened, reminder, over)}) == 3
    other = sent(server, new_message(subject="shop.other"))
    assert other["Message-ID"] != first
    test = sent(server, new_message(id="test-1", kind=MessageKind.TEST))
    assert test["References"] is None


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"recipient": "550 5.1.1 no such mailbox"}, Refused),
        ({"recipient": "450 4.2.1 greylisted"}, TryLater),
        ({"data": "554 5.7.1 looks like spam"}, Refused),
        ({"data": "451 4.3.0 try again"}, TryLater),
    ],
    ids=str,
)
def test_an_answer_of_the_mail_server_is_final_or_not(
    server: SmtpListener, values: dict[str, str], error: type[Exception]
) -> None:
    ((name, answer),) = values.items()
    setattr(server, name, answer)
    with pytest.raises(error) as caught:
        EmailChannel("email", to=TO).send(new_message())
    assert type(caught.value) is error
    code, _, words = answer.partition(" ")
    assert str(caught.value) == f"SMTP {code}: {words}"


def test_one_of_several_recipients_may_be_greylisted(server: SmtpListener) -> None:
    answers = {"a@example.com": (550, b"unknown"), "b@example.com": (450, b"later")}
    found = email._judge(smtplib.SMTPRecipientsRefused(answers), [])
    assert isinstance(found, TryLater)
    assert str(found) == "SMTP 450: later"


def test_a_mail_server_that_is_gone_is_tried_later() -> None:
    with mail_server(free_port()), pytest.raises(TryLater, match="Connection refused"):
        EmailChannel("email", to=TO).send(new_message())


def test_a_mail_server_that_hangs_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert email.SECONDS == 10
    monkeypatch.setattr(email, "SECONDS", 0.3)
    with silent_listener() as port, mail_server(port), pytest.raises(TryLater) as caught:
        EmailChannel("email", to=TO).send(new_message())
    assert str(caught.value) == "no answer from the mail server in time"


def test_the_projects_own_time_limit_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(email, "SECONDS", 60)
    with silent_listener() as port, mail_server(port, timeout=1), pytest.raises(TryLater):
        EmailChannel("email", to=TO).send(new_message())


@pytest.mark.parametrize(
    "error",
    [
        smtplib.SMTPAuthenticationError(535, b"5.7.8 opensesame is not the password"),
        smtplib.SMTPException("login with opensesame failed"),
    ],
    ids=str,
)
def test_a_login_that_fails_is_tried_later_and_tells_no_password(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    class Backend:
        password = "opensesame"

        def send_messages(self, messages: object) -> None:
            raise error

    monkeypatch.setattr(email, "_connection", Backend)
    with pytest.raises(TryLater) as caught:
        EmailChannel("email", to=TO).send(new_message())
    assert "sesame" not in repr(caught.value)
    assert "•••" in str(caught.value)


def test_any_backend_of_the_project_will_do() -> None:
    answer = EmailChannel("email", to=TO).send(new_message())
    assert answer == "handed to the mail server for ops@example.com"
    assert [message.to for message in mail.outbox] == [TO]


@pytest.mark.parametrize(
    ("to", "addresses"),
    [
        ("ops@example.com", ["ops@example.com"]),
        ("a@example.com, b@example.com", ["a@example.com", "b@example.com"]),
        (("Ann Lee <a@example.com>",), ["Ann Lee <a@example.com>"]),
        (['"Lee, Ann" <a@example.com>'], ['"Lee, Ann" <a@example.com>']),
    ],
)
def test_addresses_are_a_list_or_a_text(to: Any, addresses: list[str]) -> None:
    assert EmailChannel("email", to=to)._to == addresses


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"to": None}, '"to" is empty'),
        ({"to": ""}, '"to" is empty'),
        ({"to": []}, '"to" is empty'),
        ({"to": [None]}, '"to" is empty'),
        ({"to": 5}, '"to" is no list of addresses'),
        ({"to": [5]}, '"to" is no list of addresses'),
        ({"to": ["ops"]}, "\"to\" has 'ops': write an address"),
        ({"to": ["a@example.com\nBcc: b@example.com"]}, '"to" has control characters'),
        ({"to": TO, "from_": "shop"}, '"from_" has'),
        ({"to": TO, "subject_prefix": 5}, '"subject_prefix" is no text'),
    ],
    ids=str,
)
def test_what_is_no_address_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        EmailChannel("email", **options)
    assert says in str(caught.value)
