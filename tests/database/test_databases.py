"""The same promises under other settings: without USE_TZ, in a project zone whose clocks change,
with a user model of the project's own, and with django-defer's tables in a second database.

Settings of this kind are read once, so each variant is a run of the suite's files in a process of
its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

FILES = [
    "test_clock.py",
    "test_enqueue.py",
    "test_claims.py",
    "test_transitions.py",
    "test_reap.py",
    "test_materialise.py",
    "test_scheduler.py",
    "test_operations.py",
    "test_executor.py",
]

# Tables of states, which no setting changes.
LEFT_OUT = "not that_the_table_lacks and not in_the_states_that_it_is_for"

VARIANTS = {
    "naive_project_in_new_york": {
        "DEFER_TEST_USE_TZ": "0",
        "DEFER_TEST_TIME_ZONE": "America/New_York",
    },
    "second_database_own_user_model_lord_howe": {
        "DEFER_TEST_USE_TZ": "1",
        "DEFER_TEST_TIME_ZONE": "Australia/Lord_Howe",
        "DEFER_TEST_SETTINGS": '{"DATABASE": "other"}',
        "DEFER_TEST_USER_MODEL": "testapp.Member",
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_holds_under_other_settings(variant: str) -> None:
    outer = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTEST_")
        and name not in ("DEFER_TEST_NAME", "DEFER_TEST_OTHER_NAME")
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", LEFT_OUT]
        + [str(HERE / name) for name in FILES],
        cwd=ROOT,
        env={**outer, **VARIANTS[variant]},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
