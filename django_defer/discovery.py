"""Import every `defer.py`, and every module of a `defer/` package, of the installed apps.

An import that fails breaks neither the site nor the other modules: it is a problem that
`manage.py check` reports and that keeps a worker from starting.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from importlib.machinery import PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from django.apps import apps

from django_defer.registry import Function, Problem, registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Oddity(NamedTuple):
    """A module of a `defer/` package whose name misleads. `kind` is "name" or "shadow"."""

    kind: str
    package: str
    name: str


def discover() -> None:
    """Import all of them; what is registered by the end is what workers know too."""
    registry.problems.clear()
    registry.discovered = False
    broken: set[str] = set()
    for module in defer_modules():
        # A module of a package that can't be imported fails for that reason alone.
        if module.rpartition(".")[0] in broken or not _import(module):
            broken.add(module)
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
        if spec is not None:
            names += [home, *_submodules(home, spec.submodule_search_locations)]
    return names


def oddities() -> list[Oddity]:
    """Find modules of `defer/` packages that don't hold, or that hide, the function they name.

    A name that begins with an underscore promises nothing, and neither does a package's.
    """
    found: list[Oddity] = []
    homes = {f"{config.name}.defer" for config in apps.get_app_configs()}
    for full_name in set(defer_modules()) - homes:
        package, _, name = full_name.rpartition(".")
        home, module = sys.modules.get(package), sys.modules.get(full_name)
        if home is None or module is None or hasattr(module, "__path__") or name[0] == "_":
            continue
        if not isinstance(getattr(module, name, None), Function):
            found.append(Oddity("name", package, name))
        elif isinstance(getattr(home, name, None), ModuleType):
            found.append(Oddity("shadow", package, name))
    return sorted(found, key=lambda each: (each.package, each.name))


def _submodules(package: str, locations: Sequence[str] | None) -> Iterator[str]:
    """Yield the modules below a package in order, without importing any."""
    found = pkgutil.iter_modules(locations, f"{package}.") if locations else ()
    for name, is_package in sorted((info.name, info.ispkg) for info in found):
        if name.endswith(".__main__"):
            continue
        yield name
        spec = PathFinder.find_spec(name, locations) if is_package else None
        if spec is not None:
            yield from _submodules(name, spec.submodule_search_locations)


def _import(module: str) -> bool:
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - whatever it was, it is reported, not hidden
        registry.problems.append(Problem(module, error))
        return False
    return True
