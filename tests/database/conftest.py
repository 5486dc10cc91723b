"""Fixtures of the tests with a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runs import Define

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def define() -> Iterator[Define]:
    """Register background functions for one test: `define(body, retry=False)`."""
    define = Define()
    yield define
    define.forget()
