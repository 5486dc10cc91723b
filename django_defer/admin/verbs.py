"""What a person can do on an admin page: run, pause, override, cancel, reschedule, rerun.

A verb has its own permission and says, for a given row, why it does not apply now. The rules
themselves are those of `operations`; a verb that one of these refuses ends as a message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_defer import operations, overrides, pauses
from django_defer.admin.moments import PauseQuestion, RescheduleQuestion
from django_defer.admin.questions import OverrideQuestion, ReasonQuestion, ask_about_catch_up
from django_defer.exceptions import (
    AbortInProgress,
    RunError,
    RunNotCancellable,
    RunNotRerunnable,
    RunNotReschedulable,
)
from django_defer.models import CronDefinition, Run
from django_defer.registry import registry, required_parameters
from django_defer.states import FINISHED, WAITING, State

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

    from django_defer.admin.questions import Question

Answers = Mapping[str, Any]


def _nothing(rows: Sequence[Any], data: Answers | None) -> None:
    """Ask nothing."""


def _applies(row: Any) -> str:
    """Refuse nothing."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One verb: who may use it, on which rows, and what it does.

    `permission` is a codename of this app; ActingAdmin has a `has_…_permission` for each.

    `refusal` returns why it does not apply to a row, or "". `asks` returns the question to ask
    about some rows, if any; given data, an answered one. `perform` gets the row, the actor and the
    answers, and returns the run that it made or the words that it was answered, if any. A verb that
    waits for others (`is_remote`) is performed outside of any transaction.
    """

    name: str
    permission: str
    label: StrOrPromise
    bulk_label: StrOrPromise = ""
    done: StrOrPromise
    not_done: StrOrPromise
    refusal: Callable[[Any], str] = _applies
    perform: Callable[[Any, str, Answers], Run | str | None]
    asks: Callable[[Sequence[Any], Answers | None], Question | None] = _nothing
    is_remote: bool = False

    @property
    def action(self) -> str:
        """The name of the bulk action."""
        return f"{self.name.replace('-', '_')}_selected"

    @property
    def url_name(self) -> str:
        """The last part of its URL's name."""
        return self.name.replace("-", "_")


def _refuse_run_now(target: Any) -> str:
    key = _key(target)
    function = registry.find(key)
    if function is None:
        return _("%(key)s is not in the code of this web server.") % {"key": key}
    if needed := required_parameters(function.signature):
        return _("%(key)s needs arguments: %(names)s.") % {"key": key, "names": ", ".join(needed)}
    return ""


def _run_now(target: Any, actor: str, answers: Answers) -> Run:
    return operations.run_now(_key(target), actor=actor)


def _key(target: Any) -> str:
    return str(target.function_id if isinstance(target, CronDefinition) else target.key)


def _refuse_pause(target: Any) -> str:
    return _("%(target)s is paused already.") % {"target": target} if target.is_paused else ""


def _pause(target: Any, actor: str, answers: Answers) -> None:
    pauses.pause(target, actor=actor, reason=answers["reason"], until=answers["until"])


def _refuse_resume(target: Any) -> str:
    return "" if target.is_paused else _("%(target)s is not paused.") % {"target": target}


def _resume(target: Any, actor: str, answers: Answers) -> None:
    pauses.resume(target, actor=actor, catch_up=answers.get("catch_up", False))


def _override(definition: CronDefinition, actor: str, answers: Answers) -> None:
    expression, timezone = answers["expression"], answers["timezone"]
    overrides.override(definition, expression=expression, timezone=timezone, actor=actor)


def _refuse_clear_override(definition: CronDefinition) -> str:
    if definition.is_overridden:
        return ""
    return _("%(target)s is not overridden.") % {"target": definition}


def _clear_override(definition: CronDefinition, actor: str, answers: Answers) -> None:
    overrides.clear_override(definition, actor=actor)


def _refuse_cancel(run: Run) -> str:
    if run.state in WAITING or run.state == State.CLAIMED:
        return ""
    return str(RunNotCancellable(run.pk, str(run.state)))


def _cancel(run: Run, actor: str, answers: Answers) -> None:
    operations.cancel(run, actor=actor)


def _refuse_abort(run: Run) -> str:
    state = str(run.state)
    if run.state != State.RUNNING:
        return str(RunError(run.pk, state, _("only a run that is running can be aborted")))
    since = run.abort_requested_at
    return str(AbortInProgress(run.pk, state, since)) if since else ""


def _abort(run: Run, actor: str, answers: Answers) -> None:
    operations.cancel(run, force=True, actor=actor, reason=answers["reason"])


def _refuse_reschedule(run: Run) -> str:
    return "" if run.state in WAITING else str(RunNotReschedulable(run.pk, str(run.state)))


def _reschedule(run: Run, actor: str, answers: Answers) -> None:
    operations.reschedule(run, answers["when"], actor=actor)


def _refuse_rerun(run: Run) -> str:
    return "" if run.state in FINISHED else str(RunNotRerunnable(run.pk, str(run.state)))


def _rerun(run: Run, actor: str, answers: Answers) -> Run:
    return operations.rerun(run, actor=actor)


RUN_NOW = Verb(
    name="run-now",
    permission="run_now",
    label=gettext_lazy("Run now"),
    bulk_label=gettext_lazy("Run selected %(verbose_name_plural)s now"),
    done=gettext_lazy("Enqueued"),
    not_done=gettext_lazy("Not enqueued"),
    refusal=_refuse_run_now,
    perform=_run_now,
)
PAUSE = Verb(
    name="pause",
    permission="pause",
    label=gettext_lazy("Pause"),
    bulk_label=gettext_lazy("Pause selected %(verbose_name_plural)s"),
    done=gettext_lazy("Paused"),
    not_done=gettext_lazy("Not paused"),
    refusal=_refuse_pause,
    perform=_pause,
    asks=PauseQuestion,
)
RESUME = Verb(
    name="resume",
    permission="pause",
    label=gettext_lazy("Resume"),
    bulk_label=gettext_lazy("Resume selected %(verbose_name_plural)s"),
    done=gettext_lazy("Resumed"),
    not_done=gettext_lazy("Not resumed"),
    refusal=_refuse_resume,
    perform=_resume,
    asks=ask_about_catch_up,
)
OVERRIDE = Verb(
    name="override",
    permission="override_definition",
    label=gettext_lazy("Override"),
    done=gettext_lazy("Overridden"),
    not_done=gettext_lazy("Not overridden"),
    perform=_override,
    asks=OverrideQuestion,
)
CLEAR_OVERRIDE = Verb(
    name="clear-override",
    permission="override_definition",
    label=gettext_lazy("Clear override"),
    done=gettext_lazy("Override cleared"),
    not_done=gettext_lazy("Override not cleared"),
    refusal=_refuse_clear_override,
    perform=_clear_override,
)
CANCEL = Verb(
    name="cancel",
    permission="cancel_run",
    label=gettext_lazy("Cancel"),
    bulk_label=gettext_lazy("Cancel selected %(verbose_name_plural)s"),
    done=gettext_lazy("Cancelled"),
    not_done=gettext_lazy("Not cancelled"),
    refusal=_refuse_cancel,
    perform=_cancel,
)
ABORT = Verb(
    name="abort",
    permission="cancel_run",
    label=gettext_lazy("Abort"),
    bulk_label=gettext_lazy("Abort selected %(verbose_name_plural)s"),
    done=gettext_lazy("Abort requested"),
    not_done=gettext_lazy("Not aborted"),
    refusal=_refuse_abort,
    perform=_abort,
    asks=ReasonQuestion,
)
RESCHEDULE = Verb(
    name="reschedule",
    permission="reschedule_run",
    label=gettext_lazy("Reschedule"),
    bulk_label=gettext_lazy("Reschedule selected %(verbose_name_plural)s"),
    done=gettext_lazy("Rescheduled"),
    not_done=gettext_lazy("Not rescheduled"),
    refusal=_refuse_reschedule,
    perform=_reschedule,
    asks=RescheduleQuestion,
)
RERUN = Verb(
    name="rerun",
    permission="rerun_run",
    label=gettext_lazy("Rerun"),
    bulk_label=gettext_lazy("Rerun selected %(verbose_name_plural)s"),
    done=gettext_lazy("Enqueued again"),
    not_done=gettext_lazy("Not enqueued again"),
    refusal=_refuse_rerun,
    perform=_rerun,
)
