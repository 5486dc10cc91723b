"""The lifeline: a child ends with its parent, also where the kernel offers no signal for that."""

from __future__ import annotations

import os
import signal
import time

import pytest

from django_defer.process import Lifeline
from tests.acceptance.harness import wait_until
from tests.worker_processes import is_alive


@pytest.mark.parametrize("use_pipe", [True, False], ids=["pipe", "kernel"])
def test_a_child_dies_within_a_second_of_its_parent(use_pipe: bool) -> None:
    read, write = os.pipe()
    parent = os.fork()
    if not parent:
        _be_a_parent(write, use_pipe=use_pipe)
    os.close(write)
    child = int(os.read(read, 32))
    try:
        assert is_alive(child)
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        wait_until(lambda: not is_alive(child), 1, what="the child's end")
    finally:
        os.close(read)
        if is_alive(child):
            os.kill(child, signal.SIGKILL)


def test_a_child_whose_parent_is_gone_already_does_not_begin() -> None:
    lifeline = Lifeline(use_pipe=True)
    lifeline._supervisor = 0  # nobody's parent
    child = os.fork()
    if not child:
        lifeline.hold()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    lifeline.close()


def _be_a_parent(write: int, *, use_pipe: bool) -> None:
    """Fork a child that holds the lifeline, say its id, and stay."""
    try:
        lifeline = Lifeline(use_pipe=use_pipe)
        child = os.fork()
        if not child:
            lifeline.hold()
            os.write(write, str(os.getpid()).encode())
        time.sleep(60)
    finally:
        os._exit(1)
