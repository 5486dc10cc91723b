"""What a project may include: `path("defer/metrics", include("django_defer.metrics.urls"))`."""

from __future__ import annotations

from django.urls import path

from django_defer.metrics.views import metrics

app_name = "django_defer_metrics"
urlpatterns = [path("", metrics, name="metrics")]
