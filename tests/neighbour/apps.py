"""Connects receivers to django-q2's signals that expect the project's own tasks."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig


def expect_own_task(sender: object, task: dict[str, Any], **kwargs: object) -> None:
    """Read what only the project's own tasks have."""
    task["group"]


class NeighbourConfig(AppConfig):
    """The app `neighbour`."""

    name = "tests.neighbour"

    def ready(self) -> None:
        """Connect."""
        from django_q.signals import post_execute_in_worker, pre_execute

        pre_execute.connect(expect_own_task)
        post_execute_in_worker.connect(expect_own_task)
