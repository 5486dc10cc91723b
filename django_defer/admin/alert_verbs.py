"""What a person can do about alerts: acknowledge one, and try a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_defer.admin.alert_words import route_of, without_secrets
from django_defer.admin.verbs import Verb
from django_defer.alerts import acknowledging
from django_defer.alerts.trial import TrialFailed, send_test
from django_defer.exceptions import DeferError

if TYPE_CHECKING:
    from django_defer.admin.verbs import Answers
    from django_defer.models import Alert, AlertChannel


def _acknowledge(alert: Alert, actor: str, answers: Answers) -> None:
    acknowledging.acknowledge(alert, actor=actor)


def _refuse_send_test(channel: AlertChannel) -> str:
    if route_of(channel.name) is not None:
        return ""
    return _("The setting ALERTS has no channel %(name)s.") % {"name": channel}


def _send_test(channel: AlertChannel, actor: str, answers: Answers) -> str:
    try:
        answer = send_test(channel.name, by=f"{actor}, in the admin,")
        return without_secrets(answer, channel.name)
    except TrialFailed as failure:
        raise DeferError(without_secrets(str(failure), channel.name)) from failure


ACKNOWLEDGE = Verb(
    name="acknowledge",
    permission="acknowledge_alert",
    label=gettext_lazy("Acknowledge"),
    bulk_label=gettext_lazy("Acknowledge selected %(verbose_name_plural)s"),
    done=gettext_lazy("Acknowledged"),
    not_done=gettext_lazy("Not acknowledged"),
    refusal=acknowledging.refusal,
    perform=_acknowledge,
)
SEND_TEST = Verb(
    name="send-test",
    permission="acknowledge_alert",
    label=gettext_lazy("Send a test message"),
    done=gettext_lazy("Sent a test message"),
    not_done=gettext_lazy("No test message was sent"),
    refusal=_refuse_send_test,
    perform=_send_test,
    is_remote=True,
)
