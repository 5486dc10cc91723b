"""Payloads without a database: faithful round trips, and refusals that say what to do."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import math
import pathlib
import sys
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from http import HTTPStatus
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest import mock
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import models
from django.db.models.fields.files import FieldFile
from django.http import HttpRequest, HttpResponse, QueryDict
from django.test import override_settings
from django.utils.functional import SimpleLazyObject, lazy
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import given, settings
from hypothesis import strategies as st

from django_defer.exceptions import PayloadTooLarge, UnreadablePayload, UnserializableValue
from django_defer.handles import function
from django_defer.payload_display import display, display_result
from django_defer.payload_reading import COLLECTIONS
from django_defer.payload_types import LEAVES_BY_TAG
from django_defer.payloads import (
    decode_call,
    decode_result,
    dumps,
    encode_call,
    encode_result,
)
from tests.testapp.defer import noop

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "shop.compute"


class Color(Enum):
    RED = "red"
    CRIMSON = "red"  # noqa: PIE796 (an alias)
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Size(models.TextChoices):
    SMALL = "s", "small"


class Access(Flag):
    READ = 1
    WRITE = 2


class Order:
    class Status(models.TextChoices):
        PAID = "p", "paid"


class Text(str):
    pass


class Point(namedtuple("Point", "x y")):
    pass


@dataclasses.dataclass
class Price:
    amount: Decimal


class Anywhere(tzinfo):
    def utcoffset(self, moment: datetime | None) -> None:
        return None

    dst = tzname = utcoffset


def as_jsonb(text: str) -> str:
    """Do to JSON text what PostgreSQL's jsonb does to it."""
    text.encode()  # no lone surrogates

    def rewrite(data: Any) -> str:
        if isinstance(data, dict):
            keys = sorted(data, key=lambda key: (len(key.encode()), key.encode()))
            return "{" + ", ".join(f"{rewrite(key)}: {rewrite(data[key])}" for key in keys) + "}"
        if isinstance(data, list):
            return "[" + ", ".join(map(rewrite, data)) + "]"
        if isinstance(data, Decimal):
            return format(data if data else abs(data), "f")
        assert not isinstance(data, str) or "\0" not in data
        return json.dumps(data, ensure_ascii=False)

    return rewrite(json.loads(text, parse_float=Decimal))


def through_storage(value: Any) -> Any:
    """Encode a value, store it as jsonb would and as SQLite would, and decode it."""
    text = dumps(encode_result(KEY, value))
    from_jsonb = decode_result(json.loads(as_jsonb(text)))
    assert identical(decode_result(json.loads(text)), from_jsonb)
    return from_jsonb


def identical(a: Any, b: Any) -> bool:
    """Compare type, value, order of keys, sign of zero, fold and zone."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(identical, a, b))
    if isinstance(a, dict):
        return identical(list(a), list(b)) and identical(list(a.values()), list(b.values()))
    if isinstance(a, set | frozenset):
        return len(a) == len(b) and all(any(identical(x, y) for y in b) for x in a)
    if isinstance(a, datetime | time):
        return (a.replace(tzinfo=None), a.fold) == (b.replace(tzinfo=None), b.fold) and (
            repr(a.tzinfo) == repr(b.tzinfo)
        )
    return a == b if isinstance(a, int) else repr(a) == repr(b)


ZONES = st.one_of(
    st.none(),
    st.just(UTC),
    st.sampled_from(["Europe/Berlin", "America/New_York", "UTC"]).map(ZoneInfo),
    st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone),
    st.just(timezone(timedelta(hours=1), "CET")),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(st.characters(codec=None, exclude_categories=())),
    st.binary(),
    st.datetimes(timezones=ZONES),
    st.datetimes(timezones=ZONES).map(lambda moment: moment.replace(fold=1)),
    st.dates(),
    st.times(timezones=ZONES),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.sampled_from([*Color, *Level, *Size, *Access, *Order.Status]),
)
HASHABLE = st.one_of(LEAVES, st.tuples(LEAVES, LEAVES), st.frozensets(LEAVES, max_size=3))
KEYS = st.one_of(st.text(), st.sampled_from(["$order", "$decimal", "$", "", "args"]))
VALUES = st.recursive(
    st.one_of(HASHABLE, st.sets(HASHABLE, max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(KEYS, inner),
        st.dictionaries(HASHABLE, inner, max_size=3),
    ),
    max_leaves=12,
)


@settings(deadline=None)  # a loaded machine is no failure
@given(VALUES)
def test_any_supported_value_comes_back_identical(value: Any) -> None:
    assert identical(through_storage(value), value)


@settings(deadline=None)  # a loaded machine is no failure
@given(st.lists(VALUES, max_size=3), st.dictionaries(st.text("abc", min_size=1), VALUES))
def test_a_call_comes_back_with_its_arguments(args: list[Any], kwargs: dict[str, Any]) -> None:
    data = json.loads(dumps(encode_call(KEY, ("first",), tuple(args), kwargs)))
    decoded_args, decoded_kwargs = decode_call(data)
    assert identical(decoded_args, args)
    assert identical(decoded_kwargs, kwargs)


@settings(deadline=None)  # a loaded machine is no failure
@given(VALUES, st.integers(1, 60))
def test_display_keeps_to_its_length_for_any_value(value: Any, max_chars: int) -> None:
    assert len(display(encode_call(KEY, (), (value,), {}), max_chars)) <= max_chars


JSON = st.recursive(
    st.one_of(
        st.none(), st.integers(), st.text(), st.sampled_from(["auth.User", "tests:X", "default"])
    ),
    lambda inner: st.one_of(
        st.lists(inner),
        st.dictionaries(st.text(), inner),
        st.dictionaries(
            st.sampled_from([*LEAVES_BY_TAG, *COLLECTIONS, "$model", "$order", "$new"]),
            inner,
            max_size=2,
        ),
    ),
    max_leaves=8,
)


@settings(deadline=None)  # a loaded machine is no failure
@given(JSON)
def test_data_written_by_others_is_read_or_refused_and_always_shown(data: Any) -> None:
    with (
        mock.patch("django_defer.payload_reading._load", return_value=None),
        contextlib.suppress(UnreadablePayload),
    ):
        decode_result(data)
    assert isinstance(display(data, 80), str)
    assert isinstance(display_result(data, 80), str)


# -- what plain values look like -----------------------------------------------------------------


def test_plain_arguments_are_stored_as_they_are() -> None:
    data = encode_call(KEY, ("user_id", "name"), (5, "Ann"), {"limit": 10, "ratio": 0.5})
    assert data == {"args": [5, "Ann"], "kwargs": {"limit": 10, "ratio": 0.5}}


def test_encoded_arguments_are_a_snapshot() -> None:
    items = [1]
    data = encode_call(KEY, ("items",), (items,), {})
    items.append(2)
    assert data["args"] == [[1]]


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"id": 1, "name": "x"}, {"id": 1, "name": "x"}),
        ({"name": 1, "id": 2}, {"name": 1, "id": 2, "$order": ["name", "id"]}),
        ({1: "x"}, {"$dict": [[1, "x"]]}),
        ({"$uuid": "x"}, {"$dict": [["$uuid", "x"]]}),
        (Decimal("1.50"), {"$decimal": "1.50"}),
        ((1, 2), {"$tuple": [1, 2]}),
        ({3, 1, 2}, {"$set": [1, 2, 3]}),
        (datetime(2024, 1, 2, 8, tzinfo=UTC), {"$datetime": "2024-01-02T08:00:00+00:00"}),
        (Color.RED, {"$enum": [f"{__name__}:Color", "RED"]}),
        (1e16, {"$float": "1e+16"}),
        (-0.0, {"$float": "-0.0"}),
        (2**64, {"$int": "0x10000000000000000"}),
    ],
)
def test_the_stored_form(value: Any, data: Any) -> None:
    assert encode_result(KEY, value) == data


def test_equal_sets_have_equal_payloads() -> None:
    assert dumps(encode_result(KEY, {"a", "b", "c"})) == dumps(encode_result(KEY, {"c", "b", "a"}))


def test_dumps_is_compact_and_refuses_nan() -> None:
    assert dumps({"a": [1, "é"]}) == '{"a":[1,"é"]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps(math.nan)


def test_an_integer_of_5000_digits_comes_back() -> None:
    assert identical(through_storage(-(10**5000)), -(10**5000))


@pytest.mark.parametrize("text", ["NaN", "-NaN", "sNaN", "NaN123", "Infinity", "1E+400", "-0.00"])
def test_a_decimal_keeps_every_detail(text: str) -> None:
    assert repr(through_storage(Decimal(text))) == repr(Decimal(text))


def test_the_fold_of_a_repeated_hour_is_kept() -> None:
    moment = datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
    decoded = through_storage(moment)
    assert decoded.fold == 1
    assert decoded.utcoffset() == timedelta(hours=1)
    assert decoded.tzinfo is moment.tzinfo


def test_a_frozen_datetime_counts_as_a_datetime() -> None:
    frozen = type("FakeDatetime", (datetime,), {"__module__": "freezegun.api"})
    assert identical(
        through_storage(frozen(2024, 1, 1, tzinfo=UTC)), datetime(2024, 1, 1, tzinfo=UTC)
    )


# -- text that is not str ------------------------------------------------------------------------


def test_lazy_text_becomes_text_when_it_is_passed() -> None:
    language = ["German"]
    lazy_text = lazy(lambda: language[0], str)()
    data = encode_result(KEY, [gettext_lazy("Monday"), lazy_text])
    language[0] = "French"
    assert identical(decode_result(data), ["Monday", "German"])


def test_safe_text_comes_back_as_ordinary_text() -> None:
    assert identical(through_storage(mark_safe("<b>")), "<b>")
    assert identical(through_storage({mark_safe("<b>"): 1}), {"<b>": 1})


# -- refusals ------------------------------------------------------------------------------------


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append({"again": value})
    return value


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def local_member() -> Enum:
    class Local(Enum):
        A = 1

    return Local.A


REFUSALS: list[tuple[Callable[[], Any], str]] = [
    (AnonymousUser, "pass user.pk or check is_authenticated first"),
    (lambda: SimpleLazyObject(AnonymousUser), "check is_authenticated first"),
    (lambda: User(username="new"), "save it first"),
    (lambda: User(pk=5), "save it first"),
    (lambda: User, "pass its label"),
    (User.objects.all, "values_list('pk', flat=True)), or call once per item"),
    (lambda: User.objects, "list(manager.values_list"),
    (HttpRequest, "request.user.pk"),
    (HttpResponse, "status code"),
    (lambda: QueryDict("a=1"), "dict(value.lists())"),
    (lambda: ContentFile(b""), "save it to a storage and pass its storage name"),
    (lambda: SimpleUploadedFile("a.txt", b""), "save it to a storage and pass its storage name"),
    (lambda: FieldFile(mock.Mock(), models.FileField(), "a.txt"), "storage name, value.name"),
    (lambda: io.BytesIO(b""), "storage name"),
    (lambda: io.StringIO(""), "storage name"),
    (lambda: len, "call the function by name"),
    (lambda: nested, "call the function by name"),
    (lambda: noop, "call the function by name"),
    (lambda: noop.using(delay=1), "call the function by name"),
    (lambda: function("testapp.noop"), "call the function by name"),
    (lambda: mock.Mock(spec=User), "pass plain data"),
    (lambda: (x for x in [1]), "an iterator can be read only once"),
    (lambda: map(str, ()), "an iterator can be read only once"),
    (lambda: int, "pass its name"),
    (lambda: Text("x"), "pass str(value)"),
    (lambda: OrderedDict(a=1), "pass dict(value)"),
    (lambda: Point(1, 2), "pass tuple(value) or value._asdict()"),
    (lambda: Price(Decimal(1)), "pass dataclasses.asdict(value)"),
    (lambda: Access.READ | Access.WRITE, "pass its .value"),
    (local_member, "move the Enum"),
    (lambda: datetime(2024, 1, 1, tzinfo=Anywhere()), "zoneinfo.ZoneInfo"),
    (lambda: type("Sub", (datetime,), {})(2024, 1, 1), "fromisoformat"),
    (lambda: ZoneInfo("UTC"), "pass value.key"),
    (lambda: pathlib.Path("x"), "pass str(value)"),
    (lambda: ValueError("x"), "pass str(value)"),
    (lambda: bytearray(b"x"), "pass bytes(value)"),
    (lambda: 1j, "value.real"),
    (lambda: range(3), "pass list(value)"),
    (lambda: logging, "pass plain data"),
    (object, "pass plain data"),
    (cyclic, "contains itself"),
    (lambda: nested(70), "nested over 64 levels"),
    (lambda: nested(100_000), "nested over 64 levels"),
]


@pytest.mark.parametrize(("make", "advice"), REFUSALS)
def test_it_is_refused_with_advice(make: Callable[[], Any], advice: str) -> None:
    with pytest.raises(UnserializableValue) as caught:
        encode_call(KEY, ("value",), (make(),), {})
    assert advice in caught.value.instead


@pytest.mark.parametrize(
    ("args", "kwargs", "where"),
    [
        ((object(),), {}, "argument `items` of shop.compute"),
        (([0, 0, 0, {"price": object()}],), {}, "argument `items[3].price` of shop.compute"),
        ((1, 2, object()), {}, "argument `args[2]` of shop.compute"),
        ((), {"user": (object(),)}, "argument `user[0]` of shop.compute"),
        ((), {"user": {"a b": object()}}, "argument `user['a b']` of shop.compute"),
        ((), {"user": {5: object()}}, "argument `user[5]` of shop.compute"),
        ((), {"user": {(5,): object()}}, "argument `user[…]` of shop.compute"),
        ((), {"user": {object(): 1}}, "argument `user.keys()` of shop.compute"),
        ((), {"a\0": 1}, r"argument `'a\x00'` of shop.compute"),
    ],
)
def test_the_refusal_names_the_place(
    args: tuple[Any, ...], kwargs: dict[str, Any], where: str
) -> None:
    with pytest.raises(UnserializableValue) as caught:
        encode_call(KEY, ("items", "limit"), args, kwargs)
    assert caught.value.where == where
    assert str(caught.value).startswith(where)


def test_the_refusal_of_a_result_names_the_place() -> None:
    with pytest.raises(UnserializableValue, match=r"^the result of shop.compute is of type "):
        encode_result(KEY, object())
    with pytest.raises(UnserializableValue, match=r"^item `\[1\]` of the result of shop.compute "):
        encode_result(KEY, [1, object()])


def test_nesting_up_to_the_limit_comes_back() -> None:
    for wrap in (lambda inner: [inner], lambda inner: (inner,), lambda inner: {1: inner}):
        value: Any = 0
        for _ in range(64):
            value = wrap(value)
        assert identical(through_storage(value), value)
        assert display(encode_call(KEY, (), (value,), {})).endswith(("…", "]", ")", "}"))


# -- size ----------------------------------------------------------------------------------------


@override_settings(DEFER={"MAX_ARGS_BYTES": 100, "MAX_RESULT_BYTES": 50})
def test_payloads_over_the_limit_are_refused() -> None:
    encode_call(KEY, ("text",), ("x" * 70,), {})
    with pytest.raises(PayloadTooLarge, match=r"arguments of shop.compute.*MAX_ARGS_BYTES") as over:
        encode_call(KEY, ("text",), ("x" * 100,), {})
    assert over.value.size == len('{"args":[""],"kwargs":{}}') + 100
    with pytest.raises(PayloadTooLarge, match=r"result of shop.compute.*MAX_RESULT_BYTES"):
        encode_result(KEY, "x" * 51)


@override_settings(DEFER={"MAX_RESULT_BYTES": 20})
@settings(deadline=None)  # a loaded machine is no failure
@given(st.one_of(st.text(max_size=30), st.integers(), st.floats()))
def test_the_size_is_that_of_the_bytes_stored(value: Any) -> None:
    with contextlib.suppress(PayloadTooLarge):
        assert len(dumps(encode_result(KEY, value)).encode()) <= 20


def test_a_list_that_stands_for_billions_of_items_is_refused_at_once() -> None:
    value: list[Any] = [0] * 10
    for _ in range(40):
        value = [value] * 10
    with pytest.raises(PayloadTooLarge):
        encode_result(KEY, value)


# -- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"$color": "red"}, "which this version can't read"),
        ({"$uuid": "x", "$date": "y"}, "which this version can't read"),
        ({"$uuid": "x"}, r"a \$uuid that cannot be read"),
        ({"$decimal": "x"}, r"a \$decimal that cannot be read"),
        ({"$date": 5}, r"a \$date that cannot be read"),
        ({"$set": [[1]]}, r"a \$set that cannot be read"),
        ({"$datetime": ["2024-01-01T00:00:00", 0, "Mars/Base"]}, "No time zone found"),
        ({"$order": ["b"], "a": 1}, r"\$order is not its keys"),
        ({"$order": [1], "1": 1}, r"\$order is not its keys"),
        ({"$model": ["auth", 5]}, "unknown form"),
        ({"$model": ["shop.Gone", 5, "default"]}, "shop.Gone pk=5 cannot be loaded: no such model"),
        ({"$model": ["auth.User", 5, "moon"]}, "no database 'moon'"),
        ({"$enum": ["os:path", "sep"]}, "not an Enum"),
        ({"$enum": ["os:system", "x"]}, "not an Enum"),
        ({"$enum": ["http:HTTPStatus", "GONE_AWAY"]}, "has no member GONE_AWAY"),
        ({"$enum": ["http:HTTPStatus.OK", "OK"]}, "not an Enum"),
        (nested(200), "nested over 150 levels"),
    ],
)
def test_unreadable_data_is_refused_with_the_reason(data: Any, reason: str) -> None:
    with pytest.raises(UnreadablePayload, match=reason):
        decode_result(data)
    with pytest.raises(UnreadablePayload, match=reason):
        decode_call({"args": [], "kwargs": {"x": data}})


@pytest.mark.parametrize("data", [None, [], {}, {"args": {}, "kwargs": {}}, {"args": []}])
def test_a_call_of_another_form_is_refused(data: Any) -> None:
    with pytest.raises(UnreadablePayload, match="not of the form"):
        decode_call(data)


# -- an Enum names a module ----------------------------------------------------------------------


def test_an_enum_of_the_standard_library_comes_back() -> None:
    assert through_storage(HTTPStatus.OK) is HTTPStatus.OK


def test_reading_an_enum_imports_no_module_outside_the_installed_apps() -> None:
    assert "antigravity" not in sys.modules
    with pytest.raises(UnreadablePayload, match="antigravity is not loaded and not part of"):
        decode_result({"$enum": ["antigravity:X", "A"]})
    assert "antigravity" not in sys.modules


def test_reading_an_enum_may_import_a_module_of_an_installed_app() -> None:
    name = "django.contrib.auth.colors"
    loaded = ModuleType(name)
    loaded.Color = Color  # type: ignore[attr-defined]
    with mock.patch("django_defer.payload_types.import_module", return_value=loaded) as imported:
        assert decode_result({"$enum": [f"{name}:Color", "BLUE"]}) is Color.BLUE
    imported.assert_called_once_with(name)


def test_a_module_of_an_installed_app_that_is_gone_is_unreadable() -> None:
    with pytest.raises(UnreadablePayload, match="cannot be imported"):
        decode_result({"$enum": ["django.contrib.auth.gone:Color", "RED"]})


def test_a_similar_module_name_is_not_part_of_an_installed_app() -> None:
    with pytest.raises(UnreadablePayload, match="not part of an installed app"):
        decode_result({"$enum": ["django.contrib.authority:Color", "RED"]})


def test_reading_an_enum_runs_no_module_getattr() -> None:
    module = ModuleType("lazy_module")
    module.__getattr__ = mock.Mock()  # type: ignore[method-assign]
    with (
        mock.patch.dict(sys.modules, lazy_module=module),
        pytest.raises(UnreadablePayload, match="not an Enum"),
    ):
        decode_result({"$enum": ["lazy_module:Color", "RED"]})
    module.__getattr__.assert_not_called()


# -- display -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([1, "a", None, True, 1.5], "[1, 'a', None, True, 1.5]"),
        ({"b": 1, "a": 2}, "{'b': 1, 'a': 2}"),
        ({1: (2,)}, "{1: (2,)}"),
        ((), "()"),
        ({2, 1}, "{1, 2}"),
        (set(), "set()"),
        (frozenset(), "frozenset()"),
        (frozenset({1}), "frozenset({1})"),
        (Decimal("1.50"), "Decimal('1.50')"),
        (date(2024, 1, 2), "2024-01-02"),
        (datetime(2024, 1, 2, 8, tzinfo=UTC), "2024-01-02 08:00:00+00:00"),
        (timedelta(minutes=5), "0:05:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Order.Status.PAID, "Order.Status.PAID"),
        (b"x", "b'x'"),
        (math.inf, "inf"),
    ],
)
def test_display_reads_like_python(value: Any, shown: str) -> None:
    assert display(encode_call(KEY, (), (), {"x": value})) == f"x={shown}"
    assert display_result(encode_result(KEY, value)) == shown


def test_display_names_positional_arguments_as_far_as_it_can() -> None:
    data = encode_call(KEY, ("a", "b"), (1, 2), {"c": 3})
    assert display(data) == "1, 2, c=3"
    assert display(data, parameter_names=("a",)) == "a=1, 2, c=3"


def test_display_shows_a_model_without_loading_it() -> None:
    call = {"args": [], "kwargs": {"user": {"$model": ["shop.User", 5, "default"]}, "limit": 10}}
    assert display(call) == "user=<shop.User pk=5>, limit=10"
    assert (
        display_result({"$model": ["shop.User", 5, "other"]}) == "<shop.User pk=5 database=other>"
    )


def test_display_cuts_long_text() -> None:
    assert display(encode_call(KEY, (), ("x" * 100,), {}), 10) == "'xxxxxxxx…"
