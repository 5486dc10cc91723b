"""`manage.py defer_status`: is it working right now?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from django_defer.clock import database_now
from django_defer.conf import conf
from django_defer.console import plain_errors
from django_defer.reports import DEFINITIONS_SHOWN, status
from django_defer.status_json import as_json
from django_defer.status_text import lines, troubles

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Print who works, what waits, what failed and what fires next."""

    help = "Say whether it works right now, and exit with 1 if it does not."
    requires_system_checks = ()  # it reads rows only: a fault in the code must not hide them

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--all",
            action="store_true",
            help=f"show every cron definition, not the first {DEFINITIONS_SHOWN}",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the status; trouble is an error."""
        with plain_errors():
            now = database_now(str(conf.database))
            found = status(now, most=None if options["all"] else DEFINITIONS_SHOWN)
        if options["json"]:
            self.stdout.write(json.dumps(as_json(found), indent=2))
        elif options["verbosity"] > 0:
            for line in lines(found, self.style):
                self.stdout.write(line)
        if trouble := list(troubles(found)):
            raise CommandError(" ".join(trouble))
