"""Django settings of a peer that runs within Django, from what `Peer.environment` makes."""

from __future__ import annotations

import json
import os

from tests.databases import server_from_environment

SECRET_KEY = "of no use outside of the benchmarks"
DEBUG = False
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    *json.loads(os.environ.get("DEFER_BENCH_APPS", "[]")),
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("PGDATABASE", ""),
        "CONN_MAX_AGE": None,
        **server_from_environment(),
    }
}
if "django_tasks_db" in INSTALLED_APPS:
    TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
