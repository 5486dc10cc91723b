"""Questions for a moment to come: until when a pause lasts, and when a run is to be due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_defer.admin.questions import Question, ReasonQuestion
from django_defer.admin.rendering import now
from django_defer.deadlines import refuse_later
from django_defer.exceptions import InvalidOption
from django_defer.states import WAITING
from django_defer.wording import display_zone, with_zone, zone_name

MORNING: Final = 8  # the hour of "tomorrow, 08:00"


class FutureField(forms.DateTimeField):
    """An instant to come, in the zone that is shown."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
        super().__init__(required=False, widget=widget, **kwargs)

    def clean(self, value: Any) -> datetime | None:
        """Refuse what has passed."""
        instant: datetime | None = super().clean(value)
        if instant is None:
            return None
        if instant.tzinfo is None:  # USE_TZ is off
            instant = instant.replace(tzinfo=display_zone())
        if instant <= now():
            raise ValidationError(_("This time has passed."))
        return instant


class MomentQuestion(Question):
    """A moment: that of a choice, `span`, or a FutureField, whose name is `moment`.

    After `clean`, `cleaned_data[moment]` is the answer, and None for the choice that is "".
    """

    moment: ClassVar[str]
    moment_label: ClassVar[Any]  # with a place for the zone

    def __init__(self, rows: Sequence[Any], data: Mapping[str, Any] | None = None) -> None:
        super().__init__(rows, data)
        self.fields[self.moment].label = self.moment_label % {"zone": zone_name()}

    def clean(self) -> dict[str, Any]:
        """Make one moment of both answers."""
        answers: dict[str, Any] = self.cleaned_data
        span = answers.get("span")
        if span and answers.get(self.moment):
            self.add_error(self.moment, _("Choose one: this time, or what is chosen above."))
        elif span:
            answers[self.moment] = _end_of(span)
        return answers


def _end_of(span: str) -> datetime:
    local = now().astimezone(display_zone())
    if span == "hour":
        return now() + timedelta(hours=1)
    morning = (local + timedelta(days=1)).replace(
        hour=MORNING, minute=0, second=0, microsecond=0, fold=0
    )
    return morning.astimezone(UTC)


class PauseQuestion(MomentQuestion, ReasonQuestion):
    """Until when and why. Without an answer: until somebody resumes it."""

    name = "pause"
    moment = "until"
    moment_label = gettext_lazy("Or until (%(zone)s, optional)")
    field_order = ("span", "until", "reason")
    span = forms.ChoiceField(
        label=gettext_lazy("How long"),
        choices=[
            ("", gettext_lazy("until somebody resumes it")),
            ("hour", gettext_lazy("for an hour")),
            ("morning", gettext_lazy("until tomorrow, 08:00")),
        ],
        required=False,
    )
    until = FutureField()

    def in_words(self) -> str:
        """Return "until 2026-11-26 08:00:00 UTC, the reason"."""
        until = self.cleaned_data["until"]
        end = _("until %(time)s") % {"time": with_zone(until)} if until else ""
        return ", ".join(part for part in (end, super().in_words()) if part)


class RescheduleQuestion(MomentQuestion):
    """When it is to be due. Without an answer: now."""

    name = "reschedule"
    moment = "when"
    moment_label = gettext_lazy("Or at (%(zone)s, optional)")
    span = forms.ChoiceField(
        label=gettext_lazy("Due"),
        choices=[
            ("", gettext_lazy("now")),
            ("hour", gettext_lazy("in an hour")),
            ("morning", gettext_lazy("tomorrow, 08:00")),
        ],
        required=False,
    )
    when = FutureField()

    def clean(self) -> dict[str, Any]:
        """Refuse a moment at which the run is discarded. Several are refused one by one."""
        chosen_when = self.cleaned_data.get("when")
        answers = super().clean()
        if self.errors or len(self.rows) != 1:
            return answers
        run = self.rows[0]
        if run.discard_after is not None and run.state in WAITING:
            try:
                refuse_later(
                    answers["when"] or now(),
                    run.discard_after,
                    _("Let it be due earlier, or cancel it."),
                )
            except InvalidOption as refusal:
                self.add_error("when" if chosen_when else "span", str(refusal))
        return answers

    def in_words(self) -> str:
        """Return "to 2026-11-26 08:00:00 UTC"."""
        when = self.cleaned_data["when"]
        return _("to %(time)s") % {"time": with_zone(when)} if when else _("to now")
