"""Cron definitions: the row that says when a scheduled function runs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_defer.clock import InstantField
from django_defer.event_loop import in_thread
from django_defer.models.functions import BackgroundFunction, Pausable
from django_defer.querysets import DefinitionManager

if TYPE_CHECKING:
    from django_defer.cron import CronSchedule
    from django_defer.models.runs import Run
    from django_defer.schedules import IntervalSchedule, Schedule


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
    meaning = models.TextField(_("what the expression meant when it was read"), blank=True)
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
    metadata = models.JSONField(_("metadata"), null=True, blank=True)
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
    unfired_slot_at = InstantField(
        _("first slot not fired, for a pause or an error"), null=True, blank=True
    )
    pauses = models.JSONField(_("earlier pauses"), default=list, blank=True)
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
        zone = "" if self.kind == self.Kind.EVERY else f" {self.timezone}"
        return f"{self.function_id} ({self.expression}{zone})"

    @property
    def expression(self) -> str:
        """The expression in force: the operator's, else the code's. "every 10s" is an interval."""
        text = self.expression_override or self.code_expression
        return f"every {text}" if self.kind == self.Kind.EVERY else text

    @property
    def timezone(self) -> str:
        """The zone in force: the operator's, else the code's."""
        return self.timezone_override or self.code_timezone

    @property
    def is_overridden(self) -> bool:
        """Whether an operator's expression or zone is in force."""
        return bool(self.expression_override or self.timezone_override)

    @property
    def fires(self) -> bool:
        """Whether it is neither paused nor switched off nor orphaned."""
        return self.enabled and not self.is_paused and self.orphaned_at is None

    @property
    def schedule(self) -> Schedule:
        """The schedule in force; raises a ValueError when it cannot be used (any more)."""
        schedule = self._interval() if self.kind == self.Kind.EVERY else self._cron()
        if self.starts_at is None and self.ends_at is None:
            return schedule
        from django_defer.schedules import Bounded

        return Bounded(schedule, self.starts_at, self.ends_at)

    def next_slot_after(self, now: datetime) -> datetime | None:
        """Return the next slot after `now`; None while paused, switched off or orphaned.

        Of a schedule that cannot be read it is `now`, so that the next tick marks it with its
        error.
        """
        if not self.fires:
            return None
        try:
            return self.schedule.next_after(now)
        except ValueError:
            return now

    def read_meaning(self) -> str:
        """Return what the expression in force means to the code that reads it here and now."""
        if self.kind == self.Kind.EVERY:
            return ""
        try:
            return self._cron().meaning
        except ValueError:
            return ""

    # Most processes of a project ask no definition when it is due: they don't import how to tell.

    def _cron(self) -> CronSchedule:
        from django_defer.cron import CronSchedule

        return CronSchedule(self.expression, self.timezone, key=str(self.function_id))

    def _interval(self) -> IntervalSchedule:
        from django_defer.schedules import IntervalSchedule, parse_interval

        interval = self.interval
        if self.expression_override:
            interval = parse_interval(self.expression_override)
        if interval is None or self.anchor is None:
            raise ValueError("an interval or what it is counted from is missing; run defer_sync")
        return IntervalSchedule(interval, self.anchor)

    def next_slots(
        self, count: int, after: datetime, *, schedule: Schedule | None = None
    ) -> list[datetime]:
        """Return up to `count` UTC instants after `after` at which it will be due."""
        slots: list[datetime] = []
        schedule = schedule or self.schedule
        slot = schedule.next_after(after)
        while slot is not None and len(slots) < count:
            slots.append(slot)
            slot = schedule.next_after(slot)
        return slots

    def pause(self, *, reason: str = "", until: datetime | None = None, actor: str = "") -> None:
        """Stop firing until resumed. `actor` is text: who did it."""
        from django_defer.pauses import pause

        pause(self, reason=reason, until=until, actor=actor)

    pause.alters_data = True  # type: ignore[attr-defined]

    async def apause(
        self, *, reason: str = "", until: datetime | None = None, actor: str = ""
    ) -> None:
        """`pause` from async code."""
        await in_thread(self.pause)(reason=reason, until=until, actor=actor)

    apause.alters_data = True  # type: ignore[attr-defined]

    def resume(self, *, actor: str = "", catch_up: bool = False) -> None:
        """Fire again from the next slot after now.

        With `catch_up`, slots of the pause are treated as missed ones: as `catch_up=` says.
        """
        from django_defer.pauses import resume

        resume(self, actor=actor, catch_up=catch_up)

    resume.alters_data = True  # type: ignore[attr-defined]

    async def aresume(self, *, actor: str = "", catch_up: bool = False) -> None:
        """`resume` from async code."""
        await in_thread(self.resume)(actor=actor, catch_up=catch_up)

    aresume.alters_data = True  # type: ignore[attr-defined]

    def override(self, *, expression: str = "", timezone: str = "", actor: str = "") -> None:
        """Put an expression, a zone or both in place of the code's, until it is cleared.

        The slots begin anew after now. Of an interval, `expression` is a duration such as "30s".
        """
        from django_defer.overrides import override

        override(self, expression=expression, timezone=timezone, actor=actor)

    override.alters_data = True  # type: ignore[attr-defined]

    async def aoverride(self, *, expression: str = "", timezone: str = "", actor: str = "") -> None:
        """`override` from async code."""
        await in_thread(self.override)(expression=expression, timezone=timezone, actor=actor)

    aoverride.alters_data = True  # type: ignore[attr-defined]

    def clear_override(self, *, actor: str = "") -> None:
        """Let the code's expression and zone be in force again, from the next slot after now."""
        from django_defer.overrides import clear_override

        clear_override(self, actor=actor)

    clear_override.alters_data = True  # type: ignore[attr-defined]

    async def aclear_override(self, *, actor: str = "") -> None:
        """`clear_override` from async code."""
        await in_thread(self.clear_override)(actor=actor)

    aclear_override.alters_data = True  # type: ignore[attr-defined]

    def run_now(self, *, actor: str = "", **options: Any) -> Run:
        """Make a run outside the schedule; the schedule itself does not move."""
        from django_defer.operations import run_now

        return run_now(str(self.function_id), actor=actor, **options)

    run_now.alters_data = True  # type: ignore[attr-defined]

    async def arun_now(self, *, actor: str = "", **options: Any) -> Run:
        """`run_now` from async code."""
        return cast("Run", await in_thread(self.run_now)(actor=actor, **options))

    arun_now.alters_data = True  # type: ignore[attr-defined]
