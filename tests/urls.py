"""The admin, as a project would mount it."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import path


def favicon(request: HttpRequest) -> HttpResponse:
    """Answer what browsers ask for by themselves: a 404 would be an error in their console."""
    return HttpResponse(status=204)


urlpatterns = [path("admin/", admin.site.urls), path("favicon.ico", favicon)]
