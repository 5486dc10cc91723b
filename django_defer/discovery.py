"""Import every `defer.py`, and every module of a `defer/` package, of the installed apps.

An import that fails breaks neither the site nor the other modules: it is a problem that
`manage.py check` reports and that keeps a worker from starting.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from dataclasses import dataclass
from types import ModuleType

from django.apps import apps

from django_defer.registry import Function, Problem, registry


@dataclass(frozen=True, slots=True)
class Oddity:
    """A module of a `defer/` package whose name misleads. `kind` is "name" or "shadow"."""

    kind: str
    package: str
    name: str


def discover() -> None:
    """Import all of them; what is registered by the end is what workers know too."""
    registry.problems.clear()
    for module in defer_modules():
        _import(module)
    registry.discovered = True


def defer_modules() -> list[str]:
    """Return the names of the modules to import, packages before their submodules."""
    names: list[str] = []
    for config in apps.get_app_configs():
        if config.name == "django_defer":
            continue
        home = f"{config.name}.defer"
        try:
            spec = importlib.util.find_spec(home)
        except (ImportError, ValueError):
            continue
        if spec is None:
            continue
        names.append(home)
        if spec.submodule_search_locations is not None:
            locations = list(spec.submodule_search_locations)
            names += sorted(info.name for info in pkgutil.walk_packages(locations, f"{home}."))
    return names


def oddities() -> list[Oddity]:
    """Find modules of `defer/` packages that don't hold, or that hide, the function they name."""
    found: list[Oddity] = []
    for full_name in defer_modules():
        package, _, name = full_name.rpartition(".")
        if not package.endswith(".defer") or name.startswith("_"):
            continue
        try:
            home, module = importlib.import_module(package), importlib.import_module(full_name)
        except Exception:  # noqa: BLE001, S112 - reported as a problem of discovery
            continue
        own = getattr(module, name, None)
        if not isinstance(own, Function):
            found.append(Oddity("name", package, name))
        elif isinstance(getattr(home, name, None), ModuleType):
            found.append(Oddity("shadow", package, name))
    return found


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - whatever it was, it is reported, not hidden
        registry.problems.append(Problem(module, error))
