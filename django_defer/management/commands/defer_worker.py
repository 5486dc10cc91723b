"""`manage.py defer_worker`: execute background functions, and fire schedules."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from django_defer.console import log_to_console
from django_defer.serve import serve


class Command(BaseCommand):
    """Start a cluster: a supervisor, its pusher and its workers."""

    help = "Execute background functions, and fire schedules, until told to stop."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--workers", type=int, metavar="N", help="worker processes")
        parser.add_argument(
            "--queue",
            action="append",
            dest="queues",
            metavar="Q",
            help="serve this queue only (repeatable); without it, every queue",
        )
        parser.add_argument(
            "--drain", action="store_true", help="do what can be done now, then exit"
        )
        parser.add_argument(
            "--reload", action="store_true", help="restart when code changes (DEBUG only)"
        )
        parser.add_argument(
            "--no-scheduler", action="store_true", help="leave schedules to other clusters"
        )
        parser.add_argument("--no-sync", action="store_true", help="do not sync before starting")

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve, and print what waits for later after a drain."""
        log_to_console(options["verbosity"], self.stderr)
        for line in serve(
            workers=options["workers"],
            queues=options["queues"],
            drain=options["drain"],
            reload=options["reload"],
            schedules=not options["no_scheduler"],
            sync_first=not options["no_sync"],
        ):
            self.stdout.write(line)
