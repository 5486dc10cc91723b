"""Rows as an admin page meets them: runs in every state, attempts, a fan-out, clusters; people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.contrib.auth.models import Permission, User

from django_defer.conf import conf
from django_defer.models import (
    Alert,
    AlertDelivery,
    Attempt,
    Cluster,
    CronDefinition,
    Run,
)
from django_defer.states import Outcome, State

if TYPE_CHECKING:
    from django.test import Client

HOSTILE = "<script>alert(1)</script>"
TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/defer.py", line 41, in compute_product_recommendation
    response = session.post(URL, json=payload, timeout=10)
               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/.venv/lib/python3.11/site-packages/requests/adapters.py", line 713, in send
    raise ConnectTimeout(e, request=request)
requests.exceptions.ConnectTimeout: mail.example.com did not answer within 10 s
"""


def log_in_with(client: Client, *codenames: str) -> User:
    """Log in as somebody on the staff who has these permissions and no others."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="django_defer", codename__in=codenames)
    )
    client.force_login(user)
    return user


def ago(**span: float) -> datetime:
    """Return an instant in the past."""
    return datetime.now(UTC) - timedelta(**span)


def make_run(**columns: Any) -> Run:
    """Insert a run as it is, without enqueueing it."""
    run = Run(**{"function_id": "testapp.add", "args": call(1, 2), **columns})
    run.save(using=str(conf.database))
    return run


def call(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return stored arguments."""
    return {"args": list(args), "kwargs": kwargs}


def make_finished(state: State = State.SUCCEEDED, **columns: Any) -> Run:
    """Insert a run that has ended."""
    times = {
        "enqueued_at": ago(seconds=100),
        "queued_at": ago(seconds=99),
        "claimed_at": ago(seconds=90),
        "started_at": ago(seconds=90),
        "finished_at": ago(seconds=88.7),
    }
    return make_run(state=state, **{"attempt": 1, **times, **columns})


def make_attempt(run: Run, number: int = 1, **columns: Any) -> Attempt:
    """Insert an attempt of a run."""
    return Attempt.objects.create(
        run=run,
        number=number,
        **{
            "outcome": Outcome.RETRIED,
            "started_at": ago(minutes=9 - number),
            "finished_at": ago(minutes=9 - number, seconds=-10),
            "error_class": "requests.exceptions.ConnectTimeout",
            "error_message": "mail.example.com did not answer within 10 s",
            "traceback": TRACEBACK,
            **columns,
        },
    )


def make_retrying(**columns: Any) -> Run:
    """Insert a run that waits for its third attempt."""
    run = make_run(
        state=State.SCHEDULED,
        **{
            "function_id": "testapp.recommend",
            "attempt": 2,
            "failures": 2,
            "enqueued_at": ago(minutes=9),
            "started_at": ago(minutes=7),
            "run_after": ago(minutes=-4),
            "error_class": "requests.exceptions.ConnectTimeout",
            "error_message": "mail.example.com did not answer within 10 s",
            **columns,
        },
    )
    make_attempt(run, 1)
    make_attempt(run, 2)
    return run


def make_slot(definition: CronDefinition, slot: datetime, **states: int) -> Run:
    """Insert the run of a slot and as many children in each state; it is the last of its kind."""
    parent = make_finished(
        function_id=definition.function_id,
        definition=definition,
        slot=slot,
        result=sum(states.values()),
        args=call(),
        enqueued_by="schedule",
    )
    for state, count in states.items():
        for number in range(count):
            child: dict[str, Any] = {
                "function_id": "testapp.recommend",
                "label": f"{state} {number}",
                "parent": parent,
                "root": parent,
                "enqueued_by": definition.function_id,
            }
            if state == "retrying":
                make_retrying(**child)
            else:
                make_finished(State(state), **child)
    CronDefinition.objects.filter(pk=definition.pk).update(last_slot_at=slot, last_run=parent)
    return parent


def prune(run: Run) -> None:
    """Delete a run as time does: whatever names it stays."""
    Attempt.objects.filter(run=run.pk).delete()
    Run.objects.filter(pk=run.pk).delete()


def make_cluster(**columns: Any) -> Cluster:
    """Insert a live cluster."""
    return Cluster.objects.create(
        **{
            "id": uuid4(),
            "host": "worker-1.internal",
            "pid": 4711,
            "queues": [],
            "functions": ["testapp.add", "testapp.recommend"],
            "versions": {"python": "3.11.9", "django": "5.2.19"},
            "workers": 4,
            "started_at": ago(hours=3),
            "beat_at": ago(seconds=2),
            "ticked_at": ago(seconds=1),
            **columns,
        }
    )


def make_alert(run: Run | None = None, **columns: Any) -> Alert:
    """Insert an open alert, with this run as its example."""
    example = {
        "at": ago(minutes=2).isoformat(),
        "error": "ConnectTimeout: mail.example.com did not answer within 10 s",
        "label": "user 42",
        "metadata": {"tenant": "acme"},
        "attempts": "17 of 17",
        "fan_out": "3 of 300 of testapp.weekly, Monday 2026-11-23 08:00 UTC",
    }
    return Alert.objects.create(
        **{
            "event": "run_failed",
            "subject": "testapp.recommend",
            "count": 5000,
            "told_count": 4000,
            "messages": 2,
            "opened_at": ago(minutes=20),
            "last_at": ago(minutes=2),
            "next_message_at": ago(minutes=-10),
            "examples": [example | {"run_id": str(run.pk)}] if run else [],
            **columns,
        }
    )


def make_delivery(alert: Alert, number: int = 1, **columns: Any) -> AlertDelivery:
    """Insert a delivery that waits to be tried again."""
    return AlertDelivery.objects.create(
        **{
            "alert": alert,
            "number": number,
            "kind": "opened" if number == 1 else "reminder",
            "channel": "slack",
            "made_at": ago(minutes=19),
            "due_at": ago(minutes=-3),
            "attempts": 3,
            "answer": "HTTP 503: service_unavailable",
            **columns,
        }
    )
