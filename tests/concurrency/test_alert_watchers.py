"""Several look at once for slots whose runs did not begin: each is told once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from django_defer.alerts.conditions import watch
from django_defer.clock import database_now
from django_defer.models import AlertEvent
from tests import runs
from tests.concurrency.processes import together
from tests.runs import DATABASE, defer_settings, new_cluster, new_definition, new_run

pytestmark = [
    runs.committing,
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

ALERTS = ({"channel": "log", "events": ["slot_missed"]},)
TIMES = ("slot", "run_after", "enqueued_at", "queued_at")
MINUTE = timedelta(minutes=1)


def test_a_missed_slot_is_told_once_however_many_look() -> None:
    now = database_now(DATABASE)
    new_cluster(beat_at=now + 5 * MINUTE)
    for n in range(30):
        key, slot = f"shop.f{n}", now - 10 * MINUTE + (n % 3) * MINUTE
        run: dict[str, Any] = dict.fromkeys(TIMES, slot)
        new_run(key, definition=new_definition(key), **run)

    def look() -> None:
        for seconds in range(0, 200, 10):
            watch(DATABASE, now + timedelta(seconds=seconds))

    with defer_settings(ALERTS=ALERTS):
        together(*[look] * 4)
    told = list(AlertEvent.objects.values_list("subject", flat=True))
    assert sorted(told) == sorted(f"shop.f{n}" for n in range(30))
