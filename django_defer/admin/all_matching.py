"""A verb on all rows that match a list's filters: counted, confirmed, then done in batches.

A request works for some seconds; what is left then is gone on with at the press of a button. Rows
that came after the question was asked, such as the reruns that the verb itself makes, are left out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import BadRequest, ValidationError
from django.utils.translation import gettext as _

from django_defer.admin.counting import count_up_to

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

    from django_defer.admin.acting import ActingAdmin
    from django_defer.admin.questions import Question
    from django_defer.admin.verbs import Verb

ACROSS: Final = "select_across"  # Django posts it as "1" for all rows that match
BATCH: Final = 100  # rows fetched at once
SECONDS: Final = 10.0  # that a request works
MOST_COUNTED: Final = 10_000  # rows; more are estimated
POSTED: Final = "matching-"  # begins the names of what is posted along, from page to page


@dataclass(slots=True)
class AllMatching:
    """What was asked for, and how far it has come."""

    admin: ActingAdmin
    request: HttpRequest
    verb: Verb
    rows: QuerySet[Any]
    after: Any = None
    until: Any = None
    done: int = 0
    refused: int = 0
    examples: list[str] = field(default_factory=list)

    def respond(self, *, answered: str) -> HttpResponse | None:
        """Ask, or work for a while; None when all is done, and said in messages."""
        self.rows = self.rows.order_by("pk")
        is_answered = answered in self.request.POST
        # Any two, in no order: the oldest that wait are behind millions that have ended.
        some = list(self.rows.order_by()[:2])
        question = self.verb.asks(some, self.request.POST if is_answered else None)
        if not is_answered or (question is not None and not question.is_valid()):
            all_rows = self.admin.get_queryset(self.request).order_by("pk")
            self.until = all_rows.values_list("pk", flat=True).last()
            return self._page(question)
        self._read()
        if not self._work(question):
            return self._page(question, is_begun=True)
        self._say()
        return None

    def _read(self) -> None:
        """Take over what the last page posted."""
        posted = {
            name.removeprefix(POSTED): str(value)
            for name, value in self.request.POST.items()
            if name.startswith(POSTED)
        }
        try:
            key = self.admin.opts.pk.to_python
            self.after = key(posted["after"]) if posted["after"] else None
            self.until = key(posted["until"])
            self.done, self.refused = int(posted["done"]), int(posted["refused"])
        except (ValidationError, ValueError, KeyError) as error:
            raise BadRequest(f"{error}") from error

    def _work(self, question: Question | None) -> bool:
        """Do it to one row after the other; return whether that was the last one."""
        stop_at = time.monotonic() + SECONDS
        for row in self._each():
            _done, refusal = self.admin.try_one(self.request, self.verb, row, question)
            self.done += not refusal
            self.refused += bool(refusal)
            if refusal:
                self.examples.append(refusal)
            self.after = row.pk
            if time.monotonic() >= stop_at:
                return not self._left().exists()
        return True

    def _left(self) -> QuerySet[Any]:
        rows = self.rows.filter(pk__lte=self.until)
        return rows if self.after is None else rows.filter(pk__gt=self.after)

    def _each(self) -> Iterator[Any]:
        while batch := list(self._left()[:BATCH]):
            yield from batch

    def _say(self) -> None:
        facts = {"verb": self.verb.done, "n": f"{self.done:,}"}
        if self.done:
            text = _("%(verb)s: %(n)s.") % facts
            self.admin.message_user(self.request, text, messages.SUCCESS)
        if self.refused:
            text = _("%(verb)s: %(n)s.") % {"verb": self.verb.not_done, "n": f"{self.refused:,}"}
            example = f" {self.examples[0]}" if self.examples else ""
            self.admin.message_user(self.request, f"{text}{example}", messages.ERROR)
        if not (self.done or self.refused):
            self.admin.message_user(self.request, _("Nothing matches any more."), messages.WARNING)

    def _page(self, question: Question | None, *, is_begun: bool = False) -> HttpResponse:
        """Return the question, how many it is about, and what to press."""
        opts, here = self.admin.opts, self.request.get_full_path()
        shown = "0" if self.until is None else count_up_to(MOST_COUNTED, self._left()).words
        filters = [
            (name, value)
            for name, value in self.request.GET.items()
            if value and not name.startswith(self.admin.not_filters)
        ]
        context = {
            "title": f"{self.verb.label}: {shown} {opts.verbose_name_plural}",
            "original": self.verb.label,
            "verb": self.verb,
            "across": ACROSS,
            "checkbox": ACTION_CHECKBOX_NAME,  # Django acts on nothing where none is posted
            "count": shown,
            "names": opts.verbose_name_plural,
            "is_begun": is_begun,
            "posted": {
                f"{POSTED}after": "" if self.after is None else self.after,
                f"{POSTED}until": "" if self.until is None else self.until,
                f"{POSTED}done": self.done,
                f"{POSTED}refused": self.refused,
            },
            "done": f"{self.done:,}",
            "refused": f"{self.refused:,}" if self.refused else "",
            "filters": filters,
            "back": here,
            "action": here,
        }
        return self.admin.ask(self.request, question, context, "all_matching")
