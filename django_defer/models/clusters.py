"""Clusters: one row for each live `defer_worker`, kept alive by its heartbeat."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_defer.clock import InstantField
from django_defer.querysets import ClusterManager


class Cluster(models.Model):
    """One `defer_worker` process tree. The row is its lease: no row, no claims."""

    id = models.UUIDField(_("id"), primary_key=True, editable=False)
    host = models.CharField(_("host"), max_length=255)
    pid = models.PositiveIntegerField(_("process id"))
    queues = models.JSONField(_("queues"), default=list)
    functions = models.JSONField(_("functions it knows"), default=list)
    versions = models.JSONField(_("versions"), default=dict)
    workers = models.PositiveSmallIntegerField(_("workers"), default=0)
    schedules = models.BooleanField(_("runs the scheduler"), default=True)
    started_at = InstantField(_("started at"))
    beat_at = InstantField(_("last heartbeat"))
    ticked_at = InstantField(_("last scheduler tick"), null=True, blank=True)

    objects = ClusterManager()

    class Meta:
        verbose_name = _("cluster")
        verbose_name_plural = _("clusters")
        base_manager_name = "objects"
        ordering = ("started_at",)

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"
