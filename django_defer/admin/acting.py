"""Verbs in the admin: a button and an address for each row, and an action on lists.

Each is a POST, checks the verb's own permission, is written to the admin's log together with
what it did, and ends in a message; what the rules refuse is a message too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import model_format_dict, unquote
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_defer.admin.all_matching import ACROSS, AllMatching
from django_defer.admin.base import ReadingAdmin
from django_defer.conf import conf
from django_defer.exceptions import DeferError, InvalidOption
from django_defer.models import Run

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.urls import URLPattern

    from django_defer.admin.questions import Question
    from django_defer.admin.verbs import Verb

MOST_AT_ONCE: Final = 1000  # rows an action takes
MOST_NAMED: Final = 5  # rows a message names
PREVIEW: Final = "preview"  # posted by the button that shows what would be
LIVE: Final = "live"  # posted as `preview` by preview.js: only what changes in the form is sent
ANSWERED: Final = "answered"  # posted with the answer for several rows


class ActingAdmin(ReadingAdmin):
    """A ReadingAdmin with verbs."""

    verbs: tuple[Verb, ...] = ()

    def has_run_now_permission(self, request: HttpRequest) -> bool:
        """Say whether this person may run functions now."""
        return request.user.has_perm("django_defer.run_now")

    def has_pause_permission(self, request: HttpRequest) -> bool:
        """Say whether this person may pause and resume."""
        return request.user.has_perm("django_defer.pause")

    def has_cancel_run_permission(self, request: HttpRequest) -> bool:
        """Say whether this person may cancel and abort runs."""
        return request.user.has_perm("django_defer.cancel_run")

    def has_reschedule_run_permission(self, request: HttpRequest) -> bool:
        """Say whether this person may reschedule waiting runs."""
        return request.user.has_perm("django_defer.reschedule_run")

    def has_rerun_run_permission(self, request: HttpRequest) -> bool:
        """Say whether this person may run finished runs again."""
        return request.user.has_perm("django_defer.rerun_run")

    def has_override_definition_permission(self, request: HttpRequest) -> bool:
        """Say whether this person may override expressions and zones."""
        return request.user.has_perm("django_defer.override_definition")

    def has_acknowledge_alert_permission(self, request: HttpRequest) -> bool:
        """Say whether this person may acknowledge alerts, and try their channels."""
        return request.user.has_perm("django_defer.acknowledge_alert")

    def may(self, request: HttpRequest, verb: Verb) -> bool:
        """Say whether this person may use this verb."""
        return bool(getattr(self, f"has_{verb.permission}_permission")(request))

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Add the buttons of the verbs that apply to this row now."""
        buttons = [
            {
                "verb": verb,
                "url": self.url_of(verb.url_name, row),
                "question": verb.asks([row], None),
            }
            for verb in self.verbs
            if self.may(request, verb) and not verb.refusal(row)
        ]
        return {**super().page_context(request, row), "buttons": buttons}

    # -- one row ------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        """Add an address for each verb."""
        prefix = f"{self.opts.app_label}_{self.opts.model_name}"
        own = [
            path(
                f"<path:object_id>/{verb.name}/",
                self._post_only(verb),
                name=f"{prefix}_{verb.url_name}",
            )
            for verb in self.verbs
        ]
        return own + super().get_urls()

    def _post_only(self, verb: Verb) -> Callable[..., HttpResponse]:
        """Return the view of a verb: protected against CSRF by the site, POST only.

        After logging in, a person lands on the row's page: the verb is theirs to repeat.
        """
        protected = self.admin_site.admin_view(partial(self.verb_view, verb=verb))

        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            if not self.admin_site.has_permission(request):
                login = reverse("admin:login", current_app=self.admin_site.name)
                return redirect_to_login(request.path.removesuffix(f"{verb.name}/"), login)
            return protected(request, object_id)

        if verb.is_remote:
            for alias in connections:
                view = transaction.non_atomic_requests(alias)(view)
        return view

    def verb_view(self, request: HttpRequest, object_id: str, *, verb: Verb) -> HttpResponse:
        """Do it to one row, and go back to its page; or ask again, or show what it would do."""
        if not self.may(request, verb):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            return self.gone(request)
        question = None if verb.refusal(row) else verb.asks([row], request.POST)
        if question is not None and (not question.is_valid() or PREVIEW in request.POST):
            if request.POST.get(PREVIEW) == LIVE:
                return self.live_preview(request, question)
            back = self.url_of("change", row)
            context = {"title": verb.label, "subtitle": row, "original": row, "back": back}
            return self.ask(request, question, {**context, "verb": verb, "action": request.path})
        self.apply(request, verb, [row], question)
        return HttpResponseRedirect(self.url_of("change", row))

    def live_preview(self, request: HttpRequest, question: Question) -> HttpResponse:
        """Return the fields with their errors and the preview, without a page around them."""
        preview = question.preview() if question.is_valid() else None
        context = {"question": question, "preview": preview}
        return TemplateResponse(request, "admin/django_defer/live_preview.html", context)

    # -- several rows -------------------------------------------------------------------------

    def apply_to_selected(
        self, request: HttpRequest, verb: Verb, selected: QuerySet[Any]
    ) -> HttpResponse | None:
        """Do it to the selected rows, or ask for what the verb needs to know first."""
        if request.POST.get(ACROSS) == "1":
            return AllMatching(self, request, verb, selected).respond(answered=ANSWERED)
        rows = list(selected[: MOST_AT_ONCE + 1])
        if len(rows) > MOST_AT_ONCE:
            text = _("Nothing was done: select at most %(n)s at a time.") % {"n": MOST_AT_ONCE}
            self.message_user(request, text, messages.ERROR)
            return None
        if not rows:
            text = _("Nothing was done: there are no such %(names)s (any more).")
            names = {"names": self.opts.verbose_name_plural}
            self.message_user(request, text % names, messages.WARNING)
            return None
        question = verb.asks(rows, request.POST if ANSWERED in request.POST else None)
        if question is not None and not question.is_valid():
            here = request.get_full_path()
            context = {
                "title": verb.bulk_label % model_format_dict(self.opts),
                "original": verb.label,
                "verb": verb,
                "rows": rows,
                "checkbox": ACTION_CHECKBOX_NAME,
                "back": here,
                "action": here,
            }
            return self.ask(request, question, context)
        self.apply(request, verb, rows, question)
        return None

    def ask(
        self,
        request: HttpRequest,
        question: Question | None,
        context: dict[str, Any],
        template: str = "ask",
    ) -> HttpResponse:
        """Return the page that asks a question, or for a confirmation where there is none."""
        request.current_app = self.admin_site.name
        is_valid = question is not None and question.is_bound and question.is_valid()
        full = {
            **self.admin_site.each_context(request),
            "question": question,
            "preview": question.preview() if question and is_valid else None,
            "answered": ANSWERED,
            "has_view_permission": True,
            "opts": self.opts,
            "media": self.media,
            **context,
        }
        return TemplateResponse(request, f"admin/django_defer/{template}.html", full)

    # -- doing it -----------------------------------------------------------------------------

    def apply(
        self, request: HttpRequest, verb: Verb, rows: Iterable[Any], question: Question | None
    ) -> None:
        """Do it to each row, and say in messages what was done and what was not."""
        done: list[str] = []
        refused: list[str] = []
        for row in rows:
            link, refusal = self.try_one(request, verb, row, question)
            if refusal:
                refused.append(refusal)
            else:
                done.append(link)
        if done:
            self.message_user(request, _listed(verb.done, done, ", "), messages.SUCCESS)
        if refused:
            self.message_user(request, _listed(verb.not_done, refused, " "), messages.ERROR)

    def try_one(
        self, request: HttpRequest, verb: Verb, row: Any, question: Question | None
    ) -> tuple[str, str]:
        """Do it to one row; return a link to the outcome and "", or "" and why it is refused."""
        try:
            return self._apply_to_one(request, verb, row, question), ""
        except InvalidOption as refusal:  # is about the answer, and doesn't name the row
            return "", f"{row}: {refusal}"
        except DeferError as refusal:
            return "", str(refusal)
        except ObjectDoesNotExist:
            return "", _("%(row)s is gone.") % {"row": row}

    def _apply_to_one(
        self, request: HttpRequest, verb: Verb, row: Any, question: Question | None
    ) -> str:
        """Do it and write it to the log, in one transaction; return a link to the outcome.

        Without a transaction if others have to answer: no row stays locked meanwhile.
        """
        if refusal := verb.refusal(row):
            raise DeferError(refusal)
        answers = question.cleaned_data if question is not None else {}
        words = question.in_words() if question is not None else ""
        using = str(conf.database)
        with nullcontext() if verb.is_remote else transaction.atomic(using=using):
            came = verb.perform(row, request.user.get_username(), answers)
            entry = str(verb.done) + (f": {words}" if words else "")
            if came:
                entry += f": {came}" if isinstance(came, str) else f": run {came.pk}"
            self.log_change(request, row, f"{entry}.")
        if isinstance(came, Run):
            return self.links.to_run(came)
        if isinstance(row, Run):
            return self.links.to_run(row)
        link = self.links.to(type(row), row.pk, row)
        return format_html(_("{}, answered: {}"), link, came) if came else link


def as_actions(verbs: Iterable[Verb]) -> list[Callable[..., HttpResponse | None]]:
    """Return the verbs as actions of a list, which Django offers to those who may use them."""
    return [_action(verb) for verb in verbs]


def _action(verb: Verb) -> Callable[..., HttpResponse | None]:
    def action(
        model_admin: ActingAdmin, request: HttpRequest, selected: QuerySet[Any]
    ) -> HttpResponse | None:
        return model_admin.apply_to_selected(request, verb, selected)

    action.__name__ = verb.action
    decorated: Callable[..., HttpResponse | None] = admin.action(
        action, permissions=[verb.permission], description=verb.bulk_label
    )
    return decorated


def _listed(what: Any, items: list[str], between: str) -> str:
    """Return "Cancelled (10): a, b, c and 7 more"."""
    named = format_html_join(between, "{}", ((item,) for item in items[:MOST_NAMED]))
    more = len(items) - MOST_NAMED
    if more <= 0:
        return format_html("{}: {}", what, named)
    rest = ngettext("and %(n)s more", "and %(n)s more", more) % {"n": more}
    return format_html("{} ({}): {} {}", what, len(items), named, rest)
