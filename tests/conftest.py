"""What every test shares: the server, the databases a test is meant for, and no silent skips."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NoReturn

import pytest
from django.conf import settings

from tests import databases, postgres

if TYPE_CHECKING:
    from collections.abc import Generator

SERVER = pytest.StashKey[postgres.PrivateServer]()


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test for want of a tool; in CI, where nothing may be wanting, fail it."""
    if in_ci():
        pytest.fail(f"{reason} (in CI nothing is skipped)", pytrace=False)
    pytest.skip(reason)


def in_ci() -> bool:
    """Say whether this is CI."""
    return os.environ.get("CI", "").lower() in ("1", "true")


def pytest_configure(config: pytest.Config) -> None:
    """Start a private PostgreSQL if this run wants one and none is configured.

    Programs that tests start get Ctrl-C's usual handling back: a shell that starts something in the
    background makes it, and all that it starts, ignore SIGINT.

    Processes that pytest-xdist or a test starts find it in the environment.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if databases.is_postgres() and not postgres.is_configured():
        server = config.stash[SERVER] = postgres.PrivateServer().start()
        os.environ.update(server.environment)
        for database in settings.DATABASES.values():
            database.update(databases.server_from_environment())


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what pytest_configure started."""
    if (server := config.stash.get(SERVER, None)) is not None:
        server.remove()


def pytest_report_header() -> str:
    """Say which database this run is on."""
    return f"database: {'PostgreSQL' if databases.is_postgres() else 'SQLite'}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that are meant for the other database; mark tests by their directory."""
    other = "sqlite" if databases.is_postgres() else "postgres"
    deselected = [item for item in items if item.get_closest_marker(other)]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if not item.get_closest_marker(other)]
    for item in items:
        for kind in ("acceptance", "browser"):
            if kind in item.path.parts:
                item.add_marker(kind)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure in CI: there, a missing tool is a fault."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and in_ci():
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself."""
    report = yield
    if report.skipped and in_ci():
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
