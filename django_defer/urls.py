"""What a project may include in its urls: `path("defer/", include("django_defer.urls"))`."""

from __future__ import annotations

from django.urls import path

from django_defer.health import health

app_name = "django_defer"
urlpatterns = [path("health", health, name="health")]
