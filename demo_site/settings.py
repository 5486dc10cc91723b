"""Settings of the demo site: for one person on one machine, not for the internet.

What django-defer needs is one entry in INSTALLED_APPS. `DEMO_DATA` names the folder for the
database, mails and logs; by default it is `data` beside this file. Alerts go to the log of the
worker, and to Slack if `SLACK_WEBHOOK_URL` is the address of an incoming webhook.
"""

from __future__ import annotations

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent
DATA = Path(os.environ.get("DEMO_DATA") or BASE_DIR / "data").resolve()
DATA.mkdir(parents=True, exist_ok=True)

SECRET_KEY = "everybody knows it, so it protects nothing"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_defer",
    "demo_site.marketplace",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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

ROOT_URLCONF = "demo_site.urls"
AUTH_USER_MODEL = "marketplace.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
LANGUAGE_CODE = "en-us"
USE_TZ = True
TIME_ZONE = "UTC"

# Readers don't block the writer, and a transaction takes the write lock when it begins instead of
# failing half-way: what a web server and workers on one SQLite file need.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA / "db.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            "timeout": 20,
        },
    }
}

EMAIL_BACKEND = "demo_site.mail.FolderBackend"
EMAIL_FILE_PATH = DATA / "mails"
DEFAULT_FROM_EMAIL = "Marketplace <hello@marketplace.example>"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)-7s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"django_defer": {"level": "INFO"}},
}

# Who is told of what fails. Links in messages begin with SITE_URL, which the demo sets to its own.
DEFER = {
    "ALERTS": [{"channel": "log", "name": "console"}],
    "SITE_URL": os.environ.get("SITE_URL") or "http://127.0.0.1:8000",
}
if url := os.environ.get("SLACK_WEBHOOK_URL"):
    DEFER["ALERTS"].append({"channel": "slack", "url": url})
