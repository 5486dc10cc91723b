"""Fixtures of the tests with a database."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from django_defer.connections import Freshness
from django_defer.executor import Executor
from django_defer.interrupts import Interrupts
from tests.runs import DATABASE, Define

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def define() -> Iterator[Define]:
    """Register background functions for one test: `define(body, retry=False)`."""
    define = Define()
    yield define
    define.forget()


@pytest.fixture
def executor() -> Iterator[Executor]:
    """An executor in this process, without a cluster around it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGTERM)}
    yield Executor(
        using=DATABASE,
        worker="0.1",
        inbox=None,
        board=None,
        interrupts=Interrupts(),
        freshness=Freshness(),
    )
    for number, handler in before.items():
        signal.signal(number, handler)
