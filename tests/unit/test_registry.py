"""What is registered under which key, and what is refused because no key could find it again."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
from typing import TYPE_CHECKING, Any

import pytest

from django_defer import defer
from django_defer.exceptions import DuplicateKey, ImproperlyDeferred, UnknownFunction
from django_defer.registry import Registry, app_label_of, home_for, in_defer_module, registry
from tests.scratch import define, own_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    with own_registry():
        yield


def plain(value: int = 1) -> int:
    """Be a function at module level."""
    return value + 1


async def plain_async(value: int = 1) -> int:
    """Be a coroutine function at module level."""
    return value + 1


def generator() -> Iterator[int]:
    """Yield."""
    yield 1


async def async_generator() -> Any:
    """Yield, in async code."""
    yield 1


class Thing:
    """Has methods."""

    def method(self) -> None:
        """Need an object."""

    @staticmethod
    def static() -> None:
        """Need none, but have a dotted name."""

    def __call__(self) -> None:
        """Be callable."""


def traced(function: Any) -> Any:
    """Wrap a function as a well-behaved decorator does."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def import_file(file: Path, name: str) -> Any:
    """Import a file under a module name of one's choice."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- keys ------------------------------------------------------------------------------------------


def test_a_key_is_the_label_of_the_app_and_the_name_of_the_function() -> None:
    module = define("@defer\ndef compute(): ...", module="tests.testapp.defer.compute")
    assert module.compute.key == "testapp.compute"
    assert registry.get("testapp.compute") is module.compute


def test_outside_of_installed_apps_the_top_package_stands_for_the_label() -> None:
    assert define("@defer\ndef compute(): ...", module="shop.defer").compute.key == "shop.compute"
    assert app_label_of("shop") == "shop"


def test_the_registry_lists_keys_in_order() -> None:
    define("@defer\ndef second(): ...\n@defer\ndef first(): ...")
    assert registry.keys() == ["shop.first", "shop.second"]
    assert len(registry) == 2
    assert "shop.first" in registry
    assert "shop.third" not in registry


def test_functions_may_be_registered_while_somebody_looks_at_all_of_them() -> None:
    define("@defer\ndef first(): ...")
    for _ in registry:
        define("@defer\ndef second(): ...", module="shop.defer.second")
    assert len(registry) == 2


def test_an_unknown_key_gets_the_nearest_one_suggested() -> None:
    define("@defer\ndef compute(): ...")
    with pytest.raises(UnknownFunction, match=r"'shop.compare'. Did you mean 'shop.compute'\?"):
        registry.get("shop.compare")
    with pytest.raises(UnknownFunction, match=r"has the key 'zzz'\.$"):
        registry.get("zzz")
    assert registry.find("shop.compare") is None


def test_a_function_knows_its_file_and_line() -> None:
    deferred = defer(plain)
    assert deferred.module == __name__
    assert deferred.file == __file__
    assert deferred.line == plain.__code__.co_firstlineno
    assert deferred.place == f"{__name__} ({__file__}:{deferred.line})"


def test_below_another_decorator_it_is_still_the_functions_own_line() -> None:
    deferred = defer(traced(plain))
    assert deferred.key == "tests.plain"
    assert deferred.line == plain.__code__.co_firstlineno


def test_the_plain_function_can_be_called_here_and_now() -> None:
    deferred, deferred_async = defer(plain), defer(plain_async)
    assert deferred.call(2) == 3
    assert deferred_async.call(2) == 3
    assert asyncio.run(deferred.acall(2)) == 3
    assert asyncio.run(deferred_async.acall(2)) == 3


# -- duplicates ------------------------------------------------------------------------------------


def test_two_functions_with_one_key_are_refused_and_both_places_named() -> None:
    define("@defer\ndef compute(): ...", module="shop.defer", file="shop/defer.py")
    with pytest.raises(DuplicateKey) as caught:
        define("@defer\ndef compute(): ...", module="shop.tasks", file="shop/tasks.py")
    message = str(caught.value)
    assert "shop.defer (shop/defer.py:2)" in message
    assert "shop.tasks (shop/tasks.py:2)" in message
    assert 'name="…"' in message


def test_two_functions_of_one_name_in_one_module_are_refused() -> None:
    with pytest.raises(DuplicateKey, match=r"shop/defer.py:2\) and .*shop/defer.py:5\)"):
        define("@defer\ndef compute(): ...\n\n@defer\ndef compute(): ...")


def test_two_functions_below_the_same_decorator_are_told_apart() -> None:
    source = """
        import functools

        def traced(function):
            @functools.wraps(function)
            def wrapper(*args):
                return function(*args)
            return wrapper

        @defer
        @traced
        def compute(): ...

        @defer
        @traced
        def compute(): ...
    """
    with pytest.raises(DuplicateKey):
        define(source)


def test_a_module_that_is_executed_again_replaces_its_own_functions() -> None:
    first = define("@defer\ndef compute(): ...")
    second = define("@defer\ndef compute(): ...")
    assert registry.get("shop.compute") is second.compute
    assert second.compute is not first.compute


def test_deferring_one_function_twice_under_one_key_is_refused() -> None:
    defer(plain)
    with pytest.raises(ImproperlyDeferred, match=r"tests\.plain is deferred twice"):
        defer.cron(plain, "0 8 * * *")
    assert registry.get("tests.plain").schedule is None


def test_one_function_may_be_deferred_under_two_names() -> None:
    defer(plain)
    defer.cron(plain, "0 8 * * *", name="plain_daily")
    assert registry.keys() == ["tests.plain", "tests.plain_daily"]


def test_one_file_imported_under_two_module_paths_is_refused_and_both_are_named(
    tmp_path: Path,
) -> None:
    file = tmp_path / "defer.py"
    file.write_text("from django_defer import defer\n\n@defer\ndef compute(): ...\n")
    import_file(file, "tests.testapp.defer")
    with pytest.raises(DuplicateKey) as caught:
        import_file(file, "project.tests.testapp.defer")
    assert caught.value.first.startswith("tests.testapp.defer (")
    assert caught.value.second.startswith("project.tests.testapp.defer (")
    assert "Import it as tests.testapp.defer everywhere." in str(caught.value)
    assert registry.keys() == ["testapp.compute"]


def test_the_path_to_keep_is_the_one_discovery_uses_whichever_came_first(tmp_path: Path) -> None:
    file = tmp_path / "defer.py"
    file.write_text("from django_defer import defer\n\n@defer\ndef compute(): ...\n")
    import_file(file, "project.tests.testapp.defer")
    with pytest.raises(DuplicateKey, match=r"Import it as tests\.testapp\.defer everywhere"):
        import_file(file, "tests.testapp.defer")


def test_functions_typed_into_a_shell_are_not_taken_for_one_file() -> None:
    for module in ("first", "second"):
        define("@defer\ndef compute(): ...", module=module, file="<stdin>")
    assert registry.keys() == ["first.compute", "second.compute"]


# -- what no key could find again ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda: None, "A lambda has no name to be found by"),
        (functools.partial(plain, 2), "takes a function defined with def or async def"),
        (Thing.method, "is a method"),
        (Thing().method, "takes a function defined with def or async def"),
        (Thing.static, "is a method"),
        (Thing, "takes a function defined with def or async def"),
        (Thing(), "takes a function defined with def or async def"),
        (len, "takes a function defined with def or async def"),
        ("shop.compute", "takes a function defined with def or async def"),
        (generator, "is a generator"),
        (async_generator, "is a generator"),
    ],
    ids=[
        "lambda",
        "partial",
        "method",
        "bound method",
        "static method",
        "class",
        "callable object",
        "builtin",
        "text",
        "generator",
        "async generator",
    ],
)
def test_what_could_not_be_found_again_is_refused_with_the_way_out(
    function: Any, says: str
) -> None:
    with pytest.raises(ImproperlyDeferred, match=says):
        defer(function)
    with pytest.raises(ImproperlyDeferred, match=says):
        defer(name="other")(function)
    with pytest.raises(ImproperlyDeferred, match=says):
        defer.cron("0 8 * * *")(function)
    assert len(registry) == 0


def test_a_nested_function_is_refused_with_its_place() -> None:
    def inner() -> None: ...

    line = inner.__code__.co_firstlineno
    with pytest.raises(ImproperlyDeferred, match=rf"inside a function \({__file__}:{line}\)"):
        defer(inner)


def test_decorating_twice_is_refused() -> None:
    with pytest.raises(ImproperlyDeferred, match=r"tests\.plain is decorated with @defer twice"):
        defer(defer(plain))


def test_a_scheduled_function_may_not_need_arguments() -> None:
    with pytest.raises(ImproperlyDeferred) as caught:
        define("@defer.cron('0 8 * * *')\ndef weekly(user, *more, limit, dry=False, **rest): ...")
    assert "`user`, `limit` has no default (shop/defer.py:2)" in str(caught.value)


def test_a_scheduled_function_may_have_arguments_with_defaults() -> None:
    module = define("@defer.cron('0 8 * * *')\ndef weekly(limit=10, *more, dry=False, **rest): ...")
    assert module.weekly.key == "shop.weekly"


# -- where workers look ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "found"),
    [
        ("tests.testapp.defer", True),
        ("tests.testapp.defer.compute", True),
        ("tests.testapp.defer.mails.send", True),
        ("tests.testapp.tasks", False),
        ("tests.testapp.deferred", False),
        ("shop.defer", False),
        ("__main__", False),
    ],
)
def test_workers_import_the_defer_modules_of_installed_apps(module: str, found: bool) -> None:
    assert in_defer_module(module) is found
    made = define("@defer\ndef compute(): ...", module=module)
    assert made.compute.is_discoverable is found


def test_what_is_imported_while_the_apps_load_is_found_by_workers_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("django.apps.registry.apps.ready", False)
    assert define("@defer\ndef compute(): ...", module="shop.tasks").compute.is_discoverable


def test_the_home_of_a_function_is_the_defer_module_of_its_app() -> None:
    assert home_for("tests.testapp.tasks") == "tests/testapp/defer.py"
    assert home_for("__main__") == "an installed app's defer.py"


def test_a_function_defined_before_the_apps_are_loaded_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("django.apps.registry.apps.apps_ready", False)
    with pytest.raises(ImproperlyDeferred, match="imported before Django's apps were loaded"):
        defer(plain)


def test_a_registry_begins_empty() -> None:
    assert list(Registry()) == []
    assert Registry().problems == []
