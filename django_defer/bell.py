"""A bell: a pipe by which processes of a cluster wake one of them that waits on `fd`."""

from __future__ import annotations

import os


class Bell:
    """Shared by fork: make it before the first child. Ringing never blocks."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write, False)

    def ring(self) -> None:
        """Make `fd` readable. May be called from a signal handler."""
        try:
            os.write(self._write, b".")
        except BlockingIOError:  # a full pipe wakes just as well
            pass

    def answer(self) -> None:
        """Forget the rings that were heard."""
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            pass
