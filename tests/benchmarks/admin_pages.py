"""The pages of the admin that are measured, and two commands that say the same in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, Final, TypeAlias

from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from django_defer.models import CronDefinition, Run
from django_defer.states import State
from tests.benchmarks.admin_seed import BUSY, IDLE
from tests.benchmarks.admin_steps import output

Action: TypeAlias = Callable[[], bytes]

FUNCTIONS: Final[list[dict[str, Any]]] = [
    {},
    {"p": 40},
    {"status": "active"},
    {"status": "paused"},
    {"status": "orphaned"},
    {"queue": "mail"},
    {"q": "f19"},
    {"o": "-1"},
]
DEFINITIONS: Final[list[dict[str, Any]]] = [
    {},
    {"p": 20},
    *({"status": name} for name in ("active", "paused", "orphaned", "error", "off", "overridden")),
    {"q": "f19"},
    {"o": "4"},
]
RUNS: Final[list[dict[str, Any]]] = [
    {},
    *({"state": str(state)} for state in State),
    {"state": "retrying"},
    *({"enqueued": span} for span in ("hour", "today", "day", "week")),
    *({"trouble": kind} for kind in ("attempts", "failures", "losses")),
    {"error": "ValueError"},
    {"error": "NoSuchError"},
    *({"function": key} for key in (BUSY, "shop.f1998", IDLE)),
    {"function": BUSY, "state": "failed"},
    {"function": "shop.f1", "state": "failed"},
    *({"origin": origin} for origin in ("slot", "run", "rerun", "call")),
    *({"queue": name} for name in ("default", "mail", "rare", "no-such")),
    {"q": "tenant:7"},
    {"q": "order:1000"},
    {"q": "no-such:1"},
    {"q": "did not answer"},
    {"q": "order 1000"},
    {"q": "no such text"},
    {"q": BUSY},
    {"q": "tenant:7", "state": "failed"},
    {"q": "no such text", "state": "failed"},
    {"q": "no such text", "function": BUSY},
]


def pages(parent: str, talker: str) -> Iterator[tuple[str, Action]]:
    """Yield each page with its name."""
    for span in ("hour", "day", "week"):
        yield f"dashboard {span}", _get("app_list", "django_defer", span=span)
    yield "admin index", _get("index")
    yield "health", partial(_read, reverse("django_defer:health"))
    yield from _lists("backgroundfunction", FUNCTIONS)
    for key in (BUSY, IDLE):
        yield f"function {key}", _get("django_defer_backgroundfunction_change", key)
    yield from _lists("crondefinition", DEFINITIONS)
    definition = CronDefinition.objects.get(function=BUSY)
    yield "definition", _get("django_defer_crondefinition_change", definition.pk)
    override = reverse("admin:django_defer_crondefinition_override", args=[definition.pk])
    asked = {"expression": "0 9 * * *", "timezone": "UTC", "preview": "1"}
    yield "override, with its preview", partial(_read, override, posted=asked)
    for model in ("queue", "cluster"):
        yield from _lists(model, [{}])
    yield from _runs(parent)
    newest = Run.objects.order_by("-pk")
    for name, pk in (
        ("succeeded", newest.filter(state=State.SUCCEEDED)[0].pk),
        ("failed", newest.filter(state=State.FAILED, failures=3)[0].pk),
        ("queued", newest.filter(state=State.QUEUED)[0].pk),
        ("of a slot", newest.filter(slot__isnull=False)[0].pk),
        ("with 5,000 children", parent),
        ("with 1,000 log lines", talker),
    ):
        yield f"run {name}", _get("django_defer_run_change", pk)
    yield from _questions()
    yield from _commands(newest[0])


def own_page() -> bytes:
    """Return a page in which nothing of ours is."""
    return _read(reverse("admin:password_change"))


def _runs(parent: str) -> Iterator[tuple[str, Action]]:
    yield from _lists("run", RUNS)
    run = Run.objects.order_by("-pk")[100_000 if Run.objects.count() > 100_000 else 1000]
    definition = CronDefinition.objects.get(function=BUSY)
    for name, query in (
        ("a deep page", {"before": str(run.pk)}),
        ("a deep page of a function", {"before": str(run.pk), "function": BUSY}),
        ("definition", {"definition": str(definition.pk)}),
        ("parent", {"parent": parent}),
        ("parent, failed", {"parent": parent, "state": "failed"}),
        ("q=an id", {"q": str(run.pk)}),
        ("q=the beginning of an id", {"q": run.pk.hex[:9]}),
        ("q=the end of an id", {"q": run.pk.hex[-8:]}),
    ):
        yield f"runs {name}", _get("django_defer_run_changelist", **query)


def _questions() -> Iterator[tuple[str, Action]]:
    """Yield confirmations of a verb on all that match."""
    url = reverse("admin:django_defer_run_changelist")
    one = Run.objects.order_by("-pk")[0].pk
    for verb, query in (
        ("rerun", ""),
        ("rerun", "?state=failed"),
        ("cancel", "?state=queued"),
        ("cancel", "?state=scheduled"),
        ("rerun", f"?function={BUSY}"),
        ("rerun", "?q=tenant:7"),
        ("rerun", "?error=ValueError"),
    ):
        posted = {"action": f"{verb}_selected", "select_across": "1", "_selected_action": one}
        yield f"{verb} all {query}", partial(_read, url + query, posted=posted)


def _commands(run: Run) -> Iterator[tuple[str, Action]]:
    for words in (
        ["defer_status"],
        ["defer_status", "--json"],
        ["defer_explain", str(run.pk)],
        ["defer_explain", run.pk.hex[-8:]],
        ["defer_explain", BUSY],
        ["defer_explain", "shop.gone"],
    ):
        name = " ".join(words).replace(str(run.pk), "RUN").replace(run.pk.hex[-8:], "END")
        yield name, partial(_command, *words)


def _lists(model: str, queries: list[dict[str, Any]]) -> Iterator[tuple[str, Action]]:
    for query in queries:
        words = " ".join(f"{name}={value}" for name, value in query.items())
        yield f"{model}s {words}".strip(), _get(f"django_defer_{model}_changelist", **query)


def _get(name: str, *args: Any, **query: Any) -> Action:
    return partial(_read, reverse(f"admin:{name}", args=args), query)


def _read(url: str, query: Any = None, *, posted: Any = None) -> bytes:
    client = _client()
    response = client.get(url, query) if posted is None else client.post(url, posted)
    if response.status_code not in (200, 503):  # the health view's word for trouble
        raise RuntimeError(f"{url} {query} answered {response.status_code}")
    return bytes(response.content)


def _command(*words: str) -> bytes:
    with output() as text:
        call_command(*words, stdout=text)
    return text.getvalue().encode()


@cache
def _client() -> Client:
    client = Client()
    user, _is_new = User.objects.get_or_create(
        username="ada", defaults={"is_staff": True, "is_superuser": True}
    )
    client.force_login(user)
    return client
