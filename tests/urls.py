"""The admin and the health view, as a project would mount them."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def favicon(request: HttpRequest) -> HttpResponse:
    """Answer what browsers ask for by themselves: a 404 would be an error in their console."""
    return HttpResponse(status=204)


urlpatterns = [
    path("admin/", admin.site.urls),
    path("defer/metrics", include("django_defer.metrics.urls")),
    path("defer/", include("django_defer.urls")),
    path("favicon.ico", favicon),
]
