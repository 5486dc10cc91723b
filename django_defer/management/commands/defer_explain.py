"""`manage.py defer_explain`: why a run or a definition does what it does, or does nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from django_defer.clock import database_now
from django_defer.conf import conf
from django_defer.console import plain_errors
from django_defer.explain_text import lines
from django_defer.subjects import NotFound, find

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Print the sentence that says why, then the facts."""

    help = "Say what a run, a cron definition or a background function does now, and why."
    requires_system_checks = ()  # it reads rows only: a fault in the code must not hide them

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the argument."""
        parser.add_argument(
            "name",
            metavar="RUN_OR_DEFINITION",
            help="a run's id, its first characters or last 8 digits; or a key such as shop.weekly",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the explanation; a name that means nothing is an error."""
        with plain_errors():
            try:
                subject = find(options["name"])
            except NotFound as error:
                raise CommandError(str(error)) from None
            for line in lines(subject, database_now(str(conf.database))):
                self.stdout.write(line)
