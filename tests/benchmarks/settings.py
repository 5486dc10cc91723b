"""Django settings of one contender, from the environment that `Contender.environment` makes."""

from __future__ import annotations

import json
import os

from tests.databases import server_from_environment
from tests.settings import MIDDLEWARE as MIDDLEWARE
from tests.settings import PASSWORD_HASHERS as PASSWORD_HASHERS
from tests.settings import TEMPLATES as TEMPLATES

SECRET_KEY = "of no use outside of the benchmarks"
DEBUG = False
ALLOWED_HOSTS = ["*"]
STATIC_URL = "static/"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

KIND = os.environ["DEFER_BENCH_KIND"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    *([KIND] if KIND else []),
    "tests.benchmarks",
    *json.loads(os.environ["DEFER_BENCH_APPS"]),
]
if "django.contrib.admin" in INSTALLED_APPS:
    ROOT_URLCONF = "tests.urls"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["DEFER_BENCH_DATABASE"],
        **json.loads(os.environ["DEFER_BENCH_CONNECTION"]),
        **server_from_environment(),
    }
}
DEFER = json.loads(os.environ["DEFER_BENCH_DEFER"])
if KIND == "django_q":
    Q_CLUSTER = json.loads(os.environ["DEFER_BENCH_Q_CLUSTER"])
