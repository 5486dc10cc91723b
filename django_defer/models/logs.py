"""What an attempt said while it ran: its log lines, and how far it was."""

from __future__ import annotations

import logging

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_defer.clock import InstantField
from django_defer.models.runs import Reference, Run
from django_defer.querysets import DeferManager


class LogLine(models.Model):
    """A line that an attempt logged or printed.

    `number` counts what was said in the attempt, from 1. Only so much is kept, the first lines and
    the latest: a gap between two numbers says how many were left out.
    """

    run = Reference(Run, verbose_name=_("run"), related_name="log_lines")
    attempt = models.PositiveSmallIntegerField(_("attempt"))
    number = models.PositiveIntegerField(_("number"))
    level = models.SmallIntegerField(_("level"))
    at = InstantField(_("at"))
    logger = models.CharField(_("logger"), max_length=200, blank=True)
    message = models.TextField(_("message"), blank=True)

    objects = DeferManager()

    class Meta:
        verbose_name = _("log line")
        verbose_name_plural = _("log lines")
        base_manager_name = "objects"
        default_permissions = ()
        ordering = ("attempt", "number")
        constraints = (
            models.UniqueConstraint(
                fields=["run", "attempt", "number"], name="defer_logline_place"
            ),
        )

    def __str__(self) -> str:
        return f"{self.level_name} {self.logger}: {self.message}"

    @property
    def level_name(self) -> str:
        """INFO, WARNING and so on; the project's own names too."""
        return str(logging.getLevelName(self.level))


class Progress(models.Model):
    """How far a run was, as its latest attempt that said so has said."""

    run = models.OneToOneField(
        Run,
        verbose_name=_("run"),
        primary_key=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="progress",
    )
    attempt = models.PositiveSmallIntegerField(_("attempt"))
    done = models.PositiveBigIntegerField(_("done"))
    total = models.PositiveBigIntegerField(_("total"), null=True)
    message = models.CharField(_("message"), max_length=2000, blank=True)
    at = InstantField(_("at"))

    objects = DeferManager()

    class Meta:
        verbose_name = _("progress")
        verbose_name_plural = _("progress")
        base_manager_name = "objects"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.done} of {self.total}" if self.total is not None else str(self.done)

    @property
    def percent(self) -> int | None:
        """How much of the total is done, rounded down; None where nobody knows."""
        return min(100, 100 * self.done // self.total) if self.total else None
