"""django-defer: background and scheduled functions for Django, executed by django-q2 workers."""

from django_defer.context import current_run
from django_defer.decorators import defer, function
from django_defer.exceptions import (
    CalledInEventLoop,
    Cancel,
    DeferError,
    DuplicateKey,
    ImproperlyDeferred,
    InvalidCronExpression,
    InvalidDuration,
    InvalidOption,
    InvalidRetryPolicy,
    NotDiscoverable,
    NotMigrated,
    PayloadTooLarge,
    ReferencedObjectMissing,
    ResultNotReady,
    ResultUnavailable,
    Retry,
    RunAborted,
    RunNotCancellable,
    RunNotReschedulable,
    ScheduledFunctionError,
    TimeLimitExceeded,
    UnknownFunction,
    UnreadablePayload,
    UnserializableValue,
)
from django_defer.retries import RetryPolicy

__version__ = "0.1.0"

__all__ = [
    "CalledInEventLoop",
    "Cancel",
    "DeferError",
    "DuplicateKey",
    "ImproperlyDeferred",
    "InvalidCronExpression",
    "InvalidDuration",
    "InvalidOption",
    "InvalidRetryPolicy",
    "NotDiscoverable",
    "NotMigrated",
    "PayloadTooLarge",
    "ReferencedObjectMissing",
    "ResultNotReady",
    "ResultUnavailable",
    "Retry",
    "RetryPolicy",
    "RunAborted",
    "RunNotCancellable",
    "RunNotReschedulable",
    "ScheduledFunctionError",
    "TimeLimitExceeded",
    "UnknownFunction",
    "UnreadablePayload",
    "UnserializableValue",
    "current_run",
    "defer",
    "function",
]
