"""Attempts at a run: a row for each that did not succeed."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_defer.clock import InstantField
from django_defer.models.runs import Reference, Run
from django_defer.querysets import DeferManager
from django_defer.states import Outcome


class Attempt(models.Model):
    """One try that did not succeed: why, when and where."""

    run = Reference(Run, verbose_name=_("run"), related_name="attempt_rows")
    number = models.PositiveSmallIntegerField(_("number"))
    outcome = models.CharField(_("outcome"), max_length=12, choices=Outcome.choices)
    started_at = InstantField(_("started at"), null=True)
    finished_at = InstantField(_("finished at"), null=True)
    error_class = models.CharField(_("error class"), max_length=300, blank=True)
    error_message = models.TextField(_("error"), blank=True)
    traceback = models.TextField(_("traceback"), blank=True)
    exit_code = models.SmallIntegerField(_("exit code"), null=True)
    signal = models.CharField(_("signal"), max_length=16, blank=True)
    cluster = models.UUIDField(_("cluster"), null=True)
    worker = models.CharField(_("worker"), max_length=24, blank=True)

    objects = DeferManager()

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        base_manager_name = "objects"
        ordering = ("number",)
        indexes = (models.Index("run", "number", name="defer_attempt_run"),)

    def __str__(self) -> str:
        return f"attempt {self.number}: {self.outcome}"

    @property
    def error(self) -> str:
        """Its error in one line, or an empty string."""
        return ": ".join(part for part in (self.error_class, self.error_message) if part)

    @property
    def duration(self) -> timedelta | None:
        """How long it took."""
        began: datetime | None = self.started_at
        return self.finished_at - began if self.finished_at and began else None
