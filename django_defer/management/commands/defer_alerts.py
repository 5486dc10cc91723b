"""`manage.py defer_alerts`: tell what there is to tell, from a system cron."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from django_defer.alerts.foreground import describe_channels, run_pass
from django_defer.alerts.trial import TrialFailed, send_test
from django_defer.conf import conf
from django_defer.connections import UNREACHABLE
from django_defer.console import log_to_console, plain_errors
from django_defer.exceptions import NotMigrated

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Notice what is wrong and send what is due, once."""

    help = "Notice what is wrong, and send the alerts that are due; for a system cron."
    requires_system_checks = ()  # a fault in the code must not keep it silent

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--seconds", type=float, default=30.0, help="how long it may take (30 by default)"
        )
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--test", metavar="NAME", help="send a test message by this channel")
        what.add_argument("--list", action="store_true", help="show the channels of ALERTS")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it and print what came of it; 2 is the exit code when the database is away."""
        log_to_console(options["verbosity"], self.stderr)
        try:
            with plain_errors():
                self._do(options)
        except TrialFailed as error:
            raise CommandError(str(error)) from error
        except CommandError as error:
            cause = error.__cause__
            if isinstance(cause, UNREACHABLE) and not NotMigrated.explains(cause):
                error.returncode = 2
            raise

    def _do(self, options: dict[str, Any]) -> None:
        using = str(conf.database)
        if options["test"]:
            self.stdout.write(f"{options['test']} answered: {send_test(options['test'])}")
        elif options["list"]:
            for line in describe_channels(using):
                self.stdout.write(line)
        else:
            done = run_pass(using, options["seconds"])
            if options["verbosity"] > 0:
                self.stdout.write(str(done))
