"""A stored traceback with the frames of the project's own code marked: where a person looks first.

It was written on another host, so a frame is told by its path alone: what is in no directory of
installed packages, in no standard library and not ours is the project's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _

from django_defer.admin.rendering import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.utils.safestring import SafeString

# A frame is its line "File …, line …" and the lines indented deeper; groups put "|" before these.
_FRAME: Final = re.compile(r'^(?P<lead>[ |+-]*)File "(?P<path>[^"\n]*)", line \d+')
_FOREIGN: Final = re.compile(
    r"[\\/](site-packages|dist-packages|lib(64)?[\\/]python3[^\\/]*|Python3\d+[\\/]Lib"
    r"|django_defer)[\\/]|^<frozen "
)


def show_traceback(text: str) -> SafeString:
    """Return the traceback as a block; what the marks mean, where some frames have none."""
    parts = list(_parts(text))
    own = [is_own for is_own, _lines in parts if is_own is not None]
    if not any(own) or all(own):
        parts = [(None, text)]
    mark = '<mark class="defer-own">{}</mark>'
    shown = (format_html(mark, lines) if is_own else lines for is_own, lines in parts)
    block = format_html(
        '<pre class="defer-block" tabindex="0">{}</pre>',
        format_html_join("", "{}", ((each,) for each in shown)),
    )
    if len(parts) == 1:
        return block
    return format_html("{}{}", block, quiet(_("Marked: the frames of your own code.")))


def _parts(text: str) -> Iterator[tuple[bool | None, str]]:
    """Yield each frame and whether it is the project's, and what is no frame with None."""
    whose: bool | None = None
    lead, lines = 0, list[str]()
    for line in text.split("\n"):
        frame = _FRAME.match(line)
        if frame is None and whose is not None and _depth(line) > lead:
            lines.append(line)
            continue
        if lines:
            yield whose, "\n".join(lines) + "\n"
        whose, lead = None, 0
        if frame is not None:
            whose, lead = _FOREIGN.search(frame["path"]) is None, len(frame["lead"])
        lines = [line]
    yield whose, "\n".join(lines)


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" |+-"))
