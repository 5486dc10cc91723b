"""Which modules are imported, and what happens when one cannot be."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from django_defer import NotDiscoverable
from django_defer.discovery import Oddity, defer_modules, discover, oddities
from django_defer.exceptions import DuplicateKey, ImproperlyDeferred, InvalidCronExpression
from django_defer.registry import Problem, registry
from tests.scratch import installed_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    Install = Callable[[dict[str, str]], None]

COMPUTE = "from django_defer import defer\n\n@defer\ndef compute(): ...\n"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install the app `shop` with these files, once."""
    entered: list[AbstractContextManager[None]] = []

    def install(files: dict[str, str]) -> None:
        context = installed_app(tmp_path, files, monkeypatch)
        context.__enter__()
        entered.append(context)

    yield install
    for context in entered:
        context.__exit__(None, None, None)


def problems() -> dict[str, type[BaseException]]:
    """Return the class of each problem by the module it was met in."""
    return {problem.module: type(problem.error) for problem in registry.problems}


# -- what is imported ------------------------------------------------------------------------------


def test_a_defer_module_is_imported_when_the_apps_load(install: Install) -> None:
    install({"defer.py": COMPUTE})
    assert registry.get("shop.compute").module == "shop.defer"
    assert registry.problems == []


def test_every_module_of_a_defer_package_is_imported_also_deeper_ones(install: Install) -> None:
    install(
        {
            "defer/__init__.py": "",
            "defer/compute.py": COMPUTE,
            "defer/_shared.py": "SHARED = 1",
            "defer/mails/__init__.py": "",
            "defer/mails/send.py": COMPUTE.replace("compute", "send"),
            "defer/__main__.py": "raise SystemExit('executed')",
            "other.py": "raise RuntimeError('imported')",
        }
    )
    assert [name for name in defer_modules() if name.startswith("shop.")] == [
        "shop.defer",
        "shop.defer._shared",
        "shop.defer.compute",
        "shop.defer.mails",
        "shop.defer.mails.send",
    ]
    assert {"shop.compute", "shop.send"} <= set(registry.keys())
    assert registry.problems == []


def test_a_defer_directory_without_an_init_is_a_package_too(install: Install) -> None:
    install({"defer/compute.py": COMPUTE})
    assert registry.get("shop.compute").module == "shop.defer.compute"


def test_an_app_without_functions_is_left_alone(install: Install) -> None:
    install({"models.py": ""})
    assert not any(name.startswith("shop") for name in defer_modules())
    assert registry.problems == []


def test_listing_the_modules_imports_none(install: Install) -> None:
    install({"defer/__init__.py": "", "defer/mails/__init__.py": ""})
    for name in ("shop.defer", "shop.defer.mails"):
        del sys.modules[name]
    assert "shop.defer.mails" in defer_modules()
    assert "shop.defer.mails" not in sys.modules


def test_what_a_defer_module_imports_is_found_by_workers_too(install: Install) -> None:
    install({"defer.py": "import shop.tasks", "tasks.py": COMPUTE})
    assert registry.get("shop.compute").module == "shop.tasks"
    assert registry.get("shop.compute").is_discoverable


def test_what_is_imported_only_later_would_not_be_found(install: Install) -> None:
    install({"defer.py": "", "tasks.py": COMPUTE})
    import shop.tasks  # type: ignore[import-not-found]

    with pytest.raises(NotDiscoverable, match=r"in shop\.tasks.*Move the function to shop/defer"):
        shop.tasks.compute()


def test_an_app_that_is_ready_later_may_import_functions_too(install: Install) -> None:
    app = """
        from django.apps import AppConfig

        class ShopConfig(AppConfig):
            name = "shop"

            def ready(self):
                from shop import tasks
    """
    install({"apps.py": app, "tasks.py": COMPUTE})
    assert registry.get("shop.compute").is_discoverable


# -- what cannot be imported -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import nowhere_to_be_found", ModuleNotFoundError),
        ("def compute(:", SyntaxError),
        ("raise RuntimeError('at import')", RuntimeError),
        ("from django_defer import defer\ndefer(lambda: None)", ImproperlyDeferred),
        (
            "from django_defer import defer\n@defer.cron('* *')\ndef weekly(): ...",
            InvalidCronExpression,
        ),
        (COMPUTE + COMPUTE, DuplicateKey),
    ],
)
def test_a_module_that_fails_is_a_problem_and_nothing_else(
    install: Install, source: str, error: type[Exception]
) -> None:
    install({"defer.py": source})
    assert problems() == {"shop.defer": error}
    assert "shop.defer" not in sys.modules


def test_a_module_that_fails_does_not_keep_the_others_from_being_imported(
    install: Install,
) -> None:
    install(
        {
            "defer/__init__.py": "",
            "defer/broken/__init__.py": "import nowhere_to_be_found",
            "defer/broken/inside.py": COMPUTE,
            "defer/compute.py": COMPUTE,
        }
    )
    assert problems() == {"shop.defer.broken": ModuleNotFoundError}
    assert "shop.compute" in registry


def test_a_package_that_fails_is_reported_once_not_once_a_module(install: Install) -> None:
    install({"defer/__init__.py": "1 / 0", "defer/a.py": "", "defer/b.py": ""})
    assert problems() == {"shop.defer": ZeroDivisionError}
    assert len(registry.problems) == 1


def test_discovering_again_forgets_problems_that_are_gone(install: Install) -> None:
    install({"defer.py": COMPUTE})
    registry.problems.append(Problem("shop.gone", ImportError("gone")))
    discover()
    assert registry.problems == []
    assert registry.discovered


# -- names that mislead ----------------------------------------------------------------------------


def test_modules_that_do_not_hold_the_function_they_name_are_found(install: Install) -> None:
    install(
        {
            "defer/__init__.py": "from shop.defer.compute import compute",
            "defer/compute.py": COMPUTE,
            "defer/send_mails.py": COMPUTE.replace("compute", "send_mail"),
            "defer/plain.py": "def plain(): ...",
            "defer/_shared.py": "",
            "defer/mails/__init__.py": "",
        }
    )
    assert oddities() == [
        Oddity("name", "shop.defer", "plain"),
        Oddity("name", "shop.defer", "send_mails"),
    ]


def test_modules_that_hide_their_function_are_found(install: Install) -> None:
    install({"defer/__init__.py": "", "defer/compute.py": COMPUTE})
    assert oddities() == [Oddity("shadow", "shop.defer", "compute")]


def test_a_module_that_failed_is_no_oddity_and_is_not_imported_again(install: Install) -> None:
    install({"defer/__init__.py": "", "defer/compute.py": "raise RuntimeError"})
    assert oddities() == []
    assert "shop.defer.compute" not in sys.modules


def test_a_plain_defer_module_has_no_oddities(install: Install) -> None:
    install({"defer.py": COMPUTE.replace("compute", "anything")})
    assert oddities() == []
