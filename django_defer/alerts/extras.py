"""The libraries that a channel may need: none is installed unless it is asked for."""

from __future__ import annotations


def missing(extra: str, kind: str) -> ImportError:
    """Return the error for a channel whose library is not installed."""
    return ImportError(f'the channel "{kind}" needs: pip install "django-defer[{extra}]"')
