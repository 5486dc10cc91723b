"""Runs. Their table is the queue: one row from enqueue to history."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn, cast

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from django_defer.clock import DatabaseNow, InstantField
from django_defer.conf import conf
from django_defer.event_loop import in_thread
from django_defer.exceptions import RunIsReadOnly
from django_defer.ids import uuid7
from django_defer.models.definitions import CronDefinition
from django_defer.models.functions import BackgroundFunction
from django_defer.querysets import RunManager
from django_defer.states import ACTIVE, FINISHED, UNFINISHED, WAITING, Outcome, State

if TYPE_CHECKING:
    from django_defer.models.attempts import Attempt


class DefaultInstant(InstantField):
    """An instant that the database works out and INSERT … RETURNING brings back."""

    db_returning = True


class Reference(models.ForeignKey):  # type: ignore[type-arg]
    """A foreign key without a constraint or an index: the row it names may be pruned first."""

    def __init__(self, to: Any, **kwargs: Any) -> None:
        kwargs.setdefault("on_delete", models.DO_NOTHING)
        kwargs.setdefault("db_constraint", False)
        kwargs.setdefault("db_index", False)
        super().__init__(to, **kwargs)


class Run(models.Model):
    """One wish to execute a function with arguments.

    Rows are made by enqueueing and changed by verbs; saving an existing row raises.
    Indexes: every one that holds claimed, running or finished rows is written at each step of a
    run, so there are few of these and the others are partial. A planner that takes a partial index
    for empty prefers it to the primary key, and then reads all its dead entries (a start took
    400 ms). Hence "attempt >= 0", which is always true: only what names it uses the index of what
    is held. Metadata has an index on PostgreSQL only, made by a migration: GIN, of rows that have
    some, so that runs without metadata pay nothing for it, and those with it do at each step.
    """

    id = models.UUIDField(_("id"), primary_key=True, default=uuid7, editable=False)
    function = Reference(
        BackgroundFunction, verbose_name=_("function"), db_column="function", related_name="runs"
    )
    queue = models.CharField(_("queue"), max_length=50, default="default")
    priority = models.SmallIntegerField(_("priority"), default=0)
    state = models.CharField(_("state"), max_length=12, choices=State.choices, default=State.QUEUED)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    args = models.JSONField(_("arguments"), default=dict)
    result = models.JSONField(_("result"), null=True)
    error_class = models.CharField(_("error class"), max_length=300, blank=True)
    error_message = models.TextField(_("error"), blank=True)
    label = models.CharField(_("label"), max_length=200, blank=True)
    metadata = models.JSONField(_("metadata"), null=True)
    key = models.CharField(_("idempotency key"), max_length=200, null=True)  # noqa: DJ001
    run_after = DefaultInstant(_("run after"), db_default=DatabaseNow())
    enqueued_at = DefaultInstant(_("enqueued at"), db_default=DatabaseNow())
    queued_at = InstantField(_("queued at"), null=True)
    claimed_at = InstantField(_("claimed at"), null=True)
    started_at = InstantField(_("started at"), null=True)
    finished_at = InstantField(_("finished at"), null=True)
    discard_after = DefaultInstant(_("discard after"), null=True)
    abort_requested_at = InstantField(_("abort requested at"), null=True)
    attempt = models.PositiveSmallIntegerField(_("attempt"), default=0)
    failures = models.PositiveSmallIntegerField(_("failures"), default=0)
    losses = models.PositiveSmallIntegerField(_("losses"), default=0)
    max_attempts = models.PositiveSmallIntegerField(_("most attempts"), default=17)
    rerun_if_lost = models.BooleanField(_("rerun if lost"), default=True)
    claim_id = models.UUIDField(_("claim"), null=True)
    cluster = models.UUIDField(_("cluster"), null=True)
    worker = models.CharField(_("worker"), max_length=24, blank=True)
    definition = Reference(
        CronDefinition, verbose_name=_("cron definition"), null=True, related_name="runs"
    )
    slot = InstantField(_("slot"), null=True)
    missed_slots = models.PositiveIntegerField(_("missed slots"), default=0)
    parent = Reference("self", verbose_name=_("parent"), null=True, related_name="children")
    root = Reference("self", verbose_name=_("root"), null=True, related_name="+")
    rerun_of = Reference("self", verbose_name=_("rerun of"), null=True, related_name="reruns")
    enqueued_by = models.CharField(_("enqueued by"), max_length=200, blank=True)

    # Where the INSERT waits for another database's commit: its alias, and the thread's id.
    enqueued_after: tuple[str, int] | None = None

    objects = RunManager()

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        base_manager_name = "objects"
        indexes = (
            models.Index(
                "queue",
                F("priority").desc(),
                "id",
                name="defer_run_due",
                condition=Q(state=State.QUEUED),
            ),
            models.Index(
                "run_after", name="defer_run_scheduled", condition=Q(state=State.SCHEDULED)
            ),
            models.Index("function", name="defer_run_parked", condition=Q(state=State.PARKED)),
            models.Index(
                "cluster",
                "worker",
                name="defer_run_held",
                condition=Q(attempt__gte=0, state__in=sorted(ACTIVE)),
            ),
            models.Index(
                "cluster",
                name="defer_run_aborts",
                condition=Q(abort_requested_at__isnull=False, state=State.RUNNING),
            ),
            models.Index("function", F("id").desc(), name="defer_run_function"),
            models.Index(
                "definition",
                F("id").desc(),
                name="defer_run_definition",
                condition=Q(definition__isnull=False),
            ),
            models.Index(
                "parent", "state", name="defer_run_parent", condition=Q(parent__isnull=False)
            ),
            models.Index(
                "definition",
                name="defer_run_slots",
                condition=Q(slot__isnull=False, state__in=sorted(UNFINISHED)),
            ),
            models.Index("rerun_of", name="defer_run_reruns", condition=Q(rerun_of__isnull=False)),
            models.Index(
                "discard_after",
                name="defer_run_deadlines",
                condition=Q(discard_after__isnull=False, state__in=sorted(WAITING)),
            ),
            models.Index(F("id").desc(), name="defer_run_failed", condition=Q(state=State.FAILED)),
        )
        constraints = (
            models.UniqueConstraint(
                fields=["definition", "slot"],
                name="defer_run_one_per_slot",
                condition=Q(slot__isnull=False),
            ),
            models.UniqueConstraint(
                fields=["key"], name="defer_run_key", condition=Q(key__isnull=False)
            ),
        )
        permissions = (
            ("view_run_data", _("Can view arguments and results of runs")),
            ("run_now", _("Can run functions now")),
            ("cancel_run", _("Can cancel runs")),
            ("rerun_run", _("Can run finished runs again")),
            ("reschedule_run", _("Can reschedule waiting runs")),
        )

    def __str__(self) -> str:
        return f"{self.function_id} {self.label or self.pk.hex[-8:]}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert a new row; refuse to overwrite one that exists."""
        if not self._state.adding:
            raise RunIsReadOnly("Run")
        kwargs["force_insert"] = True
        kwargs.setdefault("using", self._state.db or str(conf.database))
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: runs are removed by `defer_prune`, which keeps what must be kept."""
        raise RunIsReadOnly("Run")

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended, one way or the other."""
        return self.state in FINISHED

    @property
    def error(self) -> str:
        """The last error in one line, or an empty string."""
        return f"{self.error_class}: {self.error_message}" if self.error_class else ""

    @property
    def wait_time(self) -> timedelta | None:
        """How long it waited from being due to its last start."""
        due: datetime | None = self.queued_at or self.enqueued_at
        return self.started_at - due if self.started_at and due else None

    @property
    def duration(self) -> timedelta | None:
        """How long the last attempt took."""
        began: datetime | None = self.started_at
        return self.finished_at - began if self.finished_at and began else None

    @property
    def attempts(self) -> list[Attempt]:
        """Every attempt, oldest first; the one that succeeded comes from the run itself."""
        from django_defer.models.attempts import Attempt

        rows: list[Attempt] = list(
            Attempt.objects.using(self._state.db).filter(run=self.pk).order_by("number", "id")
        )
        return rows + self.attempt_that_succeeded()

    def attempt_that_succeeded(self) -> list[Attempt]:
        """Return the attempt that has no row, since the run itself holds what it would say.

        An empty list: the run has not succeeded.
        """
        from django_defer.models.attempts import Attempt

        if self.state != State.SUCCEEDED:
            return []
        attempt = Attempt(
            run=self,
            number=self.attempt,
            outcome=Outcome.SUCCEEDED,
            started_at=self.started_at,
            finished_at=self.finished_at,
            cluster=self.cluster,
            worker=self.worker,
        )
        return [attempt]

    def wait(self, timeout: float | str | timedelta | None = None) -> Run:
        """Return when the run has ended, refreshed; raise ResultNotReady after `timeout`."""
        from django_defer.operations import wait

        return wait(self, timeout)

    def get_result(self, timeout: float | str | timedelta | None = None) -> Any:
        """Wait, then return what the function returned; ResultUnavailable if it did not."""
        from django_defer.operations import get_result

        return get_result(self, timeout)

    def cancel(self, *, force: bool = False, actor: str = "", reason: str = "") -> None:
        """Cancel a run that has not started; RunNotCancellable otherwise.

        With `force`, abort one that is running: RunAborted is raised in its function.
        """
        from django_defer.operations import cancel

        cancel(self, force=force, actor=actor, reason=reason)

    def reschedule(self, when: datetime | None = None, *, actor: str = "") -> None:
        """Move a waiting run to `when` (an aware datetime), or to now."""
        from django_defer.operations import reschedule

        reschedule(self, when, actor=actor)

    def rerun(self, *, actor: str = "") -> Run:
        """Enqueue a new run of the same function and arguments, linked to this one."""
        from django_defer.operations import rerun

        return rerun(self, actor=actor)

    async def await_end(self, timeout: float | str | timedelta | None = None) -> Run:
        """`wait` from async code."""
        return cast("Run", await in_thread(self.wait)(timeout))

    async def aget_result(self, timeout: float | str | timedelta | None = None) -> Any:
        """`get_result` from async code."""
        return await in_thread(self.get_result)(timeout)

    async def acancel(self, *, force: bool = False, actor: str = "", reason: str = "") -> None:
        """`cancel` from async code."""
        await in_thread(self.cancel)(force=force, actor=actor, reason=reason)

    async def areschedule(self, when: datetime | None = None, *, actor: str = "") -> None:
        """`reschedule` from async code."""
        await in_thread(self.reschedule)(when, actor=actor)

    async def arerun(self, *, actor: str = "") -> Run:
        """`rerun` from async code."""
        return cast("Run", await in_thread(self.rerun)(actor=actor))

    for _verb in (save, delete, cancel, reschedule, rerun):
        setattr(_verb, "alters_data", True)  # noqa: B010 - templates must not call these
    del _verb
