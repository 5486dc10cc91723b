"""A project need not have Django's admin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scratch import Project

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATES = [
    {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True},
]


def test_a_project_without_the_admin_is_checked_and_migrated(tmp_path: Path) -> None:
    project = Project(tmp_path, TEMPLATES=TEMPLATES)
    for command in (["check"], ["migrate", "--verbosity", "0"], ["defer_status"]):
        done = project.manage(*command)
        assert "Traceback" not in done.stderr, done.stderr
    assert project.manage("check").returncode == 0
