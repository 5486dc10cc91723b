"""Arguments and results as JSON data: what goes in comes out equal and of the same type, or is
refused with a sentence where it was passed.

A value JSON cannot hold is an object with one key, a tag: {"$decimal": "1.50"}. A model instance
travels as a reference (label, pk, database) and is read from its table when the payload is
decoded. Reading unpickles and calls nothing; see `payload_types` for what an Enum may import.
Known differences: lazy strings and SafeString come back as str, the order of keyword arguments
is not kept, and an object that occurs twice comes back as two equal ones (model instances: one).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model
from django.utils.functional import LazyObject, Promise, empty
from django.utils.safestring import SafeString

from django_defer.conf import conf
from django_defer.exceptions import PayloadTooLarge, UnreadablePayload, UnserializableValue
from django_defer.payload_reading import Decoder, is_call
from django_defer.payload_types import Refused, advice_for, is_plain, is_storable_text, leaf_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "decode_call",
    "decode_result",
    "dumps",
    "encode_call",
    "encode_result",
]

MAX_DEPTH: Final = 64  # of lists, dicts and the like; at six frames each, no RecursionError
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def dumps(data: Any) -> str:
    """Return encoded data as compact JSON."""
    return _ENCODER.encode(data)


def encode_call(
    function_key: str,
    parameter_names: Sequence[str],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> dict[str, Any]:
    """Return `{"args": [...], "kwargs": {...}}` as JSON data, or say which argument is at fault."""
    limit = conf.max_args_bytes
    if _is_plain_and_small(args, kwargs, limit):
        return {"args": list(args), "kwargs": dict(kwargs)}
    encoder = _Encoder(
        f"The arguments of {function_key}",
        lambda path: f"argument `{path}` of {function_key}",
        limit,
        "MAX_ARGS_BYTES",
    )
    names = [*parameter_names, *(f"args[{i}]" for i in range(len(parameter_names), len(args)))]
    positional = [encoder.child(*pair) for pair in zip(names, args, strict=False)]
    keywords = {name: encoder.keyword(name, value) for name, value in kwargs.items()}
    data = {"args": positional, "kwargs": keywords}
    encoder.check_limit(data)
    return data


def decode_call(data: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a stored call; loads the model instances among them."""
    if not is_call(data):
        raise UnreadablePayload("The stored arguments are not of the form {args: [], kwargs: {}}.")
    decode = Decoder().decode
    args = [decode(item) for item in data["args"]]
    return args, {name: decode(item) for name, item in data["kwargs"].items()}


def encode_result(function_key: str, value: Any) -> Any:
    """Return what a function returned as JSON data."""
    limit = conf.max_result_bytes
    if _is_plain_and_small((value,), {}, limit):
        return value
    what = f"the result of {function_key}"
    encoder = _Encoder(
        f"The result of {function_key}",
        lambda path: f"item `{path}` of {what}" if path else what,
        limit,
        "MAX_RESULT_BYTES",
    )
    data = encoder.encode(value)
    encoder.check_limit(data)
    return data


def decode_result(data: Any) -> Any:
    """Return a stored result; loads the model instances in it."""
    return Decoder().decode(data)


def _is_plain_and_small(args: Sequence[Any], kwargs: Mapping[str, Any], limit: int) -> bool:
    """Say whether these need no encoding and cannot exceed the limit however they are escaped."""
    room = limit - 64
    for value in (*args, *kwargs.values()):
        if not is_plain(value):
            return False
        room -= 6 * len(value) + 3 if type(value) is str else 32
    for name in kwargs:
        if not name.isidentifier():
            return False
        room -= 6 * len(name) + 4
    return room >= 0


class _Encoder:
    """Turns values into JSON data and knows where it is, so that a refusal can say so."""

    def __init__(self, what: str, locate: Callable[[str], str], limit: int, setting: str) -> None:
        self.what, self.locate, self.limit, self.setting = what, locate, limit, setting
        self.steps: list[str] = []
        self.open: set[int] = set()  # the collections around the current value
        self.items = 0

    def check_limit(self, data: Any) -> None:
        """Raise PayloadTooLarge if the JSON of this data has too many bytes."""
        self._check_size(len(dumps(data).encode()))

    def _check_size(self, size: int) -> None:
        if size > self.limit:
            raise PayloadTooLarge(self.what, size, self.limit, self.setting)

    def child(self, step: str, value: Any) -> Any:
        """Encode a value that is one step further in."""
        self.steps.append(step)
        data = self.encode(value)
        self.steps.pop()
        return data

    def keyword(self, name: str, value: Any) -> Any:
        """Encode a keyword argument, whose name must be storable as it is."""
        if not is_storable_text(name):
            raise UnserializableValue(self.locate(ascii(name)), name, "use another name")
        return self.child(name, value)

    def encode(self, value: Any) -> Any:
        """Return the value as JSON data."""
        if is_plain(value):
            return value
        try:
            if leaf := leaf_for(value):
                return {leaf.tag: leaf.write(value)}
            if type(value) in (list, tuple, dict, set, frozenset):
                return self._collection(value)
            return self._object(value)
        except Refused as refused:
            where = self.locate("".join(self.steps))
            raise UnserializableValue(where, value, str(refused)) from None

    def _collection(self, value: Any) -> Any:
        if id(value) in self.open:
            raise Refused("it contains itself: pass data without cycles")
        if len(self.open) == MAX_DEPTH:
            raise Refused(f"it is nested over {MAX_DEPTH} levels deep: pass flatter data")
        self.items += len(value)
        self._check_size(2 * self.items)  # at the least: a shared list can stand for billions
        self.open.add(id(value))
        data = self._dict(value) if type(value) is dict else self._sequence(value)
        self.open.remove(id(value))
        return data

    def _sequence(self, value: Any) -> Any:
        data = [
            item if is_plain(item) else self.child(f"[{index}]", item)
            for index, item in enumerate(value)
        ]
        if type(value) is list:
            return data
        if type(value) is tuple:
            return {"$tuple": data}
        return {f"${type(value).__name__}": sorted(data, key=dumps)}  # equal sets, equal payloads

    def _dict(self, value: dict[Any, Any]) -> dict[str, Any]:
        """Write an object, with the order of its keys if jsonb would change it, or pairs."""
        if not all(type(key) is str and key[:1] != "$" and is_plain(key) for key in value):
            pairs = value.items()
            return {"$dict": [[self.child(".keys()", k), self._item(k, v)] for k, v in pairs]}
        data = {key: self._item(key, item) for key, item in value.items()}
        if (order := list(value)) != sorted(order, key=_jsonb_order):
            data["$order"] = order
        return data

    def _item(self, key: Any, value: Any) -> Any:
        if is_plain(value):
            return value
        if type(key) is str and key.isidentifier():
            return self.child(f".{key}", value)
        return self.child(f"[{key!r}]" if is_plain(key) else "[…]", value)

    def _object(self, value: Any) -> Any:
        kind = type(value)  # never value.__class__, which lazy objects and mocks make up
        if issubclass(kind, LazyObject):
            if value._wrapped is empty:
                value._setup()
            return self.encode(value._wrapped)
        if issubclass(kind, Promise):
            return self.encode(str(value))
        if kind is SafeString:
            return self.encode(str.__str__(value))
        if issubclass(kind, Model):
            return {"$model": self._reference(value)}
        raise Refused(advice_for(value))

    def _reference(self, instance: Model) -> list[Any]:
        """Write a saved instance as [label, pk, database]."""
        if instance.pk is None or instance._state.adding:
            raise Refused("it is not saved: save it first, or pass its values")
        if not _is_installed(type(instance)):
            raise Refused("its class is not the installed model of that name: pass its pk")
        return [
            instance._meta.label,
            self.child(".pk", instance.pk),
            instance._state.db or DEFAULT_DB_ALIAS,
        ]


def _is_installed(model: type[Model]) -> bool:
    """Tell the model that workers will find from a migration's historical one."""
    options = model._meta
    return apps.all_models.get(options.app_label, {}).get(options.model_name or "") is model


def _jsonb_order(key: str) -> tuple[int, bytes]:
    return len(encoded := key.encode()), encoded
