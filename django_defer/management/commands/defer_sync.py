"""`manage.py defer_sync`: bring functions and cron definitions in line with the code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from django_defer.conf import conf
from django_defer.console import plain_errors
from django_defer.sync import sync
from django_defer.unfit import unfit_runs

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Sync, and print what changed."""

    help = "Write what the code says about functions and cron definitions into the database."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--dry-run", action="store_true", help="show the difference, and change nothing"
        )
        parser.add_argument(
            "--check",
            action="store_true",
            help="the same, with the waiting runs that this code could not execute, and exit "
            "with 1 if there is anything",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the report; with --check, fail if it isn't empty."""
        with plain_errors():
            report = sync(dry_run=options["dry_run"] or options["check"])
            unfit = [*unfit_runs(str(conf.database))] if options["check"] else []
        if options["verbosity"] > 0:
            for line in [*report.lines(), *(f"unfit    {line}" for line in unfit)]:
                self.stdout.write(line)
            if report.is_empty and not report.problems and not unfit:
                self.stdout.write("Nothing to do.")
        if not options["check"]:
            return
        if unfit:
            raise CommandError("Waiting runs do not fit this code: see the lines above.")
        if report.problems or not report.is_empty:
            raise CommandError("The database differs from the code: run `manage.py defer_sync`.")
