"""What messages say of a run and of time, as plain text; each channel escapes it in its own way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.template.loader import render_to_string

from django_defer.alerts.events import Event
from django_defer.models.alerts import MessageKind
from django_defer.wording import as_slot, with_zone, zone_name

if TYPE_CHECKING:
    from django_defer.alerts.messages import Example, Message

MOST_EXAMPLES: Final = 10
MOST_LABEL: Final = 200  # characters, as are the next ones
MOST_PAIRS: Final = 300
MOST_ERROR: Final = 500

_GOOD: Final = frozenset({Event.RUN_RECOVERED, Event.RUN_SUCCEEDED})
# Worth knowing, while nothing broke for good.
_WARNINGS: Final = frozenset(
    {Event.RUN_RETRYING, Event.RUN_SLOW, Event.SLOT_MISSED, Event.RUN_DISCARDED}
)


def mood(message: Message) -> str:
    """Return `success`, `info`, `warning` or `failure`."""
    if message.kind == MessageKind.TEST:
        return "info"
    if message.kind == MessageKind.RECOVERED or message.event in _GOOD:
        return "success"
    return "warning" if message.event in _WARNINGS else "failure"


def one_line(text: str, most: int) -> str:
    """Return the text on one line, without control characters, and no longer than that."""
    head = text[: 4 * most]  # a text of megabytes is not read to its end
    line = " ".join("".join(c if c.isprintable() else " " for c in head).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def paragraphs(text: str) -> str:
    """Return the text without control characters, those that turn its direction too."""
    return "\n".join("".join(c for c in line if c.isprintable()) for line in text.splitlines())


def pairs(example: Example) -> str:
    """Return a run's metadata: `plan: pro, country: de`."""
    found = (f"{key}: {value[:MOST_PAIRS]}" for key, value in example.metadata.items())
    return one_line(", ".join(found), MOST_PAIRS)


def facts(example: Example) -> list[tuple[str, str]]:
    """Return what is known of a run, each with a word that says what it is."""
    slot = f"{as_slot(example.slot)} {zone_name()}" if example.slot else ""
    known = [
        ("For", one_line(example.label, MOST_LABEL)),
        ("Metadata", pairs(example)),
        ("Slot", slot),
        ("Position", one_line(example.fan_out, MOST_LABEL)),
        ("Attempts", one_line(example.attempts, MOST_LABEL)),
        ("When", with_zone(example.at)),
        ("Error", one_line(example.error, MOST_ERROR)),
    ]
    return [(word, text) for word, text in known if text]


def when(message: Message) -> str:
    """Return the time of what it tells, from the first to the last."""
    first, last = with_zone(message.first_at), with_zone(message.last_at)
    return first if first == last else f"{first} to {last}"


def others(message: Message) -> int:
    """Return how many it tells of and does not show."""
    shown = len(message.examples[:MOST_EXAMPLES])
    return max(0, message.count - shown) if shown else 0


def context(message: Message) -> dict[str, Any]:
    """Return what the templates `django_defer/alert.txt` and `alert.html` are rendered with."""
    return {
        "title": one_line(message.title, MOST_LABEL),
        "text": paragraphs(message.text).strip(),
        "mood": mood(message),
        "examples": [(facts(each), each.url) for each in message.examples[:MOST_EXAMPLES]],
        "others": f"{others(message):,}" if others(message) else "",
        "when": when(message),
        "url": message.url,
    }


def as_text(message: Message) -> str:
    """Return all of a message but its title as plain text."""
    return render_to_string("django_defer/alert.txt", context(message)).strip() + "\n"
