"""`manage.py defer_prune`: remove runs that ended long ago."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from django_defer.clock import database_now
from django_defer.conf import conf
from django_defer.console import plain_errors
from django_defer.prune import prune

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Prune now, all that need not be kept."""

    help = "Remove ended runs that need not be kept any more; workers do it by themselves, too."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--dry-run", action="store_true", help="show what would be removed, and remove nothing"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print how many runs of each function and state were removed."""
        using, dry_run = str(conf.database), options["dry_run"]
        with plain_errors():
            removed = prune(using, database_now(using), dry_run=dry_run)
        if options["verbosity"] < 1:
            return
        for (function, state), count in sorted(removed.items()):
            self.stdout.write(f"{function}: {count:,} {state}")
        verb = "would be removed" if dry_run else "removed"
        total = removed.total()
        self.stdout.write(f"{total:,} {'run' if total == 1 else 'runs'} {verb}.")
