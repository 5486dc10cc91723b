"""What every process of a project pays for the app: nothing heavy is imported before it is used."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

# What workers, one channel of alerts, or who describes a schedule need, and nobody else does.
HEAVY: Final = {
    *("apprise", "cron_descriptor", "croniter", "dateutil", "django.contrib.admin", "django_q"),
    *("multiprocessing", "prometheus_client", "requests", "sentry_sdk", "slack_sdk", "smtplib"),
    *("sqlite3", "standardwebhooks", "unittest", "urllib.request"),
}
# Of our own: for who runs something, is alerted, or has a cron expression.
FOR_FEW: Final = {
    f"django_defer.{name}"
    for name in ("alerts.recording", "board", "cron", "executor", "schedules", "sentry", "signals")
}

# On PostgreSQL, since Django itself imports sqlite3 for SQLite. What Django brings doesn't count.
PROJECT: Final = """
import sys
import django
from django.conf import settings
from django.core.management import call_command
import django.db.backends.postgresql.base
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django_defer"],
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "never_asked"}},
)
before = set(sys.modules)
django.setup()
"""
SCHEDULE: Final = """
from django_defer.cron import CronSchedule
schedule = CronSchedule("*/5 * * * MON")
"""


def loaded_by(code: str) -> set[str]:
    """Return the modules that the project imports when it starts and then executes `code`."""
    tell = "print('loaded', *set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-c", f"{PROJECT}\n{code}\n{tell}"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_starting_and_checking_a_project_imports_nothing_heavy() -> None:
    loaded = loaded_by("call_command('check')")
    assert {"django_defer.models.runs", "django_defer.checks.database"} <= loaded
    assert loaded & (HEAVY | FOR_FEW) == set()


def test_a_cron_expression_imports_what_reads_it_and_nothing_more() -> None:
    assert loaded_by(SCHEDULE) & HEAVY == {"croniter", "dateutil"}


def test_a_schedule_put_into_words_imports_what_words_it() -> None:
    assert "cron_descriptor" in loaded_by(f"{SCHEDULE}\nschedule.describe()")
