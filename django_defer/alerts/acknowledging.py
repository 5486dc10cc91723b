"""Acknowledge an alert: somebody has seen it, so nobody needs to be told again."""

from __future__ import annotations

from django.db import transaction
from django.utils.translation import gettext as _

from django_defer.clock import DatabaseNow
from django_defer.conf import conf
from django_defer.exceptions import DeferError
from django_defer.models import Alert, AlertDelivery
from django_defer.models.alerts import MessageKind
from django_defer.wording import with_zone


def refusal(alert: Alert) -> str:
    """Return why it can't be acknowledged, or ""."""
    if alert.acknowledged_at is not None:
        return _("%(alert)s was acknowledged by %(who)s at %(time)s.") % {
            "alert": alert,
            "who": alert.acknowledged_by,
            "time": with_zone(alert.acknowledged_at),
        }
    return "" if alert.is_open else _("%(alert)s is over.") % {"alert": alert}


def acknowledge(alert: Alert, *, actor: str) -> None:
    """Write down who has seen it. Raises DeferError if it is over, or somebody was faster.

    From now on no reminder is sent, nor what still waits to be sent. That it has recovered is told
    to those who were told of it.
    """
    using = str(conf.database)
    with transaction.atomic(using=using):
        seen = {"acknowledged_at": DatabaseNow(), "acknowledged_by": actor[:150]}
        rows = Alert.objects.using(using).filter(pk=alert.pk)
        is_done = rows.filter(acknowledged_at=None, closed_at=None).update(**seen)
        if is_done:
            _give_up_waiting(using, alert, actor)
    alert.refresh_from_db(using=using)
    if not is_done:
        raise DeferError(refusal(alert))


def _give_up_waiting(using: str, alert: Alert, actor: str) -> None:
    waiting = AlertDelivery.objects.using(using).filter(
        alert=alert.pk, sent_at=None, given_up_at=None
    )
    waiting.exclude(kind=MessageKind.RECOVERED).update(
        given_up_at=DatabaseNow(), answer=f"acknowledged by {actor} before it was sent"[:500]
    )
