"""Django settings of the test suite, for this process and for those it starts.

The environment chooses:

- `DEFER_TEST_DATABASE`: `sqlite` (default) or `postgres`. PostgreSQL is found through PGHOST,
  PGPORT, PGUSER and PGPASSWORD; `tests/conftest.py` starts a private server without PGHOST.
- `DEFER_TEST_NAME`, `DEFER_TEST_OTHER_NAME`: the databases themselves, for processes that shall see
  the test's own (`tests.databases.environment()` makes these).
- `DEFER_TEST_USER_MODEL`: AUTH_USER_MODEL.
- `DEFER_TEST_SETTINGS`: JSON, the setting DEFER; a lease of seconds, say.
- `DEFER_TEST_LEASE`: seconds of the lease where it is shortened (3); 30 is the default's length.
- `DEFER_TEST_SQLITE_BARE`: `1` for SQLite as `startproject` leaves it, without our OPTIONS.
- `DEFER_TEST_DJANGO_Q`: `1` for a project that has django-q2 of its own, with receivers.
- `DEFER_TEST_SENTRY_DSN`: initialise the Sentry SDK with it.
- `DEFER_TEST_PING_URL`: what functions of the test app that are to be pinged ping.
- `DEFER_TEST_USE_TZ` (`0` or `1`) and `DEFER_TEST_TIME_ZONE`.
"""

from __future__ import annotations

import json
import os

import django

from tests.databases import databases_from_environment

SECRET_KEY = "of no use outside of the tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

USE_TZ = os.environ.get("DEFER_TEST_USE_TZ", "1") == "1"
TIME_ZONE = os.environ.get("DEFER_TEST_TIME_ZONE", "UTC")
LANGUAGE_CODE = "en-us"

DATABASES = databases_from_environment()

AUTH_USER_MODEL = os.environ.get("DEFER_TEST_USER_MODEL", "auth.User")
DEFER = json.loads(os.environ.get("DEFER_TEST_SETTINGS", "{}"))

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_defer",
    "tests.testapp",
]

if os.environ.get("DEFER_TEST_DJANGO_Q"):
    INSTALLED_APPS += ["django_q", "tests.neighbour"]
    Q_CLUSTER = {"name": "theirs", "orm": "default", "workers": 1, "timeout": 60, "retry": 120}

MIDDLEWARE = [
    "tests.strict_policy.strict_policy",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# Fast; there is nothing to protect here.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
else:
    EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"

if os.environ.get("DEFER_TEST_SENTRY_DSN"):
    import sentry_sdk

    sentry_sdk.init(dsn=os.environ["DEFER_TEST_SENTRY_DSN"], debug=False)
