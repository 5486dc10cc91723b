"""Pairs of metadata: what is taken, how they add up, and what is refused."""

from __future__ import annotations

import copy
import pickle
import re
from enum import Enum
from typing import Any

import pytest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from django_defer.call_options import CallOptions
from django_defer.context import CurrentRun
from django_defer.exceptions import InvalidOption
from django_defer.ids import uuid7
from django_defer.metadata import LONGEST_KEY, LONGEST_VALUE, MOST_PAIRS, Pairs, merged, read_pairs
from django_defer.options import parse_options

MANY = {f"key {n}": str(n) for n in range(MOST_PAIRS + 1)}


class Team(str, Enum):  # noqa: UP042 - whose str() is "Team.BILLING"
    BILLING = "billing"


def using(metadata: Any) -> CallOptions:
    """Return the options of one `using()`."""
    return CallOptions().merge({"metadata": metadata})


def defer(metadata: Any) -> dict[str, str]:
    """Return what `@defer` keeps."""
    return dict(parse_options("shop.pay", {"metadata": metadata}).metadata)


# -- what is taken ---------------------------------------------------------------------------------


def test_a_function_says_pairs_of_text() -> None:
    assert defer({"team": "billing", "note": ""}) == {"team": "billing", "note": ""}
    assert parse_options("shop.pay", {}).metadata == {}


def test_a_call_says_them_too() -> None:
    assert using({"order": "17"}).metadata == {"order": "17"}


def test_the_largest_that_is_taken() -> None:
    pairs = {f"{n:0>{LONGEST_KEY}}": "ä" * LONGEST_VALUE for n in range(MOST_PAIRS)}
    assert defer(pairs) == using(pairs).metadata == pairs


def test_kinds_of_text_are_kept_as_plain_text() -> None:
    (value,) = defer({"team": Team.BILLING}).values()
    assert type(value) is str
    assert value == "billing"
    assert type(defer({SafeString("a"): "b"}).popitem()[0]) is str


def test_what_was_given_may_be_changed_afterwards() -> None:
    given = {"order": "17"}
    options, own = using(given), parse_options("shop.pay", {"metadata": given})
    given["order"] = "18"
    assert options.metadata == own.metadata == {"order": "17"}


# -- adding up -------------------------------------------------------------------------------------


def test_the_call_wins_over_the_function_and_adds_to_it() -> None:
    assert merged({"team": "billing", "a": "1"}, {"team": "sales", "order": "17"}) == {
        "team": "sales",
        "a": "1",
        "order": "17",
    }
    assert merged({"team": "billing"}, None) == {"team": "billing"}


def test_none_removes_a_key_wherever_it_was_given() -> None:
    assert merged({"team": "billing"}, {"team": None, "never there": None}) == {}
    options = using({"team": None}).merge({"metadata": {"order": "17"}})
    assert merged({"team": "billing"}, options.metadata) == {"order": "17"}
    assert using({"order": "17"}).merge({"metadata": {"order": None}}).metadata == {"order": None}


def test_a_later_using_adds_to_an_earlier_one_and_its_key_wins() -> None:
    first = using({"order": "17", "step": "1"})
    assert first.merge({"metadata": {"step": "2"}}).metadata == {"order": "17", "step": "2"}
    assert first.merge({"priority": 1}).metadata == {"order": "17", "step": "1"}
    assert first.metadata == {"order": "17", "step": "1"}


def test_none_instead_of_a_dict_takes_back_what_an_earlier_using_gave() -> None:
    assert using({"order": "17"}).merge({"metadata": None}) == CallOptions()


def test_options_with_metadata_can_be_in_a_set() -> None:
    assert len({using({"order": "17"}), using({"order": "17"})}) == 1


# -- refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ("team:billing", 'write a dict of texts, such as {"order": "17"}'),
        ([("team", "billing")], "write a dict of texts"),
        ({"order": 17}, "the value of 'order' is of type int: write a text, such as str(…)"),
        ({"paid": True}, "is of type bool: write a text"),
        ({"order": b"17"}, "is of type bytes: write a text"),
        ({"order": gettext_lazy("seventeen")}, "write a text, such as str(…)"),
        ({17: "order"}, "the key 17 is no text: write '17'"),
        ({"": "17"}, "the key '' has 0 characters: write a text of 1 to 64"),
        ({"k" * 65: "17"}, "has 65 characters: write a text of 1 to 64"),
        ({"order": "v" * 501}, "the value of 'order' has 501 characters: write at most 500"),
        ({"order": "1\x007"}, "the value of 'order' has a NUL character"),
        ({"or\x00der": "17"}, "has a NUL character"),
        ({"order": "\ud800"}, "half of a surrogate pair"),
        (MANY, "metadata has 26 pairs: give at most 25"),
    ],
    ids=lambda value: str(value)[:30].encode("ascii", "replace").decode(),
)
def test_what_is_no_pair_of_text_is_refused(metadata: Any, says: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(says)):
        using(metadata)
    with pytest.raises(InvalidOption, match=f"^shop.pay: .*{re.escape(says)}"):
        defer(metadata)


@pytest.mark.parametrize("metadata", [None, {"team": None}])
def test_a_function_has_nothing_to_remove(metadata: Any) -> None:
    with pytest.raises(InvalidOption, match=r"shop\.pay: metadata"):
        defer(metadata)


def test_too_many_are_refused_wherever_they_come_together() -> None:
    some, others = dict(list(MANY.items())[:20]), dict(list(MANY.items())[20:])
    with pytest.raises(InvalidOption, match="metadata has 26 pairs"):
        using(some).merge({"metadata": others})
    with pytest.raises(InvalidOption, match=r"shop\.pay: metadata has 26 pairs"):
        merged(some, using(others).metadata, where="shop.pay: ")
    assert len(merged(some, {**others, "key 0": None})) == MOST_PAIRS


def test_removing_keys_is_not_limited() -> None:
    assert merged(read_pairs({"a": "b"}), using(dict.fromkeys(MANY)).metadata) == {"a": "b"}


# -- what a function reads -------------------------------------------------------------------------


def test_what_a_function_reads_cannot_be_changed() -> None:
    pairs = Pairs({"team": "billing"})
    assert pairs == {"team": "billing"}
    assert (pairs["team"], pairs.get("order"), len(pairs)) == ("billing", None, 1)
    with pytest.raises(TypeError):
        pairs["team"] = "sales"  # type: ignore[index]
    assert not hasattr(pairs, "update")


def test_what_a_function_reads_can_be_handed_on() -> None:
    pairs = Pairs({"team": "billing"})
    assert pickle.loads(pickle.dumps(pairs)) == copy.deepcopy(pairs) == pairs
    assert using(pairs).metadata == pairs
    assert repr(pairs) == "{'team': 'billing'}"


def test_the_current_run_stays_hashable() -> None:
    run = CurrentRun(
        id=uuid7(), function="shop.pay", attempt=1, is_last_attempt=False, root_id=uuid7()
    )
    assert run.metadata == {}
    assert hash(run) == hash(copy.replace(run) if hasattr(copy, "replace") else copy.copy(run))


@pytest.mark.parametrize("stored", [None, [], "text", 17])
def test_a_row_edited_by_hand_is_no_reason_to_fail(stored: Any) -> None:
    assert Pairs(stored) == {}
