"""The layout: each module imports only from the lines above its own, and names say what is inside.

Held with `ast`, on the imports at module level: a public method may import the verb it delegates
to. Imports under `if TYPE_CHECKING:` don't count, they are gone at run time.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import django_defer

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(django_defer.__file__).parent

# From the bottom up. A name stands for the module and, if it is a package, for all it contains.
LAYERS = """
progress exceptions
states ids metadata
context
conf durations clock signals event_loop pacing wording sensitive spool
cron_fields payload_types connections prepared schedules
statements
schedule_options retention_options sync_report run_logs
cron_warnings cron_meaning
cron_words
retries cron payload_reading querysets
payload_display clock_changes
payloads registry models wakeup
discovery call_options catch_up keys redaction counting
deadlines run_facts outcomes chores
options enqueue claims transitions inserts
fronts attempt_facts bulk
decorators attempts handles endings overlaps
materialise
failures definition_sync renames attempt_events
sync stored_calls unfit
operations pauses reap retention log_writing
prune
scheduler overrides reports history_statements
history
troubles
status_text explanations subjects
status_json definition_explanations
alerts
health
explain_text urls metrics
bell process django_q2 surroundings check_ins event_masking
board interrupts sentry chunk_sizes chunk_writes
mailbox chunk_watch
broker executor
membership worker_process
database_duties seats
alerter
cluster
console
reload
serve
checks testing admin management
templatetags
apps
"""

# All that we build on django-q2 is imported here, and nowhere else.
MAY_IMPORT_DJANGO_Q = {"django_q2"}

# `defer` would replace the decorator on import; the others are names for anything.
FORBIDDEN_NAMES = {"defer", "helpers", "tasks", "utils"}

LAYER_OF = {name: number for number, line in enumerate(LAYERS.split("\n")) for name in line.split()}


def modules() -> list[Path]:
    """Return every Python file of the package that the layout speaks of."""
    return [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != PACKAGE / "__init__.py" and "migrations" not in path.parts
    ]


def name_of(path: Path) -> str:
    """Return the name that the layout has for a file: its top module or package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def is_type_checking(node: ast.stmt) -> bool:
    """Say whether this is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def at_module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run on import, those in `if`, `try` and classes too."""
    for node in body:
        yield node
        if is_type_checking(node) or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for field in ("body", "orelse", "finalbody"):
            yield from at_module_level(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from at_module_level(handler.body)


def imported(node: ast.AST, package: str) -> list[str]:
    """Return the full names that an import statement brings, made absolute."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        if node.level:
            parent = package.split(".")[: len(package.split(".")) - node.level + 1]
            module = ".".join([*parent, module]) if module else ".".join(parent)
        return [f"{module}.{alias.name}" for alias in node.names]
    return []


def package_of(path: Path) -> str:
    """Return the dotted name of the package that a file is in."""
    return ".".join(["django_defer", *path.relative_to(PACKAGE).parent.parts])


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_the_lines_above_it(path: Path) -> None:
    own = name_of(path)
    assert own in LAYER_OF, f"{own} has no place in the layout: add it to LAYERS in this file."
    for node in at_module_level(ast.parse(path.read_text()).body):
        for full_name in imported(node, package_of(path)):
            if not full_name.startswith("django_defer."):
                continue
            other = full_name.split(".")[1]
            if other == own or not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            assert other in LAYER_OF, (
                f"{own}:{node.lineno} imports from the package itself ({full_name}): "
                f"import from the module that defines it."
            )
            assert LAYER_OF[other] < LAYER_OF[own], (
                f"{own}:{node.lineno} imports {other}, which is not above it in the layout: move "
                f"what is shared to a line above both, or import the verb inside the method."
            )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_one_module_alone_imports_django_q(path: Path) -> None:
    if name_of(path) in MAY_IMPORT_DJANGO_Q:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        for full_name in imported(node, package_of(path)):
            assert full_name.split(".")[0] != "django_q", (
                f"{path.name} imports {full_name}: only {sorted(MAY_IMPORT_DJANGO_Q)} may, so "
                f"that a new django-q2 is met in one place."
            )


def test_no_module_has_a_name_that_misleads() -> None:
    names = {path.stem for path in PACKAGE.rglob("*.py")} | {
        path.name for path in PACKAGE.rglob("*") if path.is_dir()
    }
    assert not names & FORBIDDEN_NAMES


def test_the_layout_lists_no_module_twice_and_none_that_is_gone() -> None:
    listed = LAYERS.split()
    assert sorted(listed) == sorted(set(listed))
    assert set(listed) <= {name_of(path) for path in modules()}
