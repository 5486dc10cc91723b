"""Code that a test makes up: functions, apps and projects, each gone when the test is over."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
import types
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.test import override_settings

from django_defer.registry import registry
from tests.databases import SQLITE_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

ROOT = Path(__file__).parents[1]


@contextmanager
def own_registry() -> Iterator[None]:
    """Begin with an empty registry, and put everything back at the end."""
    functions, problems = dict(registry._functions), list(registry.problems)
    discovered = registry.discovered
    registry._functions.clear()
    registry.problems.clear()
    try:
        yield
    finally:
        registry._functions.clear()
        registry._functions.update(functions)
        registry.problems[:] = problems
        registry.discovered = discovered


def define(source: str, module: str = "shop.defer", file: str = "shop/defer.py") -> Any:
    """Execute source as a module of that name, with `defer` imported; return the module."""
    made = types.ModuleType(module)
    code = f"from django_defer import defer, RetryPolicy\n{textwrap.dedent(source)}"
    exec(compile(code, file, "exec"), made.__dict__)
    return made


@contextmanager
def installed_app(
    directory: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str = "shop"
) -> Iterator[None]:
    """Install an app of these files, and let discovery find it, in this process."""
    write_files(directory / name, {"__init__.py": "", **files})
    monkeypatch.syspath_prepend(directory)
    importlib.invalidate_caches()
    try:
        with own_registry(), override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, name]):
            yield
    finally:
        for module in [each for each in sys.modules if each.partition(".")[0] == name]:
            del sys.modules[module]


def write_files(directory: Path, files: dict[str, str]) -> None:
    """Write files, given by their path and text."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


class Project:
    """A project with settings and an SQLite database of its own, used through its commands."""

    def __init__(self, directory: Path, *apps: str, **more_settings: Any) -> None:
        self.directory = directory
        values = {
            "SECRET_KEY": "none",
            "USE_TZ": True,
            "INSTALLED_APPS": [
                "django.contrib.contenttypes",
                "django.contrib.auth",
                "django_defer",
                *apps,
            ],
            "DATABASES": {
                "default": {
                    "ENGINE": "django.db.backends.sqlite3",
                    "NAME": str(directory / "db.sqlite3"),
                    "OPTIONS": SQLITE_OPTIONS,
                }
            },
            **more_settings,
        }
        lines = "\n".join(f"{name} = {value!r}" for name, value in values.items())
        write_files(directory, {"scratch_settings.py": lines})

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the project; every warning is an error."""
        return subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            cwd=self.directory,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "scratch_settings",
                "PYTHONPATH": os.pathsep.join([str(self.directory), str(ROOT)]),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a management command."""
        return self.python("-m", "django", *arguments)
