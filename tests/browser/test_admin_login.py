"""The admin opens without an error in the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_the_index_of_the_admin_shows_the_app(admin_page: Page) -> None:
    admin_page.goto("/admin/")
    assert admin_page.locator("text=Log out").count() == 1
    assert admin_page.title().startswith("Site administration")
