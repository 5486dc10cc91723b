"""Alerts: what happened that somebody is to be told, in what messages, and by which channels.

An `AlertEvent` is written with the outcome that it tells of, in the same transaction. Events of one
kind about one subject are gathered in an `Alert`; an `AlertDelivery` is a message of it to one
channel, and an `AlertChannel` remembers how that channel was doing.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from django_defer.clock import DatabaseNow, InstantField
from django_defer.querysets import DeferManager


class AlertEvent(models.Model):
    """Something that happened and is in no alert yet."""

    event = models.CharField(_("event"), max_length=30)
    subject = models.CharField(_("subject"), max_length=200, blank=True)
    run_id = models.UUIDField(_("run"), null=True)
    error = models.CharField(_("error"), max_length=500, blank=True)
    at = InstantField(_("at"), db_default=DatabaseNow())

    objects = DeferManager()

    class Meta:
        verbose_name = _("alert event")
        verbose_name_plural = _("alert events")
        base_manager_name = "objects"
        default_permissions = ()
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.event} {self.subject}".strip()


class Alert(models.Model):
    """Events of one kind about one subject, from the first until it is over.

    `subject` is a function's key, a queue's name or "". `examples` are a few events, each with what
    a message says of its run. Before `next_message_at` no message is sent; then one is, once there
    is something that was not told.
    """

    event = models.CharField(_("event"), max_length=30)
    subject = models.CharField(_("subject"), max_length=200, blank=True)
    detail = models.TextField(_("detail"), blank=True)
    count = models.PositiveIntegerField(_("count"), default=0)
    examples = models.JSONField(_("examples"), default=list)
    opened_at = InstantField(_("opened at"))
    last_at = InstantField(_("last at"))
    messages = models.PositiveSmallIntegerField(_("messages"), default=0)
    told_count = models.PositiveIntegerField(_("count in the last message"), default=0)
    next_message_at = InstantField(_("next message at"), null=True, blank=True)
    acknowledged_at = InstantField(_("acknowledged at"), null=True, blank=True)
    acknowledged_by = models.CharField(_("acknowledged by"), max_length=150, blank=True)
    closed_at = InstantField(_("closed at"), null=True, blank=True)

    objects = DeferManager()

    class Meta:
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        base_manager_name = "objects"
        default_permissions = ("view",)
        permissions = (("acknowledge_alert", _("Can acknowledge alerts")),)
        ordering = ("-last_at", "-id")
        constraints = (
            models.UniqueConstraint(
                fields=["event", "subject"],
                condition=Q(closed_at__isnull=True),
                name="defer_alert_open",
            ),
        )
        indexes = (
            models.Index(
                "next_message_at",
                name="defer_alert_messages",
                condition=Q(next_message_at__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.event} {self.subject}".strip()

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.closed_at is None


class MessageKind(models.TextChoices):
    """Why a message is sent: it began, it goes on, it is over."""

    OPENED = "opened", _("opened")
    REMINDER = "reminder", _("reminder")
    RECOVERED = "recovered", _("recovered")
    TEST = "test", _("test")


class AlertDelivery(models.Model):
    """One message to one channel: due, sent or given up; composed when it is sent.

    `count` is how many events it told of, written with `sent_at`: the next one says how many more.
    """

    alert = models.ForeignKey(
        Alert, verbose_name=_("alert"), related_name="deliveries", on_delete=models.CASCADE
    )
    number = models.PositiveSmallIntegerField(_("number"))
    kind = models.CharField(_("kind"), max_length=10, choices=MessageKind.choices)
    channel = models.CharField(_("channel"), max_length=100)
    made_at = InstantField(_("made at"))
    due_at = InstantField(_("due at"))
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    sent_at = InstantField(_("sent at"), null=True, blank=True)
    given_up_at = InstantField(_("given up at"), null=True, blank=True)
    count = models.PositiveIntegerField(_("count"), default=0)
    answer = models.CharField(_("answer"), max_length=500, blank=True)

    objects = DeferManager()

    class Meta:
        verbose_name = _("alert delivery")
        verbose_name_plural = _("alert deliveries")
        base_manager_name = "objects"
        default_permissions = ()
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(
                fields=["alert", "channel", "number"], name="defer_delivery_message"
            ),
        )
        indexes = (
            models.Index(
                "due_at",
                name="defer_delivery_due",
                condition=Q(sent_at__isnull=True, given_up_at__isnull=True),
            ),
            models.Index(  # for the rate of a channel
                "channel",
                "sent_at",
                name="defer_delivery_sent",
                condition=Q(sent_at__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.kind} → {self.channel}"


class AlertChannel(models.Model):
    """How a channel of the settings was doing: `not_before` is when it may be tried again."""

    name = models.CharField(_("name"), max_length=100, primary_key=True)
    not_before = InstantField(_("not before"), null=True, blank=True)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    last_sent_at = InstantField(_("last sent at"), null=True, blank=True)
    last_error_at = InstantField(_("last error at"), null=True, blank=True)
    last_error = models.CharField(_("last error"), max_length=500, blank=True)

    objects = DeferManager()

    class Meta:
        verbose_name = _("alert channel")
        verbose_name_plural = _("alert channels")
        base_manager_name = "objects"
        default_permissions = ("view",)
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name
