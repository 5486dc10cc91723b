"""Servers on loopback that tests start: a Sentry, a dead man's switch; they keep what they get."""

from __future__ import annotations

import gzip
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class Received:
    """What a server was asked: (method, path) and bodies, in their order."""

    port: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def dsn(self) -> str:
        """The same, as the address of a project in Sentry."""
        return f"http://key@127.0.0.1:{self.port}/1"

    @property
    def paths(self) -> list[str]:
        """The paths that were asked for."""
        return [path for _, path in self.requests]

    def items(self, kind: str) -> list[dict[str, Any]]:
        """Return the items of this type ("event", "check_in") in all envelopes, in their order."""
        return [item for body in list(self.bodies) for item in _items(body, kind)]


def _items(envelope: bytes, kind: str) -> Iterator[dict[str, Any]]:
    rest = envelope.partition(b"\n")[2]  # after the envelope's own header
    while rest:
        line, _, rest = rest.partition(b"\n")
        if not line:
            continue
        header = json.loads(line)
        length = header.get("length")
        payload, rest = (rest[:length], rest[length:]) if length else rest.split(b"\n", 1)
        if header["type"] == kind:
            yield json.loads(payload)


@contextmanager
def listening() -> Iterator[Received]:
    """Run a server that answers as `status` and `headers` say, and keeps what it was asked."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            received.bodies.append(body)
            received.requests.append((self.command, self.path))
            self.send_response(received.status)
            for name, value in received.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - the name is http.server's

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    received.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
