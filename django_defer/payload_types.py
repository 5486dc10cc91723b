"""What a payload may hold: which values JSON keeps as they are, a tag for each other leaf type,
and advice for every type that is refused.

A value is plain only if JSON text on SQLite and jsonb on PostgreSQL both give it back unchanged.
jsonb refuses NUL and lone surrogates, rewrites 1e16 as an integer and drops the sign of -0.0, so
such values carry a tag. Reading a leaf builds values of the types below and calls nothing else;
only an Enum may import a module, and only one of an installed app.
"""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from importlib import import_module
from math import copysign
from types import ModuleType
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from django.apps import apps

MAX_INT: Final = 2**63 - 1  # larger ones meet limits of int(text) in Python and of JSON in SQLite


class Refused(Exception):
    """A value that cannot be stored; the message says what to pass instead."""


def is_plain(value: Any) -> bool:
    """Say whether JSON holds this value as it is, whichever database keeps it."""
    kind: type = type(value)
    if kind is str:
        return is_storable_text(value)
    if kind is int:
        magnitude: int = abs(value)
        return magnitude <= MAX_INT
    if kind is float:  # the range whose repr has no exponent, and positive zero
        return 1e-4 <= abs(value) < 1e16 or (value == 0 and copysign(1, value) > 0)
    return value is None or kind is bool


def is_storable_text(text: str) -> bool:
    """Say whether PostgreSQL accepts this text: no NUL, no lone surrogates."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# -- leaves: values without values in them -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leaf:
    """How one type is written, read back and shown."""

    tag: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    show: Callable[[Any], str] = repr


def _write_text(value: str) -> str:
    return b64encode(value.encode("utf-8", "surrogatepass")).decode()


def _read_text(data: str) -> str:
    return b64decode(data, validate=True).decode("utf-8", "surrogatepass")


def _write_moment(value: Any) -> Any:
    """Write a datetime or time: ISO text, or [ISO text, fold, zone] if that loses nothing."""
    zone = _write_zone(value.tzinfo)
    if zone is None and not value.fold:
        return value.isoformat()
    bare = value.replace(tzinfo=value.tzinfo if zone is None else None, fold=0)
    return [bare.isoformat(), value.fold, zone]


def _write_zone(zone: object) -> Any:
    """Write a zone that ISO text would lose; None for a naive value or an unnamed whole minute."""
    if zone is None:
        return None
    if type(zone) is ZoneInfo and zone.key:
        return zone.key
    if type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        is_iso = not name and not offset % timedelta(minutes=1)  # Python 3.11 misreads finer ones
        return None if is_iso else [_write_timedelta(offset), *name]
    raise Refused("its tzinfo has no name to store: use datetime.UTC or a zoneinfo.ZoneInfo")


def _reads_moment(kind: type[datetime] | type[time]) -> Callable[[Any], Any]:
    def read(data: Any) -> Any:
        if isinstance(data, str):
            return kind.fromisoformat(data)
        text, fold, zone = data
        value = kind.fromisoformat(text)
        return value.replace(tzinfo=_read_zone(zone, value.tzinfo), fold=fold)

    return read


def _read_zone(zone: Any, offset: Any) -> Any:
    if zone is None:
        return offset
    if isinstance(zone, str):
        return ZoneInfo(zone)
    return timezone(timedelta(*zone[0]), *zone[1:])


def _write_timedelta(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


# -- enum members: by module, qualified name and member name -------------------------------------


def write_enum(value: Enum) -> list[str]:
    """Write a member so that another process finds it again, or refuse."""
    kind = type(value)
    path = f"{kind.__module__}:{kind.__qualname__}"
    if kind.__module__ == "__main__" or _walk(sys.modules.get(kind.__module__), kind) is not kind:
        raise Refused("move the Enum to module or class level of an importable module")
    if kind.__members__.get(value.name or "") is not value:
        raise Refused("pass its .value: a combination of flags has no name")
    return [path, value.name]


def read_enum(data: Any) -> Enum:
    """Return the member; raise ValueError if its class or name is gone."""
    path, name = data
    module, _, qualname = path.partition(":")
    kind = _walk(_module(module), qualname)
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        raise ValueError(f"{path} is not an Enum")
    if name not in kind.__members__:
        raise ValueError(f"{path} has no member {name}")
    return kind.__members__[name]


def _walk(module: ModuleType | None, target: type | str) -> object:
    """Follow a qualified name through module and classes, past no descriptor or __getattr__."""
    found: object = module
    for part in (target if isinstance(target, str) else target.__qualname__).split("."):
        if not isinstance(found, ModuleType | type):
            return None
        found = vars(found).get(part)
    return found


def _module(name: str) -> ModuleType:
    """Return a module that is loaded, or import it if it belongs to an installed app."""
    if name in sys.modules:
        return sys.modules[name]
    if any(f"{name}.".startswith(f"{app.name}.") for app in apps.get_app_configs()):
        try:
            return import_module(name)
        except Exception as error:
            raise ValueError(f"module {name} cannot be imported ({error})") from error
    raise ValueError(
        f"module {name} is not loaded and not part of an installed app: import it in the module "
        f"of the function"
    )


def _show_enum(member: Enum) -> str:
    return f"{type(member).__qualname__}.{member.name}"


ENUM: Final = Leaf("$enum", write_enum, read_enum, _show_enum)

LEAVES: Final[dict[type, Leaf]] = {
    int: Leaf("$int", hex, lambda data: int(data, 16)),
    float: Leaf("$float", repr, float),
    str: Leaf("$str", _write_text, _read_text),
    bytes: Leaf(
        "$bytes", lambda value: b64encode(value).decode(), lambda data: b64decode(data, None, True)
    ),
    datetime: Leaf("$datetime", _write_moment, _reads_moment(datetime), str),
    date: Leaf("$date", date.isoformat, date.fromisoformat, str),
    time: Leaf("$time", _write_moment, _reads_moment(time), str),
    timedelta: Leaf("$timedelta", _write_timedelta, lambda data: timedelta(*data), str),
    Decimal: Leaf("$decimal", str, Decimal),
    UUID: Leaf("$uuid", str, UUID, str),
}
LEAVES_BY_TAG: Final = {leaf.tag: leaf for leaf in (*LEAVES.values(), ENUM)}


def leaf_for(value: object) -> Leaf | None:
    """Return how this value is written, if it is a leaf."""
    kind = type(value)
    if kind.__module__ == "freezegun.api":  # what datetime.now() returns in a test's frozen time
        kind = kind.__mro__[1]
    return ENUM if issubclass(kind, Enum) else LEAVES.get(kind)


# -- advice: what to pass instead of a refused value -----------------------------------------------

GENERAL_ADVICE: Final = "pass plain data (text, numbers, lists, dicts, dates) or a saved model"
QUERYSET_ADVICE: Final = "pass list(qs.values_list('pk', flat=True)), or call once per item"
FUNCTION_ADVICE: Final = "pass data, and call the function by name inside the background function"
FILE_ADVICE: Final = "save it to a storage and pass its storage name"

ADVICE: Final[dict[str, str]] = {  # by dotted name, so that nothing is imported for it
    "django.contrib.auth.models.AnonymousUser": "pass user.pk or check is_authenticated first",
    "django.db.models.base.ModelBase": "pass its label, value._meta.label",
    "django.db.models.query.QuerySet": QUERYSET_ADVICE,
    "django.db.models.query.RawQuerySet": "pass the pks of its rows, or call once per item",
    "django.db.models.manager.BaseManager": QUERYSET_ADVICE.replace("qs.", "manager."),
    "django.http.request.HttpRequest": "pass what is needed of it, such as request.user.pk",
    "django.http.response.HttpResponseBase": "pass what is needed of it, such as its status code",
    "django.utils.datastructures.MultiValueDict": "pass dict(value.lists())",
    "django.forms.forms.BaseForm": "pass form.cleaned_data",
    "django.db.models.fields.files.FieldFile": "pass its storage name, value.name",
    "django.core.files.base.File": FILE_ADVICE,  # an upload's value.name is in no storage
    "_io._IOBase": FILE_ADVICE,
    "tempfile._TemporaryFileWrapper": FILE_ADVICE,
    "numpy.ndarray": "pass value.tolist()",
    "numpy.generic": "pass value.item()",
    "pandas._libs.tslibs.timestamps.Timestamp": "pass value.to_pydatetime()",
    "pandas.core.frame.DataFrame": 'pass value.to_dict("list")',
    "pandas.core.series.Series": "pass value.tolist()",
    "pydantic.main.BaseModel": "pass value.model_dump()",
    "pathlib.PurePath": "pass str(value)",
    "pathlib._local.PurePath": "pass str(value)",  # its home in Python 3.13
    "zoneinfo.ZoneInfo": "pass value.key",
    "re.Pattern": "pass value.pattern",
    "django_defer.registry.Function": FUNCTION_ADVICE,
    "django_defer.decorators.ConfiguredFunction": FUNCTION_ADVICE,
    "django_defer.handles.LazyFunction": FUNCTION_ADVICE,
    "functools.partial": FUNCTION_ADVICE,
    "builtins.function": FUNCTION_ADVICE,
    "builtins.method": FUNCTION_ADVICE,
    "builtins.builtin_function_or_method": FUNCTION_ADVICE,
    "builtins.coroutine": "await it first and pass what it returns",
    "builtins.type": "pass its name as text",
    "builtins.BaseException": "pass str(value)",
    "builtins.bytearray": "pass bytes(value)",
    "builtins.memoryview": "pass bytes(value)",
    "builtins.complex": "pass (value.real, value.imag)",
    "builtins.range": "pass list(value)",
    "builtins.str": "pass str(value)",
    "builtins.int": "pass int(value)",
    "builtins.float": "pass float(value)",
    "builtins.bytes": "pass bytes(value)",
    "builtins.list": "pass list(value)",
    "builtins.tuple": "pass tuple(value)",
    "builtins.dict": "pass dict(value)",
    "builtins.set": "pass set(value)",
    "builtins.frozenset": "pass frozenset(value)",
    "collections.deque": "pass list(value)",
    "datetime.datetime": "pass a plain one: datetime.fromisoformat(value.isoformat())",
    "datetime.date": "pass a plain one: date.fromisoformat(value.isoformat())",
    "decimal.Decimal": "pass a plain one: Decimal(value)",
    "uuid.UUID": "pass a plain one: UUID(str(value))",
}


def advice_for(value: object) -> str:
    """Say what to pass instead; looks at the type only, so a QuerySet is never evaluated."""
    kind = type(value)
    if is_dataclass(kind):
        return "pass dataclasses.asdict(value)"
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return "pass tuple(value) or value._asdict()"
    for base in kind.__mro__:
        if advice := ADVICE.get(f"{base.__module__}.{base.__qualname__}"):
            return advice
    if issubclass(kind, Iterator):
        return "pass list(value): an iterator can be read only once"
    return GENERAL_ADVICE
