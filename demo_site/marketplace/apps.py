"""Configuration of the app."""

from __future__ import annotations

from django.apps import AppConfig


class MarketplaceConfig(AppConfig):
    """The marketplace."""

    name = "demo_site.marketplace"
    label = "marketplace"
