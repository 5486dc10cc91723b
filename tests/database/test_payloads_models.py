"""Model instances in payloads: they travel as references and are read back from their table."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.apps.registry import Apps
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.db import OperationalError, connection, models
from django.test.utils import CaptureQueriesContext
from django.utils.functional import SimpleLazyObject

from django_defer.exceptions import (
    ReferencedObjectMissing,
    UnreadablePayload,
    UnserializableValue,
)
from django_defer.payload_display import display, display_result
from django_defer.payloads import (
    decode_call,
    decode_result,
    dumps,
    encode_call,
    encode_result,
)

pytestmark = pytest.mark.django_db

KEY = "shop.compute"


@pytest.fixture
def user() -> User:
    return User.objects.create(username="ann")


def stored(value: Any) -> Any:
    return json.loads(dumps(encode_result(KEY, value)))


def test_an_instance_travels_as_a_reference(user: User) -> None:
    data = encode_call(KEY, ("user",), (user,), {"limit": 10})
    reference = {"$model": ["auth.User", user.pk, "default"]}
    assert data == {"args": [reference], "kwargs": {"limit": 10}}


def test_an_instance_is_read_as_it_is_when_the_run_starts(user: User) -> None:
    data = encode_call(KEY, ("user",), (user,), {})
    User.objects.update(username="anna")
    (decoded,), _ = decode_call(data)
    assert type(decoded) is User
    assert decoded == user
    assert decoded.username == "anna"


def test_encoding_and_display_load_nothing(user: User, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        data = encode_call(KEY, ("user",), (user,), {"limit": 10})
        shown = display(data, parameter_names=("user",))
    assert shown == f"user=<auth.User pk={user.pk}>, limit=10"


def test_a_row_that_occurs_twice_is_loaded_once(user: User) -> None:
    data = encode_call(KEY, ("user",), (user, [user]), {"other": {"owner": user}})
    with CaptureQueriesContext(connection) as queries:
        (first, (second,)), kwargs = decode_call(data)
    assert len(queries) == 1
    assert first is second is kwargs["other"]["owner"]


def test_instances_travel_inside_collections(user: User) -> None:
    group = Group.objects.create(name="staff")
    value = {"pair": (user, group), "set": {user}, "by_group": {group: [user]}}
    assert decode_result(stored(value)) == value


def test_request_user_is_unwrapped(user: User) -> None:
    lazy = SimpleLazyObject(lambda: User.objects.get(pk=user.pk))
    decoded = decode_result(stored(lazy))
    assert type(decoded) is User
    assert decoded == user


def test_a_deferred_instance_comes_back_complete(user: User) -> None:
    deferred = User.objects.only("pk").get()
    assert not decode_result(stored(deferred)).get_deferred_fields()


def test_a_deleted_instance_is_refused(user: User) -> None:
    user.delete()
    with pytest.raises(UnserializableValue, match=r"argument `user` of shop.compute .* save it"):
        encode_call(KEY, ("user",), (user,), {})


def test_a_row_deleted_meanwhile_is_missing(user: User) -> None:
    data, pk = stored(user), user.pk
    user.delete()
    with pytest.raises(ReferencedObjectMissing) as caught:
        decode_result(data)
    assert str(caught.value) == f"auth.User pk={pk} (database default) no longer exists"


@pytest.mark.parametrize("pk", ["x", None, [1], {"$tuple": [1, 2]}])
def test_a_key_of_another_type_is_unreadable(pk: Any) -> None:
    with pytest.raises(UnreadablePayload):
        decode_result({"$model": ["auth.User", pk, "default"]})


def test_an_error_of_the_database_is_not_taken_for_an_unreadable_payload(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(models.QuerySet, "get", fail)
    with pytest.raises(OperationalError):
        decode_result(stored(user))


def test_the_base_manager_finds_rows_that_the_default_manager_hides(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        type(User.objects), "get_queryset", lambda manager: User._base_manager.none()
    )
    assert decode_result(stored(user)) == user


def test_a_content_type_keeps_its_class_and_key() -> None:
    content_type = ContentType.objects.get_for_model(User)
    assert decode_result(stored(content_type)) == content_type


def test_a_relation_row_without_a_class_of_its_own_travels_too(user: User) -> None:
    user.groups.add(Group.objects.create(name="staff"))
    through = User.groups.through.objects.get()
    assert decode_result(stored(through)) == through


@pytest.mark.postgres
@pytest.mark.parametrize(
    "value",
    [
        [1e16, 1e300, 5e-324, -0.0, 0.1, 1.0, 9999999999999998.0, math.inf],
        [2**63 - 1, -(2**63), 10**400],
        "\0 \ud800 \u20ac \U0001f600",
        {"name": 1, "id": 2, "é": 3, "zz": 4, "$model": 5, "\0": 6},
        {"long": {"b": 1, "a": (2, {"y", "x"})}, "x": Decimal("1.500")},
    ],
)
def test_jsonb_changes_nothing(value: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT CAST(%s AS jsonb)::text", [dumps(encode_result(KEY, value))])
        decoded = decode_result(json.loads(cursor.fetchone()[0]))
    assert decoded == value
    assert str(list(decoded)) == str(list(value))  # the order of keys, the sign of zero


def installed(monkeypatch: pytest.MonkeyPatch, model: type[models.Model]) -> None:
    """Let the registry know a model for the length of one test."""
    monkeypatch.setitem(apps.all_models["auth"], model._meta.model_name or "", model)


def in_auth(**options: Any) -> Any:
    return type("Meta", (), {"app_label": "auth", "apps": Apps(), **options})


def test_a_proxy_keeps_its_class(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    class Customer(User):
        Meta = in_auth(proxy=True)

    installed(monkeypatch, Customer)
    data = stored(Customer.objects.get(pk=user.pk))
    assert data["$model"][0] == "auth.Customer"
    assert type(decode_result(data)) is Customer


def test_a_uuid_key_travels_by_its_own_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    class Parcel(models.Model):  # noqa: DJ008
        id = models.UUIDField(primary_key=True, default=uuid4)
        Meta = in_auth()

    installed(monkeypatch, Parcel)
    with connection.cursor() as cursor:
        kind = Parcel._meta.pk.db_type(connection)
        cursor.execute(f"CREATE TABLE auth_parcel (id {kind} PRIMARY KEY)")
    parcel = Parcel()
    with pytest.raises(UnserializableValue, match="save it first"):
        stored(parcel)
    parcel.save()
    data = stored(parcel)
    assert data == {"$model": ["auth.Parcel", {"$uuid": str(parcel.pk)}, "default"]}
    assert decode_result(data) == parcel
    assert display_result(data) == f"<auth.Parcel pk={parcel.pk}>"


def test_a_historical_model_of_a_migration_is_refused(user: User) -> None:
    historical: Any = type(
        "User",
        (models.Model,),
        {"__module__": "__fake__", "Meta": in_auth(db_table="auth_user")},
    )
    with pytest.raises(UnserializableValue, match="pass its pk"):
        encode_result(KEY, historical.objects.only("pk").get())
