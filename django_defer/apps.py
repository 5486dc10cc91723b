"""The app: discovers background functions once the apps are loaded, and registers the checks."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DeferConfig(AppConfig):
    """Configuration of `django_defer`."""

    name = "django_defer"
    verbose_name = _("Background functions")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Discover, and register signal receivers and checks."""
        from django_defer import checks, outcomes, sentry, signals  # noqa: F401
        from django_defer.alerts import pings, recording
        from django_defer.discovery import discover

        outcomes.add_hook(recording.record, successes=recording.is_success_wanted)
        outcomes.add_hook(pings.record, successes=pings.is_success_wanted)
        pings.connect()
        sentry.connect()
        discover()
