"""Tracebacks in the admin: the project's own frames are marked, and all of it is text."""

from __future__ import annotations

import html
import re

import pytest

from django_defer.admin.tracebacks import show_traceback
from tests.admin_rows import HOSTILE, TRACEBACK


def marked(text: str) -> list[str]:
    found = re.findall(r'<mark class="defer-own">(.*?)</mark>', show_traceback(text), re.DOTALL)
    return [html.unescape(each) for each in found]


def plain(text: str) -> str:
    block = re.findall(r"<pre[^>]*>(.*)</pre>", show_traceback(text), re.DOTALL)[0]
    return html.unescape(re.sub("</?mark[^>]*>", "", block))


def frame(path: str, name: str = "f") -> str:
    return f'  File "{path}", line 3, in {name}\n    call()\n    ^^^^^^\n'


def test_the_frame_of_the_project_is_marked_with_its_lines() -> None:
    [own] = marked(TRACEBACK)
    assert own.startswith('  File "/srv/shop/defer.py", line 41')
    assert own.rstrip().endswith("^")
    assert "requests" not in own


def test_what_the_marks_mean_is_said() -> None:
    assert "Marked: the frames of your own code." in show_traceback(TRACEBACK)


@pytest.mark.parametrize(
    "path",
    [
        "/srv/.venv/lib/python3.11/site-packages/requests/adapters.py",
        "/usr/lib/python3/dist-packages/requests/adapters.py",
        "/usr/local/lib/python3.11/json/decoder.py",
        "C:\\Python311\\Lib\\json\\decoder.py",
        "C:\\shop\\.venv\\Lib\\site-packages\\requests\\api.py",
        "/srv/src/django_defer/executor.py",
        "<frozen importlib._bootstrap>",
    ],
)
def test_frames_of_others_are_not(path: str) -> None:
    own = frame("/srv/shop/defer.py")
    assert marked(f"Traceback:\n{own}{frame(path)}ValueError: no") == [own]


def test_where_all_or_no_frames_are_the_project_s_none_is_marked() -> None:
    assert marked(frame("/srv/shop/a.py") + frame("/srv/shop/b.py") + "ValueError: no") == []
    assert marked(frame("/x/site-packages/a.py") + "ValueError: no") == []
    assert "Marked" not in show_traceback("no traceback at all")


def test_frames_of_a_group_of_exceptions_are_told_too() -> None:
    text = (
        "  + Exception Group Traceback (most recent call last):\n"
        '  |   File "/srv/shop/defer.py", line 3, in f\n'
        "  |     raise group\n"
        '  |   File "/x/site-packages/anyio/__init__.py", line 3, in g\n'
        "  | ExceptionGroup: two (2 sub-exceptions)"
    )
    [own] = marked(text)
    assert "raise group" in own
    assert "anyio" not in own


@pytest.mark.parametrize("text", [TRACEBACK, "", "\n", "one line", frame(HOSTILE), HOSTILE * 50])
def test_no_character_is_lost_or_becomes_markup(text: str) -> None:
    shown = show_traceback(text)
    assert plain(text) == text
    assert "<script" not in shown


def test_a_frame_that_ends_a_mark_stays_text() -> None:
    text = frame("/srv/</mark><script>.py") + frame("/x/site-packages/a.py")
    assert "<script>" not in show_traceback(text)
    assert plain(text) == text
