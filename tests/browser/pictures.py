"""Draw the pictures of the documentation: `make pictures`.

A shop with a day of runs behind it, in Chromium; the pictures go to docs/pictures. Not collected as
a test: a picture is looked at by a person.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from django.contrib.auth.models import User

from django_defer.models import (
    Alert,
    BackgroundFunction,
    CronDefinition,
    LogLine,
    Progress,
    Run,
)
from django_defer.states import Outcome, State
from tests.admin_rows import ago, call, make_attempt, make_cluster, make_finished, make_run

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.django_db(transaction=True)

PICTURES: Final = Path(__file__).parents[2] / "docs" / "pictures"
ADMIN: Final = "/admin/django_defer/"
FUNCTIONS: Final = {  # seconds that a run takes, one in how many fails, runs a day
    "shop.compute_recommendations": (1.8, 60, 420),
    "shop.send_recommendations": (0.35, 35, 420),
    "shop.import_orders": (12.0, 0, 48),
    "shop.resize_photo": (0.6, 90, 260),
    "billing.send_invoice": (0.9, 25, 90),
    "billing.close_month": (45.0, 0, 2),
}
SCHEDULES: Final = {
    "shop.weekly_recommendations": "0 8 * * MON",
    "shop.import_orders": "*/30 * * * *",
    "billing.close_month": "0 4 1 * *",
    "shop.warm_caches": "15 * * * *",
}
ERROR: Final = "requests.exceptions.ConnectTimeout"
MESSAGE: Final = "mail.example.com did not answer within 10 s"


@pytest.fixture
def shop(admin_user: User, settings: Any) -> dict[str, Run]:
    """A day of a shop, always the same but for the time of the day."""
    settings.DEFER = {"ALERTS": [{"channel": "log"}]}
    chance = random.Random(8)
    for key in {*FUNCTIONS, *SCHEDULES}:
        module = f"{key.partition('.')[0]}.defer"
        options = {"max_attempts": 17, "max_duration": "5m", "atomic": key in SCHEDULES}
        BackgroundFunction.objects.create(
            key=key, module=module, line=len(key), options=options, synced_at=ago(days=1)
        )
    runs = [_past(chance, key) for key, facts in FUNCTIONS.items() for _ in range(facts[2])]
    Run.objects.bulk_create(sorted(runs, key=lambda run: run.enqueued_at))
    for key, expression in SCHEDULES.items():
        definition = CronDefinition(function_id=key, code_expression=expression)
        definition.next_slot_at = definition.schedule.next_after(datetime.now(UTC))
        definition.last_slot_at = definition.schedule.previous_before(datetime.now(UTC))
        definition.save()
    make_cluster(versions={"python": "3.13.1", "django": "6.1", "django_defer": "0.1.0"})
    make_cluster(host="worker-2.internal", started_at=ago(days=2))
    for number in range(7):
        make_run(function_id="shop.resize_photo", queued_at=ago(seconds=number), label=f"{number}")
    Alert.objects.create(
        event="run_failed",
        subject="billing.send_invoice",
        count=3,
        opened_at=ago(minutes=12),
        last_at=ago(minutes=4),
        messages=1,
        told_count=3,
    )
    return {"failed": _failed(), "running": _running()}


def _past(chance: random.Random, key: str) -> Run:
    """Return a run of the last day; by day there are more than by night."""
    seconds, one_in, _count = FUNCTIONS[key]
    at = ago(minutes=min(chance.uniform(1, 1440), chance.uniform(1, 1440)))
    started = at + timedelta(seconds=chance.expovariate(1 / 0.2))
    took = timedelta(seconds=chance.lognormvariate(0, 0.4) * seconds)
    has_failed = bool(one_in) and chance.randrange(one_in) == 0
    return Run(
        id=_id_at(chance, at),
        function_id=key,
        args=call(chance.randrange(9000)),
        state=State.FAILED if has_failed else State.SUCCEEDED,
        attempt=1,
        failures=int(has_failed),
        error_class=ERROR if has_failed else "",
        error_message=MESSAGE if has_failed else "",
        run_after=at,
        enqueued_at=at,
        queued_at=at,
        claimed_at=started,
        started_at=started,
        finished_at=started + took,
        label=f"user {chance.randrange(9000)}",
    )


def _id_at(chance: random.Random, at: datetime) -> Any:
    """Return a UUIDv7 of that time."""
    from uuid import UUID

    milliseconds = int(at.timestamp() * 1000)
    return UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | chance.getrandbits(62))


def _failed() -> Run:
    run = make_finished(
        State.FAILED,
        function_id="billing.send_invoice",
        args=call(4711, currency="EUR"),
        label="order 4711",
        metadata={"tenant": "acme", "channel": "web"},
        attempt=3,
        failures=3,
        max_attempts=3,
        error_class=ERROR,
        error_message=MESSAGE,
        enqueued_at=ago(minutes=9),
        queued_at=ago(minutes=9),
        started_at=ago(minutes=4),
        finished_at=ago(minutes=4, seconds=-10),
    )
    for number, minutes in ((1, 8.9), (2, 7), (3, 4)):
        make_attempt(
            run,
            number,
            outcome=Outcome.RETRIED if number < 3 else Outcome.FAILED,
            started_at=ago(minutes=minutes),
            finished_at=ago(minutes=minutes, seconds=-10),
        )
    _say(run, 3, 4 * 60, [(20, "invoice of 3 positions, 118.00 EUR"), (30, "mail server is slow")])
    return run


def _running() -> Run:
    run = make_run(
        state=State.RUNNING,
        function_id="shop.import_orders",
        label="warehouse north",
        queued_at=ago(seconds=42),
        claimed_at=ago(seconds=41),
        started_at=ago(seconds=41),
        attempt=1,
    )
    words = [
        (20, "fetched 1,200 orders"),
        (20, "400 stored"),
        (30, "order 88121 has no address"),
        (20, "800 stored"),
    ]
    _say(run, 1, 40, words)
    Progress.objects.create(run=run, attempt=1, done=830, total=1200, message="orders", at=ago())
    return run


def _say(run: Run, attempt: int, seconds: float, words: list[tuple[int, str]]) -> None:
    for number, (level, message) in enumerate(words, 1):
        LogLine.objects.create(
            run=run,
            attempt=attempt,
            number=number,
            level=level,
            at=ago(seconds=seconds - number * 2),
            logger=str(run.function_id).partition(".")[0],
            message=message,
        )


def draw(page: Page, name: str, path: str, *, height: int | None = None) -> None:
    """Take a picture of a page, whole or its upper part."""
    page.goto(ADMIN + path)
    page.wait_for_load_state("load")
    clip = {"x": 0, "y": 0, "width": page.viewport_size["width"], "height": height or 0}  # type: ignore[index]
    PICTURES.mkdir(exist_ok=True)
    page.screenshot(
        path=PICTURES / f"{name}.png",
        full_page=True,
        **({"clip": clip} if height else {}),  # type: ignore[arg-type]
    )


def test_pictures(admin_page: Page, shop: dict[str, Run]) -> None:
    page = admin_page
    page.set_viewport_size({"width": 1280, "height": 900})
    definition = CronDefinition.objects.get(function="shop.weekly_recommendations")
    draw(page, "dashboard", "", height=1150)
    draw(page, "function", "backgroundfunction/shop.compute_recommendations/change/", height=1150)
    draw(page, "definition", f"crondefinition/{definition.pk}/change/", height=900)
    draw(page, "runs", "run/", height=760)
    draw(page, "failed-run", f"run/{shop['failed'].pk}/change/", height=1250)
    draw(page, "running-run", f"run/{shop['running'].pk}/change/", height=1100)
    page.emulate_media(color_scheme="dark")
    draw(page, "dashboard-dark", "", height=1150)
