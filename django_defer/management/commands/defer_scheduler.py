"""`manage.py defer_scheduler`: fire schedules and promote due runs, without executing any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from django_defer.alerter import alerting
from django_defer.conf import conf
from django_defer.connections import keep_connections
from django_defer.console import log_to_console, plain_errors, until_signalled
from django_defer.scheduler import look, run_scheduler, tick

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Run the scheduler alone."""

    help = "Fire schedules and promote runs that are due, until told to stop; execute nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--once", action="store_true", help="do what is due now, then exit")

    def handle(self, *args: Any, **options: Any) -> None:
        """Tick once and print the counts, or tick until SIGTERM or Ctrl-C."""
        log_to_console(options["verbosity"], self.stderr)
        using = str(conf.database)
        with plain_errors():
            if options["once"]:
                done = tick(using, look(using).now)
                if options["verbosity"] > 0:
                    self.stdout.write(f"{done.fired} slots fired, {done.promoted} runs promoted.")
                return
            keep_connections()
            with until_signalled() as should_stop, alerting(using) as alert:
                run_scheduler(using, should_stop, also=alert)
