"""Several threads at one starting line, each with connections of its own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from django.db import connections

from tests.runs import DATABASE, is_postgres

if TYPE_CHECKING:
    from collections.abc import Callable


def race(*actions: Callable[[], Any]) -> list[Any]:
    """Do all at once; return what each returned. An error of one is raised."""
    line = threading.Barrier(len(actions), timeout=10)

    def run(action: Callable[[], Any]) -> Any:
        try:
            with connections[DATABASE].cursor() as cursor:
                if is_postgres():  # so that a test that would wait for ever fails
                    cursor.execute("SET lock_timeout = '10s'")
            line.wait()
            return action()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(actions)) as pool:
        return [future.result(timeout=60) for future in [pool.submit(run, a) for a in actions]]
