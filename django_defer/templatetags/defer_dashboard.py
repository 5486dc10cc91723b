"""What the dashboard's template shows: the admin renders it in a view of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template

if TYPE_CHECKING:
    from django.template import RequestContext

    from django_defer.admin.dashboard import Dashboard

register = template.Library()


@register.simple_tag(takes_context=True)
def defer_dashboard(context: RequestContext) -> Dashboard:
    """Return the dashboard for the person who asks."""
    # Django imports the tags of every app, also in a project that has no admin.
    from django_defer.admin.dashboard import dashboard

    request: Any = context.request
    return dashboard(request)
