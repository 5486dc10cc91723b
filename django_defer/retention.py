"""How long ended runs are kept: `keep_succeeded`, `keep_failed` and the last N of each function.

The settings say it for all functions, the options of a function for its own. It is read from rows
alone, so a host that does not have a function's code keeps its runs as long as one that does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django_defer.clock import LONGEST_OFFSET
from django_defer.conf import conf
from django_defer.exceptions import InvalidDuration, InvalidOption
from django_defer.ids import first_uuid7_of
from django_defer.models import BackgroundFunction, Run
from django_defer.retention_options import KEEP, read_option
from django_defer.states import State

# What went as it should, and what somebody may have to look into.
KEPT_AS: Final = {
    State.SUCCEEDED: "keep_succeeded",
    State.SKIPPED: "keep_succeeded",
    State.FAILED: "keep_failed",
    State.ABORTED: "keep_failed",
    State.CANCELLED: "keep_failed",
    State.DISCARDED: "keep_failed",
}


@dataclass(slots=True)
class Retention:
    """What is kept, as of one moment."""

    using: str
    now: datetime
    general: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]]  # by the function's key
    _oldest_kept: dict[str, UUID | None] = field(default_factory=dict)

    @classmethod
    def read(cls, using: str, now: datetime) -> Retention:
        """Read settings and functions."""
        general = {name: read_option(name, getattr(conf, name)) for name in KEEP}
        rows = BackgroundFunction.objects.using(using).values_list("key", "options")
        own = {key: known for key, options in rows if (known := _readable(options))}
        return cls(using, now, general, own)

    def is_over(
        self, run_id: UUID, function: str, state: str, finished_at: datetime | None
    ) -> bool:
        """Say whether a run that has ended need not be kept any more."""
        options = {**self.general, **self.own.get(function, {})}
        span = options[KEPT_AS[State(state)]]
        if span is None or finished_at is None or self.now - finished_at < span:
            return False
        oldest = self._oldest_of_the_last(function, options["keep_last"])
        return oldest is not None and run_id < oldest

    def first_id_kept(self) -> UUID | None:
        """Return an id before which all that can be removed was enqueued; None: nothing can."""
        spans = [
            span
            for options in (self.general, *self.own.values())
            for name, span in options.items()
            if name != "keep_last" and span is not None
        ]
        return first_uuid7_of(self.now - min(*spans, LONGEST_OFFSET)) if spans else None

    def _oldest_of_the_last(self, function: str, count: int) -> UUID | None:
        """Return the oldest of a function's last `count` runs; None: it has not so many."""
        if function not in self._oldest_kept:
            if count:
                runs = Run.objects.using(self.using).filter(function=function).order_by("-pk")
                oldest = runs.values_list("pk", flat=True)[count - 1 : count].first()
            else:
                oldest = UUID(int=(1 << 128) - 1)
            self._oldest_kept[function] = oldest
        return self._oldest_kept[function]


def _readable(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row says and can be read: another version may have written it."""
    found: dict[str, Any] = {}
    for name in KEEP:
        if name in options:
            try:
                found[name] = read_option(name, options[name])
            except (InvalidDuration, InvalidOption):
                if name != "keep_last":
                    found[name] = None
    return found
