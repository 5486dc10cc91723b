"""Reading the admin's pages in a test."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

from django.urls import reverse

if TYPE_CHECKING:
    from django.test import Client


def read(client: Client, model: str, row: Any = None, **query: Any) -> str:
    """Return the page of a row, or the list, as one reads it: plain spaces, whole words."""
    name = f"admin:django_defer_{model}_{'changelist' if row is None else 'change'}"
    url = reverse(name, args=[] if row is None else [row.pk])
    response = client.get(url, query)
    assert response.status_code == 200
    return response.content.decode().replace("\xa0", " ").replace("<wbr>", "")


def words(client: Client, model: str, row: Any = None) -> str:
    """Return the text of the page, one space between words."""
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", read(client, model, row))).split())
