"""The ModelAdmin that all pages build on: lists and pages to read, without a form.

Rows are owned by code or written by verbs, so nothing is added, changed or deleted by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from django_defer.admin.rendering import Links

if TYPE_CHECKING:
    from django.db.models import Model
    from django.urls import URLPattern
    from django_stubs_ext import StrOrPromise

    from django_defer.admin.pages import Page

    Base = admin.ModelAdmin[Any]
else:
    Base = admin.ModelAdmin


class ReadingChangeList(ChangeList):
    """A list whose ModelAdmin looks up what a page of rows needs, all at once."""

    def get_results(self, request: HttpRequest) -> None:
        """Fetch a page of rows and prepare it."""
        super().get_results(request)
        self.result_list: Any = list(self.result_list)
        cast("ReadingAdmin", self.model_admin).prepare(self.result_list)


class ReadingAdmin(Base):
    """A list and a page for each row, to read."""

    show_full_result_count = False  # it would count the whole table
    show_facets = admin.ShowFacets.NEVER  # so would these
    object_history_template = "admin/django_defer/object_history.html"
    may_be_gone: StrOrPromise = ""  # why a row may not be there any more
    not_filters: tuple[str, ...] = ("find_",)  # begin the names of what is not about the rows

    class Media:
        css = {"all": ["django_defer/admin.css"]}

    def page(self, request: HttpRequest, row: Any) -> Page:
        """Return what the page of this row shows."""
        raise NotImplementedError

    def prepare(self, rows: list[Any]) -> None:
        """Look up what the list shows beside its rows, in a fixed number of queries."""

    def get_urls(self) -> list[URLPattern]:
        """Add the address of the dashboard; any one of our models on a site will do."""
        view = self.admin_site.admin_view(self.to_dashboard)
        return [path("dashboard/", view, name="django_defer_dashboard"), *super().get_urls()]

    def to_dashboard(self, request: HttpRequest) -> HttpResponse:
        """Go to the dashboard, the index page of this app."""
        app = {"app_label": self.opts.app_label}
        url = reverse("admin:app_list", kwargs=app, current_app=self.admin_site.name)
        query = request.META["QUERY_STRING"]
        return HttpResponseRedirect(f"{url}?{query}" if query else url)

    @property
    def links(self) -> Links:
        """Links to the pages of the site that this ModelAdmin is registered on."""
        return Links(self.admin_site)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody adds a row by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes a row by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes a row by hand."""
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Let an address ask for what `list_filter` offers and for nothing else.

        Django allows every column of the table. An address such as ?args__startswith=… would let
        people read, a letter at a time, what no page shows them.
        """
        for each in self.get_list_filter(request):
            if isinstance(each, type) and issubclass(each, admin.SimpleListFilter):
                one: list[str | None] = [each.parameter_name]
                if lookup in (each.parameters() if hasattr(each, "parameters") else one):
                    return True
                continue
            field = each[0] if isinstance(each, tuple) else str(each)
            if lookup == field or lookup.startswith(f"{field}__"):
                return super().lookup_allowed(lookup, value, request)
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Let the list prepare its rows."""
        return ReadingChangeList

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list under its own name."""
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the page of one row. There is no form to post."""
        if object_id is None or not self.has_view_permission(request):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        row = self.get_object(request, unquote(object_id))
        if row is None:
            return self.gone(request)
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        request.current_app = self.admin_site.name
        context = {**self.page_context(request, row), **(extra_context or {})}
        return TemplateResponse(request, "admin/django_defer/detail.html", context)

    def gone(self, request: HttpRequest) -> HttpResponse:
        """Go to the list, and say that there is no such row (any more)."""
        text = _("There is no such %(name)s (any more).") % {"name": self.opts.verbose_name}
        self.message_user(request, f"{text} {self.may_be_gone}".strip(), messages.WARNING)
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"
        return HttpResponseRedirect(reverse(name, current_app=self.admin_site.name))

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Return what the template of the page needs."""
        page = self.page(request, row)
        return {
            **self.admin_site.each_context(request),
            "page": page,
            "title": page.title,
            "subtitle": page.subtitle,
            "original": row,
            "opts": self.opts,
            "media": self.media,
            "has_view_permission": True,
            "history_url": self.url_of("history", row),
        }

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show who did what, and say in which zone the times are."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if self.get_object(request, unquote(object_id)) is None:
            return self.gone(request)
        zone = {"zone": timezone.get_current_timezone_name()}
        return super().history_view(request, object_id, {**zone, **(extra_context or {})})

    def url_of(self, page: str, row: Model) -> str:
        """Return the address of one of this row's own pages."""
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{page}"
        return reverse(name, args=[quote(row.pk)], current_app=self.admin_site.name)
