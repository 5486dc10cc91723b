"""What a verb asks before it acts: plain Django forms, in the page of a row or on one of their own.

A question knows the rows it is asked for. Its `cleaned_data` is what the verb gets; `in_words`
goes into the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_defer.admin.pages import Section
from django_defer.admin.rendering import now
from django_defer.admin.slots import next_slots
from django_defer.cron import CronSchedule
from django_defer.definition_explanations import (
    schedule_as_text,
    schedule_in_words,
    unreadable,
    with_override,
)
from django_defer.models import BackgroundFunction, CronDefinition
from django_defer.schedules import parse_interval


class Question(forms.Form):
    """Asked for these rows; with `data` it is answered."""

    name = "question"  # a part of the ids in the page
    save_label: Any = ""  # of the button, if it is not the verb's
    can_preview = False

    def __init__(self, rows: Sequence[Any], data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data, auto_id=f"id_{self.name}_%s", label_suffix="")
        self.rows = rows

    def in_words(self) -> str:
        """Return the answer as text, "" if there is nothing to say."""
        return ""

    def preview(self) -> Section | None:
        """Return what the answer, which is valid, would lead to."""
        return None


class ReasonQuestion(Question):
    """Why."""

    name = "reason"
    reason = forms.CharField(
        label=gettext_lazy("Reason (optional)"),
        max_length=500,
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )

    def in_words(self) -> str:
        """Return the reason."""
        return str(self.cleaned_data["reason"])


class ResumeQuestion(Question):
    """Whether to catch up."""

    name = "resume"
    catch_up = forms.BooleanField(
        label=gettext_lazy("Treat the slots of the pause as missed ones"), required=False
    )

    def __init__(self, rows: Sequence[Any], data: Mapping[str, Any] | None = None) -> None:
        super().__init__(rows, data)
        help_text = _("If not, the next slot is the next one to fire. If so, catch-up decides")
        if len(rows) == 1 and isinstance(rows[0], CronDefinition):
            help_text += f": {rows[0].get_catch_up_display()}"
        self.fields["catch_up"].help_text = f"{help_text}."

    def in_words(self) -> str:
        """Say if the slots of the pause are caught up."""
        return _("the slots of the pause count as missed") if self.cleaned_data["catch_up"] else ""


def ask_about_catch_up(
    rows: Sequence[Any], data: Mapping[str, Any] | None = None
) -> ResumeQuestion | None:
    """Ask where a schedule is resumed: of definitions, and of functions that have one."""
    keys = [row.key for row in rows if isinstance(row, BackgroundFunction)]
    is_schedule = any(isinstance(row, CronDefinition) for row in rows)
    if is_schedule or (keys and CronDefinition.objects.filter(function__in=keys).exists()):
        return ResumeQuestion(rows, data)
    return None


class OverrideQuestion(Question):
    """The expression and zone to put in force. What is empty or as the code says stays the code's.

    After `clean`, `cleaned_data` has "" for those.
    """

    name = "override"
    save_label = gettext_lazy("Save")
    can_preview = True
    expression = forms.CharField(
        label=gettext_lazy("Expression"),
        max_length=200,
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField", "spellcheck": "false"}),
    )
    timezone = forms.CharField(
        label=gettext_lazy("Time zone"),
        max_length=64,
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField", "spellcheck": "false"}),
    )

    def __init__(self, rows: Sequence[Any], data: Mapping[str, Any] | None = None) -> None:
        super().__init__(rows, data)
        self.row: CronDefinition = rows[0]
        expression = self.fields["expression"]
        expression.initial = self.row.expression_override or self.row.code_expression
        expression.help_text = _("The code says %(code)s.") % {
            "code": schedule_as_text(with_override(self.row))
        }
        self.fields["timezone"].initial = self.row.timezone
        if self.row.kind == self.row.Kind.EVERY:
            expression.label = _("Interval, such as 30s, 5m or 1h30m")
            del self.fields["timezone"]

    def clean_timezone(self) -> str:
        """Refuse what is no zone."""
        zone: str = self.cleaned_data["timezone"]
        if not zone or zone == self.row.code_timezone:
            return ""
        try:
            CronSchedule("* * * * *", zone)
        except ValueError as error:
            raise ValidationError(str(error)) from error
        return zone

    def clean(self) -> dict[str, Any]:
        """Refuse an expression that can't be used, and what changes nothing."""
        answers: dict[str, Any] = {"expression": "", "timezone": "", **self.cleaned_data}
        if self.errors:
            return answers
        answers["expression"] = self._unless_code(answers["expression"])
        asked = with_override(self.row, answers["expression"], answers["timezone"])
        if error := unreadable(asked):
            self.add_error("expression", error)
        elif not asked.is_overridden:
            self.add_error("expression", _("This is what the code says: nothing to override."))
        return answers

    def _unless_code(self, text: str) -> str:
        if text.split() == self.row.code_expression.split():
            return ""
        if self.row.kind == self.row.Kind.EVERY and _interval_of(text) == self.row.interval:
            return ""
        return text

    def in_words(self) -> str:
        """Return what is in force then."""
        return schedule_as_text(self._asked())

    def preview(self) -> Section:
        """Return its meaning and the next slots."""
        asked = self._asked()
        title = _("Next slots with %(schedule)s") % {"schedule": schedule_as_text(asked)}
        section = next_slots(asked, now(), title)
        words = _("It means: %(words)s.") % {"words": schedule_in_words(asked)}
        return Section(title=title, table=section.table, text=f"{words} {section.text}".strip())

    def _asked(self) -> CronDefinition:
        answers = self.cleaned_data
        return with_override(self.row, answers["expression"], answers["timezone"])


def _interval_of(text: str) -> timedelta | None:
    try:
        return parse_interval(text)
    except ValueError:
        return None
