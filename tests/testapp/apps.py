"""An app that uses django-defer, as a project's would."""

from __future__ import annotations

from django.apps import AppConfig


class TestAppConfig(AppConfig):
    """The app `testapp`."""

    name = "tests.testapp"
    label = "testapp"
    default_auto_field = "django.db.models.BigAutoField"
