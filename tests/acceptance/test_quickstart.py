"""README and tutorial do what they say: their code is written and their commands are executed.

A block of Python names its file in its first line; a file that exists is appended to. Of a block of
commands, each line that begins with `$` is executed, and each line below it must be in the output;
a line with only `…` stands for any. Times, ids and the like may differ.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.sqlite  # the project that startproject makes

ROOT: Final = Path(__file__).parents[2]
BLOCK: Final = re.compile(r"^```(python|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND: Final = re.compile(r'\$ ((?:"[^"]*"|[^"\n])+)\n((?:(?!\$ ).*\n)*)')
VARYING: Final = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(,\d+)?|\d+\.\d+s"
)
# What the interpreter of this test has already, and what serves until it is stopped.
LEFT_OUT: Final = ("python -m pip install", "python manage.py runserver")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project `mysite` with an app `shop` and a user, as a reader of README.md has."""
    run(tmp_path, "django-admin startproject mysite .")
    run(tmp_path, "python manage.py startapp shop")
    with (tmp_path / "mysite" / "settings.py").open("a") as settings:
        settings.write('INSTALLED_APPS += ["shop"]\n')
    return tmp_path


def test_the_quickstart_of_the_readme_works_as_written(project: Path) -> None:
    text = (ROOT / "README.md").read_text().partition("## In your own project")[2]
    blocks = list(BLOCK.findall(text))
    # A user to greet: the tables must be there for it.
    run(project, "python manage.py migrate --verbosity 0")
    run(project, new_user("ada"))
    for language, block in blocks:
        follow(project, language, block)
    assert results(project) == {
        ("shop.greet_everybody", "succeeded", None),
        ("shop.greet", "succeeded", "Good morning, ada!"),
    }


def test_the_tutorial_works_and_prints_what_it_shows(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "tutorial" / "quickstart.md").read_text()
    for language, block in BLOCK.findall(text):
        follow(tmp_path, language, block)
    assert results(tmp_path) == {
        ("shop.send_summary", "succeeded", "ada@example.com"),
        ("shop.charge", "succeeded", "30 charged"),
        ("shop.send_summaries", "succeeded", 1),
    }
    assert "no issues" in run(tmp_path, "python -W error manage.py check")


def test_the_commands_of_a_block_are_told_from_their_output() -> None:
    block = '$ one "\n$ quoted"\nout\n…\n$ two\n'
    assert list(commands(block)) == [('one "\n$ quoted"', ["out"]), ("two", [])]


def follow(project: Path, language: str, block: str) -> None:
    """Do what a block says."""
    if language == "python":
        write(project, block)
        return
    found = list(commands(block))
    assert len(found) == len(re.findall(r"^\$ ", block, re.MULTILINE))
    for command, shown in found:
        if not command.startswith(LEFT_OUT):
            output = run(project, command)
            missing = [line for line in shown if alike(line) not in alike(output).splitlines()]
            assert not missing, f"{command} printed:\n{output}"


def commands(block: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each command and the lines that it is shown to print."""
    for command, shown in COMMAND.findall(block):
        yield command, [line for line in shown.splitlines() if line not in ("", "…")]


def write(project: Path, block: str) -> None:
    """Append a block to the file it names."""
    named = re.match(r"# (\S+\.py)\b", block)
    assert named, f"a block that names no file:\n{block}"
    name = "mysite/settings.py" if named[1] == "settings.py" else named[1]
    with (project / name).open("a") as file:
        file.write(f"\n\n{block}")


def run(project: Path, command: str) -> str:
    """Execute a command with this test's interpreter; return what it printed."""
    if command.endswith("defer_worker"):
        command += " --drain"  # else it stays
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    # Nothing of this suite's own settings.
    environment = {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(project), "LANG": "C.UTF-8"}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}"
    return done.stdout


def new_user(name: str) -> str:
    """Return the command that makes a user."""
    return (
        "DJANGO_SUPERUSER_PASSWORD=demo python manage.py createsuperuser --noinput "
        f"--username {name} --email {name}@example.com"
    )


def results(project: Path) -> set[tuple[str, str, object]]:
    """Return function, state and result of every run."""
    script = (
        "import json; from django_defer.models import Run; print(json.dumps("
        "[(r.function_id, r.state, r.get_result(0)) for r in Run.objects.all()]))"
    )
    rows = json.loads(run(project, f'python manage.py shell --no-imports -c "{script}"'))
    return {tuple(row) for row in rows}


def alike(text: str) -> str:
    """Blank out what differs each time: ids, instants and durations."""
    return VARYING.sub("*", text)
