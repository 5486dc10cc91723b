"""The app: discovers background functions once the apps are loaded, and registers the checks.

Every process of a project pays for what is imported here. What only some need, such as alerts,
Sentry, cron expressions, they import when they first need it.
"""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DeferConfig(AppConfig):
    """Configuration of `django_defer`."""

    name = "django_defer"
    verbose_name = _("Background functions")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Discover, and register the checks."""
        from django_defer import checks  # noqa: F401
        from django_defer.discovery import discover

        discover()
