"""The settings of django-defer: one dict, `DEFER`, read live so that override_settings works.

`conf.max_args_bytes` reads `DEFER["MAX_ARGS_BYTES"]`, or its default below.
"""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.core.signals import setting_changed

DEFAULTS: Final[dict[str, Any]] = {
    "DATABASE": "default",
    "DEFAULT_QUEUE": "default",
    "WORKERS": 2,
    "QUEUES": None,
    "MAX_ARGS_BYTES": 256 * 1024,
    "MAX_RESULT_BYTES": 256 * 1024,
    "SHUTDOWN_GRACE": "25s",
    "KILL_GRACE": "5s",
    "LISTEN": True,
    "POLL_INTERVAL": "0.24s",
    "BEAT_INTERVAL": "5s",
    "LEASE": "30s",
    "PREPARE_STATEMENTS": True,
    "MAX_RUNS_PER_WORKER": 10_000,
    "CHUNK_SIZE": 64,
    "KEEP_SUCCEEDED": "7d",
    "KEEP_FAILED": "90d",
    "KEEP_LAST": 10,
    "LOG_LEVEL": "INFO",
    "LOG_PRINTS": False,
    "ALERTS": (),
    "SITE_URL": None,
    "QUEUE_STALLED_AFTER": "10m",
    "SLOT_MARGIN": "10m",
    "METRICS_TOKEN": None,
    "SENTRY": True,
}

MOST_CLAIMS: Final = 64  # that a worker may be given at once: the largest CHUNK_SIZE


class Conf:
    """Attribute access to `settings.DEFER`; a missing key has its default."""

    def __init__(self) -> None:
        self._values: dict[str, Any] | None = None

    @property
    def values(self) -> dict[str, Any]:
        """Every setting by its name in `DEFER`."""
        if self._values is None:
            self._values = {**DEFAULTS, **getattr(settings, "DEFER", {})}
        return self._values

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name.upper()]
        except KeyError:
            raise AttributeError(f"django-defer has no setting {name.upper()!r}") from None

    def reset(self, *, setting: str | None = None, **kwargs: object) -> None:
        """Forget what was read, after DEFER changed."""
        if setting in (None, "DEFER"):
            self._values = None


conf = Conf()
setting_changed.connect(conf.reset, dispatch_uid="django_defer.conf")


def unknown_keys() -> list[str]:
    """Return the keys of `DEFER` that mean nothing here."""
    return sorted(set(getattr(settings, "DEFER", {})) - set(DEFAULTS), key=str)
