"""Chromium, driven by Playwright against `live_server`.

`page` fails the test on an error in the console, an uncaught exception or an answer of 500;
`admin_page` is the same, logged in as a superuser.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import skip_or_fail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.contrib.auth.models import User
    from django.test import Client
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response
    from pytest_django.live_server_helper import LiveServer

# A machine may have no network: without these, Chromium keeps asking for hosts of its maker.
QUIET = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, once a session."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        skip_or_fail("no chromium on PATH")
    from playwright.sync_api import sync_playwright

    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    # Playwright's sync API keeps an event loop running in this thread, which Django takes for
    # asynchronous code. The tests themselves are synchronous, so its guard is of no use here.
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        chromium = playwright.chromium.launch(executable_path=executable, args=QUIET + sandbox)
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser, live_server: LiveServer) -> Iterator[BrowserContext]:
    """A fresh profile whose addresses begin at the live server."""
    context = browser.new_context(base_url=live_server.url, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(10_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """An empty page; the test fails if anything goes wrong in it unnoticed."""
    page = context.new_page()
    wrong: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            wrong.append(f"console: {message.text} ({message.location['url']})")

    def on_response(response: Response) -> None:
        if response.status >= 500:
            wrong.append(f"{response.status}: {response.url}")

    page.on("pageerror", lambda error: wrong.append(f"uncaught: {error}"))
    page.on("console", on_console)
    page.on("response", on_response)
    yield page
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def channels(settings: Any) -> None:
    """The channels of alerts that `every_page` has rows of."""
    settings.DEFER = {"ALERTS": [{"channel": "log"}, {"channel": "log", "name": "slack"}]}


@pytest.fixture
def logged_in(
    context: BrowserContext, live_server: LiveServer, admin_user: User, client: Client
) -> BrowserContext:
    """The profile, logged in to the admin as the superuser `admin`."""
    log_in(context, live_server, client, admin_user)
    return context


@pytest.fixture
def admin_page(page: Page, logged_in: BrowserContext) -> Page:
    """A page logged in to the admin as the superuser `admin`."""
    return page


def log_in(context: BrowserContext, live_server: LiveServer, client: Client, user: User) -> None:
    """Give a profile the session of this person."""
    client.force_login(user)
    cookie = client.cookies["sessionid"]
    context.add_cookies([{"name": "sessionid", "value": cookie.value, "url": live_server.url}])
