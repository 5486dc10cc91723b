"""Bar charts: well-formed, to scale, escaped, and without a style of their own."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from django_defer.admin.charts import HEIGHT, LEAST, Bar, bar_chart, round_up

KINDS = ("failed", "succeeded")


def drawn(*bars: Bar, description: str = "what it shows") -> ElementTree.Element:
    return ElementTree.fromstring(bar_chart(bars, KINDS, description).svg)


def parts(svg: ElementTree.Element, kind: str) -> list[dict[str, Any]]:
    wanted = f"defer-bar defer-bar--{kind}"
    return [rect.attrib for rect in svg.iter("rect") if rect.get("class") == wanted]


@pytest.mark.parametrize(
    ("value", "top"),
    [(0, 1), (1, 1), (2, 2), (3, 3), (7, 8), (9, 10), (11, 20), (99, 100), (630, 800), (0.2, 1)],
)
def test_the_upper_edge_is_a_round_number(value: float, top: int) -> None:
    assert round_up(value) == top


def test_parts_stand_on_each_other_to_scale() -> None:
    svg = drawn(Bar("08:00", (2, 6)), Bar("09:00", (0, 8)))
    [failed], [first, second] = parts(svg, "failed"), parts(svg, "succeeded")
    assert (failed["y"], failed["height"]) == ("75", "25")
    assert (first["y"], first["height"]) == ("0", "75")
    assert (second["y"], second["height"]) == ("0", "100")
    assert float(second["x"]) > float(first["x"]) + float(first["width"])


def test_one_failure_beside_very_many_successes_can_be_seen() -> None:
    svg = drawn(Bar("08:00", (1, 999_999)))
    [failed], [succeeded] = parts(svg, "failed"), parts(svg, "succeeded")
    assert float(failed["height"]) == LEAST
    assert float(succeeded["y"]) >= 0
    assert float(failed["y"]) + float(failed["height"]) == HEIGHT


def test_zeros_have_a_title_and_no_bar() -> None:
    svg = drawn(Bar("08:00: nothing", (0, 0)), Bar("09:00: nothing", (0, 0)))
    assert parts(svg, "failed") == parts(svg, "succeeded") == []
    assert [title.text for title in svg.iter("title")] == ["08:00: nothing", "09:00: nothing"]


def test_a_chart_without_bars_is_a_drawing_all_the_same() -> None:
    assert drawn().get("role") == "img"


def test_text_is_escaped() -> None:
    hostile = '"><script>alert(1)</script>'
    svg = drawn(Bar(hostile, (1, 1)), description=hostile)
    assert svg.get("aria-label") == hostile
    assert next(svg.iter("title")).text == hostile
    assert not list(svg.iter("script"))


def test_nothing_needs_a_style_that_a_strict_policy_forbids() -> None:
    for element in drawn(Bar("08:00", (1, 2))).iter():
        assert element.tag != "style"
        assert "style" not in element.attrib
