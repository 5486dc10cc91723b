"""The page that Prometheus reads. It names functions and queues, so not everybody may see it."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.db import Error, transaction
from django.http import HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from django_defer.conf import conf

if TYPE_CHECKING:
    from django.http import HttpRequest

    from django_defer.metrics.collector import DeferCollector

PERMISSION: Final = "django_defer.view_run"
NOT_INSTALLED: Final = (
    "Metrics need prometheus_client, which is not installed: "
    'pip install "django-defer[prometheus]"\n'
)


@cache_control(no_store=True)
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer with the metrics: 503 if the database does not answer, 401 or 404 to strangers."""
    try:
        if not _is_allowed(request):
            return _refusal()
    except Error:  # whose session this is cannot be read
        return _quiet(HttpResponse("defer_up 0\n", content_type="text/plain", status=503))
    if find_spec("prometheus_client") is None:
        return _quiet(HttpResponse(NOT_INSTALLED, content_type="text/plain", status=501))
    from prometheus_client.exposition import choose_encoder

    snapshot = collector().snapshot()
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    status = 200 if snapshot.is_up else 503
    return _quiet(HttpResponse(encode(snapshot), content_type=content_type, status=status))


# Nothing may touch the session or open a transaction before the view can catch what that raises.
metrics.login_required = False  # type: ignore[attr-defined]  # as `login_not_required` does
for _alias in settings.DATABASES:
    metrics = transaction.non_atomic_requests(_alias)(metrics)


@cache
def collector() -> DeferCollector:
    """Return the collector of this process."""
    from django_defer.metrics.collector import DeferCollector

    return DeferCollector()


def _is_allowed(request: HttpRequest) -> bool:
    """Say whether the request has the token, or comes from staff who may view runs."""
    if given := request.headers.get("Authorization"):
        scheme, _, token = given.partition(" ")
        wanted = conf.metrics_token
        is_right = constant_time_compare(token.strip(), wanted or "")
        return bool(wanted) and scheme.lower() == "bearer" and is_right
    user = getattr(request, "user", None)
    return user is not None and user.is_active and user.is_staff and user.has_perm(PERMISSION)


def _refusal() -> HttpResponse:
    if not conf.metrics_token:
        return _quiet(HttpResponse("Not found\n", content_type="text/plain", status=404))
    response = HttpResponse("A bearer token is needed\n", content_type="text/plain", status=401)
    response["WWW-Authenticate"] = "Bearer"
    return _quiet(response)


def _quiet(response: HttpResponse) -> HttpResponse:
    """Keep Django from logging and mailing it as an error at every scrape."""
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response
