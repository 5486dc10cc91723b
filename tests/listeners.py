"""Servers on loopback that alerts are sent to: they record what they get and answer as told."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiosmtpd.controller import Controller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage

CERTIFICATE = Path(__file__).with_name("loopback.pem")  # of 127.0.0.1, signed by itself, with key
LONGEST_HANG = 30.0  # seconds; each listener ends it earlier


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    method: str = "POST"

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer. `hang`: nothing at all; `trickle`: a byte at a time, without an end."""

    status: int = 200
    body: str = "ok"
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    trickle: bool = False
    drop: bool = False


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: some clients leave before the end."""


class HttpListener:
    """Records requests; answers with `replies` one after the other, and the last one from then."""

    def __init__(self, *, tls: bool = False) -> None:
        self.requests: list[Received] = []
        self.replies: list[Reply] = [Reply()]
        self.closing = threading.Event()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                received = Received(self.path, headers, self.rfile.read(size), self.command)
                listener.requests.append(received)
                listener.answer(self)

            do_GET = do_POST = do_PUT = handle_any  # noqa: N815

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.scheme = "https" if tls else "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server.server_address[1])

    def url(self, path: str = "/") -> str:
        """Return an address of it."""
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Give the next reply."""
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if reply.hang:
            self.closing.wait(LONGEST_HANG)
        if reply.hang or reply.drop:
            handler.close_connection = True
            return
        body = reply.body.encode()
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        if reply.trickle:
            handler.end_headers()
            self._trickle(handler)
            return
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _trickle(self, handler: BaseHTTPRequestHandler) -> None:
        while not self.closing.wait(0.05):
            try:
                handler.wfile.write(b".")
                handler.wfile.flush()
            except OSError:
                return

    def close(self) -> None:
        """Let go whoever hangs, and stop."""
        self.closing.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@contextmanager
def http_listener(*, tls: bool = False) -> Iterator[HttpListener]:
    """Listen as long as the block lasts."""
    listener = HttpListener(tls=tls)
    try:
        yield listener
    finally:
        listener.close()


class SmtpListener:
    """A mail server: takes all, unless `recipient` or `data` hold another answer."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.raw: list[bytes] = []
        self.recipients: list[list[str]] = []
        self.recipient = "250 OK"
        self.data = "250 OK"
        self.controller = Controller(self, hostname="127.0.0.1", port=free_port())
        self.controller.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.controller.port)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Take a recipient, or not."""
        if self.recipient.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.recipient

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: Any, session: Any, envelope: Any
    ) -> str:
        """Take a message, or not."""
        if self.data.startswith("250"):
            self.raw.append(envelope.content)
            parsed: Any = message_from_bytes(envelope.content, policy=policy.default)
            self.messages.append(parsed)
            self.recipients.append(list(envelope.rcpt_tos))
        return self.data


@contextmanager
def smtp_listener() -> Iterator[SmtpListener]:
    """Take mail as long as the block lasts."""
    listener = SmtpListener()
    try:
        yield listener
    finally:
        listener.controller.stop()


@contextmanager
def silent_listener() -> Iterator[int]:
    """Take connections and never say a word; the value is the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def free_port() -> int:
    """Return a port on which nobody listens, for now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
