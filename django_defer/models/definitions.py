"""Cron definitions: the row that says when a scheduled function runs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_defer.clock import InstantField
from django_defer.cron import CronSchedule
from django_defer.event_loop import in_thread
from django_defer.models.functions import BackgroundFunction, Pausable
from django_defer.querysets import DefinitionManager

if TYPE_CHECKING:
    from django_defer.models.runs import Run


class CronDefinition(Pausable):
    """Says when a scheduled function is due. Code owns it; an operator may pause and override.

    `next_slot_at` is written together with `version`, so that two schedulers can't fire one slot.
    """

    class Kind(models.TextChoices):
        """What the definition repeats by."""

        CRON = "cron", _("cron expression")
        EVERY = "every", _("fixed interval")

    class CatchUp(models.TextChoices):
        """What happens to slots that nobody was there to fire."""

        LATEST = "latest", _("one run for the latest missed slot")
        NONE = "none", _("skip missed slots")
        ALL = "all", _("a run for every missed slot")

    class Overlap(models.TextChoices):
        """What happens when an earlier slot's run is not finished."""

        ALLOW = "allow", _("run beside it")
        SKIP = "skip", _("skip the new slot")
        QUEUE = "queue", _("wait for it")
        REPLACE = "replace", _("end it")

    function = models.OneToOneField(
        BackgroundFunction,
        verbose_name=_("function"),
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_column="function",
        related_name="definition",
    )
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices, default=Kind.CRON)
    code_expression = models.CharField(_("expression in code"), max_length=200, blank=True)
    code_timezone = models.CharField(_("time zone in code"), max_length=64, default="UTC")
    expression_override = models.CharField(
        _("expression set by an operator"), max_length=200, blank=True
    )
    timezone_override = models.CharField(
        _("time zone set by an operator"), max_length=64, blank=True
    )
    overridden_by = models.CharField(_("overridden by"), max_length=150, blank=True)
    overridden_at = InstantField(_("overridden at"), null=True, blank=True)
    interval = models.DurationField(_("interval"), null=True, blank=True)
    anchor = InstantField(_("anchor"), null=True, blank=True)
    starts_at = InstantField(_("starts at"), null=True, blank=True)
    ends_at = InstantField(_("ends at"), null=True, blank=True)
    jitter = models.DurationField(_("jitter"), default=timedelta)
    enabled = models.BooleanField(_("enabled"), default=True)
    catch_up = models.CharField(
        _("catch-up"), max_length=8, choices=CatchUp.choices, default=CatchUp.LATEST
    )
    catch_up_window = models.DurationField(_("catch-up window"), null=True, blank=True)
    overlap = models.CharField(
        _("overlap"), max_length=8, choices=Overlap.choices, default=Overlap.ALLOW
    )
    supersede = models.BooleanField(_("supersede"), default=False)
    # What a run of this definition inherits, so that a tick needs no code.
    queue = models.CharField(_("queue"), max_length=50, default="default")
    priority = models.SmallIntegerField(_("priority"), default=0)
    max_attempts = models.PositiveSmallIntegerField(_("most attempts"), default=17)
    rerun_if_lost = models.BooleanField(_("rerun if lost"), default=True)
    discard_after = models.DurationField(_("discard after"), null=True, blank=True)
    # Where the schedule is.
    next_slot_at = InstantField(_("next slot"), null=True, blank=True)
    version = models.PositiveIntegerField(_("version"), default=0)
    last_slot_at = InstantField(_("last slot"), null=True, blank=True)
    last_run = models.ForeignKey(
        "django_defer.Run",
        verbose_name=_("last run"),
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        null=True,
        blank=True,
        related_name="+",
    )
    error = models.TextField(_("error"), blank=True)
    orphaned_at = InstantField(_("orphaned at"), null=True, blank=True)

    objects = DefinitionManager()

    class Meta:
        verbose_name = _("cron definition")
        verbose_name_plural = _("cron definitions")
        base_manager_name = "objects"
        ordering = ("function",)
        indexes = (models.Index(fields=["next_slot_at"], name="defer_definition_next"),)
        permissions = (("override_definition", _("Can override expression and time zone")),)

    def __str__(self) -> str:
        return f"{self.function_id} ({self.expression} {self.timezone})"

    @property
    def expression(self) -> str:
        """The expression in force: the operator's, else the code's."""
        return self.expression_override or self.code_expression

    @property
    def timezone(self) -> str:
        """The zone in force: the operator's, else the code's."""
        return self.timezone_override or self.code_timezone

    @property
    def schedule(self) -> CronSchedule:
        """The schedule in force; raises InvalidCronExpression when it cannot be used (any more)."""
        return CronSchedule(self.expression, self.timezone, key=str(self.function_id))

    def next_slots(self, count: int, after: datetime) -> list[datetime]:
        """Return up to `count` UTC instants after `after` at which it will be due."""
        slots: list[datetime] = []
        schedule = self.schedule
        slot = schedule.next_after(after)
        while slot is not None and len(slots) < count:
            slots.append(slot)
            slot = schedule.next_after(slot)
        return slots

    def pause(self, *, reason: str = "", until: datetime | None = None, actor: str = "") -> None:
        """Stop firing until resumed. `actor` is text: who did it."""
        from django_defer.operations import pause

        pause(self, reason=reason, until=until, actor=actor)

    pause.alters_data = True  # type: ignore[attr-defined]

    async def apause(
        self, *, reason: str = "", until: datetime | None = None, actor: str = ""
    ) -> None:
        """`pause` from async code."""
        await in_thread(self.pause)(reason=reason, until=until, actor=actor)

    apause.alters_data = True  # type: ignore[attr-defined]

    def resume(self, *, actor: str = "") -> None:
        """Fire again from the next slot after now; what was missed stays missed."""
        from django_defer.operations import resume

        resume(self, actor=actor)

    resume.alters_data = True  # type: ignore[attr-defined]

    async def aresume(self, *, actor: str = "") -> None:
        """`resume` from async code."""
        await in_thread(self.resume)(actor=actor)

    aresume.alters_data = True  # type: ignore[attr-defined]

    def run_now(self, *, actor: str = "", **options: Any) -> Run:
        """Make a run outside the schedule; the schedule itself does not move."""
        from django_defer.operations import run_now

        return run_now(str(self.function_id), actor=actor, **options)

    run_now.alters_data = True  # type: ignore[attr-defined]

    async def arun_now(self, *, actor: str = "", **options: Any) -> Run:
        """`run_now` from async code."""
        return cast("Run", await in_thread(self.run_now)(actor=actor, **options))

    arun_now.alters_data = True  # type: ignore[attr-defined]
