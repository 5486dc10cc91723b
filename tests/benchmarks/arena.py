"""Where they compete: a PostgreSQL server, a scratch database each, processes that end with us."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import psycopg
from psycopg import sql

from tests import postgres
from tests.benchmarks import processes
from tests.benchmarks.contenders import Contender

MANAGE: Final = [sys.executable, "-m", "django"]

T = TypeVar("T")


@dataclass
class Arena:
    """The server, the databases made on it so far, and how thoroughly to measure.

    What the processes log goes to files or to nowhere, at each contender's own level.
    """

    rounds: int = 3
    quick: bool = False
    private: postgres.PrivateServer | None = None  # the server, if it is ours
    databases: dict[str, str] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        """Find the server of the environment, or start a private one."""
        if not postgres.is_configured():
            self.private = self._stack.enter_context(postgres.PrivateServer())
            os.environ.update(self.private.environment)
        os.environ.setdefault("PGUSER", "postgres")
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.stamps = self.directory / "stamps"
        self.stamps.touch()
        self._connect()
        self._stack.callback(lambda: self.server.close())
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Drop the databases, then the server if it is ours."""
        for name in self.databases.values():
            self._execute_named("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
        self._stack.close()

    def crash(self) -> None:
        """Let our private server crash, and return when it is back."""
        assert self.private is not None
        self.server.close()
        self.private.restart("immediate")
        self._connect()

    def _connect(self) -> None:
        self.server = psycopg.connect(dbname="postgres", autocommit=True)

    def in_turns(self, contenders: list[T]) -> Iterator[T]:
        """Return each contender once a round, beginning with another one each time."""
        for turn in range(self.rounds):
            start = turn % len(contenders)
            yield from contenders[start:] + contenders[:start]

    # -- databases ---------------------------------------------------------------------------

    def database(self, contender: Contender) -> str:
        """Return its migrated database, made when it is first asked for."""
        if contender.name not in self.databases:
            self.create_database(contender.name)
            subprocess.run(
                [*MANAGE, "migrate", "--verbosity", "0"],
                env=self.environment(contender),
                check=True,
            )
        return self.databases[contender.name]

    def create_database(self, name: str) -> str:
        """Make an empty database for the contender called `name`; return the database's name."""
        database = f"defer_bench_{os.getpid()}_{name}"
        self._execute_named("CREATE DATABASE {}", database)
        self.databases[name] = database
        return database

    @contextmanager
    def connection(self, contender: Contender) -> Iterator[psycopg.Connection]:
        """Connect to its database, in autocommit."""
        with psycopg.connect(dbname=self.database(contender), autocommit=True) as connection:
            yield connection

    def clear(self, contender: Contender) -> None:
        """Empty its tables and forget the stamps."""
        self.stamps.write_bytes(b"")
        with self.connection(contender) as connection:
            tables = sql.SQL(", ").join(map(sql.Identifier, contender.tables))
            connection.execute(sql.SQL("TRUNCATE {}").format(tables))

    def drop(self, contender: Contender) -> None:
        """Drop its database now: it is big, and of no use to the others."""
        self._execute_named("DROP DATABASE {} WITH (FORCE)", self.databases.pop(contender.name))

    def settle(self, contender: Contender) -> None:
        """Let nobody pay for another's writes: fresh statistics, and a checkpoint now."""
        with self.connection(contender) as connection:
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")

    def _execute_named(self, statement: str, name: str) -> None:
        self.server.execute(sql.SQL(statement).format(sql.Identifier(name)))

    # -- processes ---------------------------------------------------------------------------

    def step(self, contender: Contender, *arguments: object) -> Any:
        """Run a function of `steps` with its settings; return what it returned."""
        self.database(contender)
        command = [sys.executable, "-m", "tests.benchmarks.steps", *map(str, arguments)]
        log = self.directory / "log"
        try:
            with log.open("w") as errors:
                output = subprocess.run(
                    command,
                    env=self.environment(contender),
                    check=True,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                ).stdout
        except subprocess.CalledProcessError as error:
            error.add_note(log.read_text()[-2000:])
            raise
        return json.loads(output)

    @contextmanager
    def workers(self, contender: Contender) -> Iterator[None]:
        """Have its workers running inside."""
        with self.process(contender) as process:
            yield
            if process.poll() is not None:
                raise RuntimeError(f"{contender.label}: its workers ended, {process.returncode}.")

    @contextmanager
    def process(
        self, contender: Contender, log: Path | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start the process that has its workers, which may have ended when this does.

        With a `log`, it writes there what it does, the ids of its processes too.
        """
        self.database(contender)
        command = [*MANAGE, *contender.command, *(["--verbosity", "2"] if log else [])]
        with (
            (log or Path(os.devnull)).open("wb") as output,
            processes.process(command, self.environment(contender), output) as process,
        ):
            yield process

    def environment(self, contender: Contender) -> dict[str, str]:
        """Return the variables of its processes. Its database exists."""
        return contender.environment(self.databases[contender.name], str(self.stamps))


def wait_for_zero(connection: psycopg.Connection, query: str, *, within: float) -> None:
    """Return when the query says 0."""
    until = time.monotonic() + within
    while count(connection, query):
        if time.monotonic() > until:
            raise TimeoutError(f"not done after {within:g} s: {query}")
        time.sleep(0.1)


def count(connection: psycopg.Connection, query: str) -> int:
    """Return the number that a query returns."""
    ((number,),) = connection.execute(query).fetchall()
    return int(number)
