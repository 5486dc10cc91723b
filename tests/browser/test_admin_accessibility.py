"""Every page of ours is searched for faults of accessibility by axe-core, light and dark.

axe-core is put into the pages through the browser's debugger, which no policy of a page forbids.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User

from tests.browser.every_page import every_page
from tests.conftest import skip_or_fail

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

AXE: Final = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"

# Faults of the frame that Django puts around our pages: a rule, and which elements may break it.
# Another test finds each on a page that has nothing of ours.
DJANGOS_OWN: Final = [
    ("link-in-text-block", ".breadcrumbs > a"),  # 1.4:1 beside the last crumb, no underline
    ("link-in-text-block", "#changelist-search .quiet > a"),  # "Show all", not underlined either
    ("label-title-only", "#searchbar"),  # its label is an image with an alternative text
]
OF_LOOKS: Final = ["color-contrast", "link-in-text-block", "scrollable-region-focusable"]

# Colours that fade are looked at where they end. Returns "rule: element, what is wrong" for each.
SEARCH: Final = """
async ([rules, excused]) => {
    document.getAnimations().forEach(animation => animation.finish());
    const only = rules.length ? {runOnly: {type: "rule", values: rules}} : {};
    const options = {resultTypes: ["violations"], preload: false, ...only};
    const {violations} = await axe.run(document, options);
    const isExcused = (rule, target) => excused.some(([name, selector]) =>
        name === rule && document.querySelector(target).matches(selector));
    return violations.flatMap(({id, impact, nodes}) => nodes
        .filter(node => !isExcused(id, node.target[0]))
        .map(node => `${id} (${impact}): ${node.html.slice(0, 200)} ${node.failureSummary}`));
}
"""
BAD: Final = """
<!doctype html><html lang="en"><head><title>Bad</title></head><body><main>
<h1>Bad</h1><h4>Too deep</h4><img src="data:,"><input name="q"><button></button>
<p style="color: #999; background: #fff">Pale <a href="/" style="color: #888">as well</a></p>
<div class="breadcrumbs"><p>Here <a href="/" style="text-decoration: none; color: #111">too</a></p>
</div></main></body></html>
"""


pytestmark = pytest.mark.usefixtures("channels")


@pytest.fixture
def page(logged_in: BrowserContext) -> Page:
    """A page that axe-core may work in: it tries inline styles, so the console is not looked at."""
    return logged_in.new_page()


def faults(
    page: Page, rules: list[str] | None = None, excused: list[tuple[str, str]] | None = None
) -> set[str]:
    """Return what axe-core finds in the page; of these rules only, if any are named."""
    if not AXE.exists():
        skip_or_fail("axe-core is missing: `make browser` fetches it")
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    return set(page.evaluate(SEARCH, [rules or [], excused or []]))


def test_no_page_has_a_fault_in_light_or_in_the_dark_on_a_telephone(page: Page) -> None:
    found: dict[str, list[str]] = {}
    for name, visit in every_page().items():
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 1280, "height": 900})
        visit.open(page)
        seen = faults(page, excused=DJANGOS_OWN)
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": 390, "height": 844})
        seen |= faults(page, OF_LOOKS, DJANGOS_OWN)
        for fault in seen:
            found.setdefault(fault, []).append(name)
    assert not found, "\n\n".join(f"{', '.join(names)}: {what}" for what, names in found.items())


def test_what_is_excused_is_found_on_a_page_of_django_alone(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UserAdmin, "search_help_text", "A part of a name")
    somebody = User.objects.create_user("ada" * 30)
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 844})
    for excuse, path in zip(DJANGOS_OWN, [f"{somebody.pk}/change/", "?q=ada", ""], strict=True):
        page.goto(f"/admin/auth/user/{path}")
        assert faults(page, [excuse[0]]), excuse
        assert not faults(page, [excuse[0]], [excuse]), excuse


def test_a_bad_page_is_found_out(page: Page) -> None:
    page.set_content(BAD)
    found = {fault.split(" ")[0] for fault in faults(page, excused=DJANGOS_OWN)}
    assert found >= {
        "button-name",
        "color-contrast",
        "heading-order",
        "image-alt",
        "label",
        "link-in-text-block",
    }
