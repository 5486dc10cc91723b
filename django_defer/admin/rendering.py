"""How values look on an admin page: instants with their zone, badges, text, links.

Everything that comes from a row is escaped here or by the template: no function of this module
takes HTML from data. An instant is shown in Django's current time zone and always with its name.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from django.contrib.admin.utils import quote
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_defer.models import Run
from django_defer.run_facts import RETRYING
from django_defer.states import State
from django_defer.wording import EMPTY, as_text, relative, zone_name

if TYPE_CHECKING:
    from uuid import UUID

    from django.contrib.admin import AdminSite
    from django.db.models import Model

SHORT_ZONE: Final = 4  # characters of a zone's name that stay on the line of the time
_PART: Final = re.compile(r"[^._]*?(?:[._]+|(?<=[a-z0-9])(?=[A-Z])|$)")
SHORT_ID: Final = 8  # characters, the last ones: a UUIDv7 begins with its time


def now() -> datetime:
    """Return the present as our instants are: aware, in UTC."""
    return datetime.now(UTC)


def show_instant(instant: datetime | None, *, beside: datetime | None = None) -> str:
    """Return the instant with its zone, and "in 3 h" or "5 min ago" when seen from `beside`."""
    if instant is None:
        return EMPTY
    time = format_html(
        '<time class="defer-time" datetime="{}" title="{} UTC">{} '
        '<span class="defer-quiet">{}</span></time>',
        instant.isoformat(),
        as_text(instant, UTC),
        as_text(instant),
        zone_name(),
    )
    if beside is None:
        return time
    return format_html(
        '{} <span class="defer-quiet defer-time">({})</span>', time, relative(instant, beside)
    )


def stack_instant(instant: datetime | None) -> str:
    """Return the instant for a list, its date above its time and zone."""
    if instant is None:
        return EMPTY
    (day, time), zone = as_text(instant).split(" "), zone_name()
    return format_html(
        '<time datetime="{}" title="{} UTC"><span class="defer-time">{}</span> '
        '<span class="defer-line{}"><span class="defer-time">{}</span> '
        '<span class="defer-quiet">{}</span></span></time>',
        instant.isoformat(),
        as_text(instant, UTC),
        day,
        " defer-time" if len(zone) <= SHORT_ZONE else "",
        time,
        zone,
    )


def stack(*lines: Any) -> str:
    """Return the lines that say something, each below the other, for a list."""
    shown = [(line,) for line in lines if line]
    return format_html_join("", '<span class="defer-line">{}</span>', shown) or EMPTY


def badge(kind: str, text: Any) -> SafeString:
    """Return a badge; `kind` names its colour in the style sheet and is never data."""
    return format_html('<span class="defer-badge defer-badge--{}">{}</span>', kind, text)


def shown_state(run: Run) -> tuple[str, Any]:
    """Return the kind and text of the state that a person sees."""
    if run.state == State.SCHEDULED and (run.failures or run.losses):
        return RETRYING, gettext_lazy("retrying")
    if run.state in (State.CLAIMED, State.RUNNING) and run.abort_requested_at:
        return "aborting", gettext_lazy("aborting")
    if run.state in State.values:
        return str(run.state), State(run.state).label
    return "unknown", run.state


def state_badge(run: Run) -> SafeString:
    """Return the state of a run as a badge."""
    return badge(*shown_state(run))


def short_id(run_id: UUID | None) -> str:
    """Return the end of a run's id: short, and enough to find it by searching."""
    return EMPTY if run_id is None else run_id.hex[-SHORT_ID:]


def block(text: str) -> SafeString:
    """Return text in a monospaced block of its own."""
    return format_html('<pre class="defer-block" tabindex="0">{}</pre>', text)


def quiet(text: Any) -> SafeString:
    """Return text that does not draw the eye."""
    return format_html('<span class="defer-quiet">{}</span>', text)


def breakable(name: str) -> SafeString:
    """Return a name of code that may go on in the next line after a dot, a "_" or between words."""
    parts = ((part,) for part in _PART.findall(name) if part)
    return format_html_join(mark_safe("<wbr>"), "{}", parts)


def code(text: Any) -> SafeString:
    """Return a bit of monospaced text."""
    return format_html("<code>{}</code>", text)


def pruned(run_id: UUID) -> SafeString:
    """Return the id of a run whose row is gone, without a link."""
    return format_html("{} ({})", code(short_id(run_id)), _("pruned"))


class Links:
    """Links to admin pages of one AdminSite; plain text where it has no such page."""

    def __init__(self, site: AdminSite) -> None:
        self.site = site

    def url(self, model: type[Model], page: str, *args: Any) -> str | None:
        """Return the address of a page, None if the model is not registered on this site."""
        if not self.site.is_registered(model):
            return None
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}"
        return reverse(name, args=[quote(str(arg)) for arg in args], current_app=self.site.name)

    def to(self, model: type[Model], pk: Any, text: Any) -> str:
        """Link to the page of a row, which may be gone."""
        return self._link(self.url(model, "change", pk), text)

    def to_list(self, model: type[Model], text: Any, **filters: Any) -> str:
        """Link to a list, filtered."""
        url = self.url(model, "changelist")
        return self._link(f"{url}?{urlencode(filters)}" if url else None, text)

    def to_run(self, run: Run) -> str:
        """Link to a run as `shop.compute for Ada 3fa9c1d2`."""
        name = f"{run.function_id} {run.label}".strip()
        return self.to(Run, run.pk, format_html("{} <code>{}</code>", name, short_id(run.pk)))

    def _link(self, url: str | None, text: Any) -> str:
        return (
            format_html("{}", text)
            if url is None
            else format_html('<a href="{}">{}</a>', url, text)
        )
