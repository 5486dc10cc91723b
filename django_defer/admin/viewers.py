"""What one person may see on one AdminSite, and links to just that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.sites import all_sites

from django_defer.admin.rendering import Links
from django_defer.models import Run

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite
    from django.db.models import Model
    from django.http import HttpRequest


def site_of(request: HttpRequest) -> AdminSite:
    """Return the site that answers this request."""
    name = getattr(request, "current_app", None)
    return next((site for site in all_sites if site.name == name), admin.site)


class Viewer(Links):
    """A person at one site. Links lead only to what both have; elsewhere they are plain text."""

    def __init__(self, request: HttpRequest, site: AdminSite) -> None:
        super().__init__(site)
        self.request = request

    def may_view(self, model: type[Model]) -> bool:
        """Say whether this person may see the list of a model."""
        if self.site.is_registered(model):
            return self.site.get_model_admin(model).has_view_permission(self.request)
        codename = f"{model._meta.app_label}.view_{model._meta.model_name}"
        return bool(self.request.user.has_perm(codename))

    def is_shown(self, model: type[Model]) -> bool:
        """Say whether the dashboard speaks of a model: who may see runs sees all of it."""
        return self.may_view(Run) or self.may_view(model)

    def url(self, model: type[Model], page: str, *args: Any) -> str | None:
        """Return the address of a page, None if this person would not be let in."""
        return super().url(model, page, *args) if self.may_view(model) else None
