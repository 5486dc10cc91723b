"""Pings: what a dead man's switch outside is to be told of a run, and has not been told yet."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_defer.clock import DatabaseNow, InstantField
from django_defer.querysets import DeferManager


class PingKind(models.TextChoices):
    """What the run did. The value is what follows the address, after a slash."""

    START = "start", _("started")
    SUCCESS = "", _("succeeded")
    FAIL = "fail", _("failed for good")


class Ping(models.Model):
    """One request that is to be made. It names the function; the address is in its code alone."""

    function = models.CharField(_("function"), max_length=200)
    kind = models.CharField(_("kind"), max_length=10, choices=PingKind.choices, blank=True)
    run_id = models.UUIDField(_("run"))
    at = InstantField(_("at"), db_default=DatabaseNow())
    due_at = InstantField(_("due at"), db_default=DatabaseNow())
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)

    objects: ClassVar[DeferManager[Any]] = DeferManager()

    class Meta:
        verbose_name = _("ping")
        verbose_name_plural = _("pings")
        base_manager_name = "objects"
        default_permissions = ()
        ordering = ("id",)
        indexes = (models.Index("due_at", name="defer_ping_due"),)

    def __str__(self) -> str:
        return f"{self.function}/{self.kind}"
