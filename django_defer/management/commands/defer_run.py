"""`manage.py defer_run`: enqueue one run of a function by its key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from django_defer.console import plain_errors
from django_defer.operations import run_now

if TYPE_CHECKING:
    from argparse import ArgumentParser

SHAPE = """write a list such as '[1, "two"]', or '{"args": [1], "kwargs": {"second": "two"}}'"""


class Command(BaseCommand):
    """Enqueue a run, and wait for its end if told to."""

    help = "Enqueue a run of a background function, or of a scheduled one outside its schedule."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("key", help="such as shop.compute_product_recommendation")
        parser.add_argument("--args", dest="call", metavar="JSON", default="[]", help=SHAPE)
        parser.add_argument("--wait", action="store_true", help="wait, and print the result")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the run's id, then the result; a run that fails is an error."""
        key, write = options["key"], self.stdout.write if options["verbosity"] > 0 else str
        with plain_errors():
            try:
                run = run_now(key, actor="manage.py defer_run", call=read_call(options["call"]))
            except TypeError as error:  # from the function's signature
                raise CommandError(f"{error}.") from error
            write(str(run.pk))
            if options["wait"]:
                try:
                    write(repr(run.get_result()))
                except KeyboardInterrupt:
                    raise CommandError("Not waiting any more; the run goes on.") from None


def read_call(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments that the text stands for."""
    try:
        call = json.loads(text)
    except ValueError as error:
        raise CommandError(f"--args is not JSON ({error}): {SHAPE}.") from error
    call = {"args": call} if isinstance(call, list) else call
    if isinstance(call, dict) and call.keys() <= {"args", "kwargs"}:
        args, kwargs = call.get("args", []), call.get("kwargs", {})
        if isinstance(args, list) and isinstance(kwargs, dict):
            return args, kwargs
    raise CommandError(f"--args {text}: {SHAPE}.")
