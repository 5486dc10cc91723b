"""Background functions and queues: what can be paused, and the mirror of what code registers."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from django_defer.clock import InstantField
from django_defer.querysets import DeferManager, FunctionManager


class Pausable(models.Model):
    """Something an operator can stop: who did it, when, why, and until when."""

    paused_at = InstantField(_("paused at"), null=True, blank=True)
    paused_by = models.CharField(_("paused by"), max_length=150, blank=True)
    paused_until = InstantField(_("paused until"), null=True, blank=True)
    pause_reason = models.CharField(_("pause reason"), max_length=500, blank=True)

    class Meta:
        abstract = True

    @property
    def is_paused(self) -> bool:
        """Whether an operator has paused it."""
        return self.paused_at is not None


class BackgroundFunction(Pausable):
    """The row that mirrors a registered function, for pauses, limits and the admin."""

    key = models.CharField(_("key"), max_length=200, primary_key=True)
    queue = models.CharField(_("queue"), max_length=50, default="default")
    options = models.JSONField(_("options"), default=dict)
    module = models.CharField(_("module"), max_length=300, blank=True)
    line = models.PositiveIntegerField(_("line"), default=0)
    former_keys = models.JSONField(_("former keys"), default=list)
    synced_at = InstantField(_("synced at"), null=True)
    orphaned_at = InstantField(_("orphaned at"), null=True, blank=True)

    objects = FunctionManager()

    class Meta:
        verbose_name = _("background function")
        verbose_name_plural = _("background functions")
        base_manager_name = "objects"
        ordering = ("key",)
        indexes = (
            models.Index("key", name="defer_function_paused", condition=Q(paused_at__isnull=False)),
        )
        permissions = (("pause", _("Can pause and resume functions, definitions and queues")),)

    def __str__(self) -> str:
        return self.key


class Queue(Pausable):
    """A queue that somebody paused or limited; a queue needs no row to exist."""

    name = models.CharField(_("name"), max_length=50, primary_key=True)

    objects = DeferManager()

    class Meta:
        verbose_name = _("queue")
        verbose_name_plural = _("queues")
        base_manager_name = "objects"
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name
