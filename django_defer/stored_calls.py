"""Between a run's row and its function: arguments that fit, and a result that can be stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_defer.exceptions import PayloadTooLarge, UnreadablePayload, UnserializableValue
from django_defer.failures import Hopeless
from django_defer.payloads import decode_call, dumps, encode_result
from django_defer.sensitive import shown_signature

if TYPE_CHECKING:
    from django_defer.registry import Function


def read_call(function: Function[Any, Any], stored: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments; say so if they don't fit the function any more."""
    args, kwargs = decode_call(stored)
    try:
        function.signature.bind(*args, **kwargs)
    except TypeError as error:
        raise UnreadablePayload(
            f"The stored arguments do not fit {function.key}{shown_signature(function)}, which was "
            f"changed after the run was enqueued: {error}."
        ) from error
    return args, kwargs


def write_result(function: Function[Any, Any], value: Any) -> str:
    """Return the result as JSON text; one that cannot be stored is no reason to run again."""
    try:
        return dumps(encode_result(function.key, value))
    except (UnserializableValue, PayloadTooLarge) as error:
        raise Hopeless from error
