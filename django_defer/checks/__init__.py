"""What `manage.py check` says about settings, database and background functions.

No check asks the database: each looks at settings and at what discovery imported. Their tag is
`django_defer`; a project silences one with SILENCED_SYSTEM_CHECKS.
"""

from __future__ import annotations

from typing import Final

from django.core.checks import register

from django_defer.checks.alerts import check_alerts
from django_defer.checks.database import check_database
from django_defer.checks.functions import (
    check_atomic,
    check_discovery,
    check_enabled,
    check_modules,
    check_schedules,
)
from django_defer.checks.settings import check_settings

TAG: Final = "django_defer"

for _check in (
    check_settings,
    check_database,
    check_discovery,
    check_enabled,
    check_schedules,
    check_modules,
    check_atomic,
    check_alerts,
):
    register(_check, TAG)
