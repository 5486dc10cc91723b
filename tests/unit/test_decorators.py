"""`@defer`, `@defer.cron` and plain calls of both: what they make, take and refuse."""

from __future__ import annotations

import asyncio
import inspect
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from django_defer import (
    CalledInEventLoop,
    ImproperlyDeferred,
    InvalidCronExpression,
    InvalidDuration,
    InvalidOption,
    InvalidRetryPolicy,
    NotDiscoverable,
    RetryPolicy,
    ScheduledFunctionError,
    UnknownFunction,
    defer,
    function,
)
from django_defer.call_options import CallOptions
from django_defer.cron import CronSchedule
from django_defer.decorators import DeferredFunction
from django_defer.registry import registry
from django_defer.schedule_options import ScheduleOptions
from django_defer.schedules import Every
from tests.scratch import define, own_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    with own_registry():
        yield


def compute(first: int = 1, second: int = 1) -> int:
    """Be a function at module level."""
    return first + second


async def compute_async(first: int = 1) -> int:
    """Be a coroutine function at module level."""
    return first + 1


# -- the forms -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "@defer\ndef compute(): ...",
        "@defer()\ndef compute(): ...",
        "@defer(queue='mail')\ndef compute(): ...",
        "@defer\nasync def compute(): ...",
        "def compute(): ...\ncompute = defer(compute)",
        "def compute(): ...\ncompute = defer(compute, queue='mail')",
    ],
)
def test_each_form_registers_a_background_function(source: str) -> None:
    made = define(source).compute
    assert isinstance(made, DeferredFunction)
    assert registry.get("shop.compute") is made
    assert made.schedule is None
    assert made.is_async is ("async" in source)
    assert made.options.queue == ("mail" if "mail" in source else None)


@pytest.mark.parametrize(
    "source",
    [
        "@defer.cron('0 8 * * MON', timezone='Europe/Paris')\ndef weekly(): ...",
        "@defer.cron('0 8 * * MON', timezone='Europe/Paris')\nasync def weekly(): ...",
        "def weekly(): ...\nweekly = defer.cron(weekly, '0 8 * * MON', timezone='Europe/Paris')",
    ],
)
def test_each_form_registers_a_scheduled_function(source: str) -> None:
    made = define(source).weekly
    assert isinstance(made, DeferredFunction)
    assert made.schedule == CronSchedule("0 8 * * MON", "Europe/Paris")


def test_a_schedule_is_in_utc_unless_told_otherwise() -> None:
    schedule = define("@defer.cron('0 8 * * MON')\ndef weekly(): ...").weekly.schedule
    assert schedule.timezone == "UTC"


def test_the_key_seeds_the_hash_of_a_schedule() -> None:
    module = define("""
        @defer.cron('H H * * *')
        def one(): ...
        @defer.cron('H H * * *')
        def two(): ...
    """)
    assert (module.one.schedule.key, module.two.schedule.key) == ("shop.one", "shop.two")


def test_it_looks_like_the_function_it_replaces() -> None:
    deferred = defer(compute)
    assert (deferred.__name__, deferred.__doc__) == ("compute", compute.__doc__)
    assert repr(deferred) == "<DeferredFunction tests.compute>"
    assert deferred.parameter_names == ("first", "second")


# -- options ---------------------------------------------------------------------------------------


def test_the_defaults_retry_for_about_a_day_and_allow_half_an_hour() -> None:
    options = defer(compute).options
    assert options.retry == RetryPolicy()
    assert options.max_duration == timedelta(minutes=30)
    assert (options.queue, options.priority) == (None, 0)
    assert (options.atomic, options.rerun_if_lost) == (False, True)


def test_every_option_is_read() -> None:
    options = defer(
        compute,
        queue="mail",
        priority=-5,
        retry=3,
        max_duration="1m30s",
        atomic=True,
        rerun_if_lost=False,
    ).options
    assert (options.queue, options.priority) == ("mail", -5)
    assert options.retry.max_attempts == 4
    assert options.max_duration == timedelta(seconds=90)
    assert (options.atomic, options.rerun_if_lost) == (True, False)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"queue": ""}, InvalidOption, "a name of 1 to 50 characters"),
        ({"queue": "q" * 51}, InvalidOption, "a name of 1 to 50 characters"),
        ({"priority": 101}, InvalidOption, "a whole number from -100 to 100"),
        ({"priority": True}, InvalidOption, "a whole number from -100 to 100"),
        ({"retry": -1}, InvalidRetryPolicy, "a number of retries"),
        ({"max_duration": 0}, InvalidOption, "more than nothing"),
        ({"max_duration": "5 parsecs"}, InvalidDuration, "max_duration='5 parsecs' is not"),
        ({"atomic": "yes"}, InvalidOption, "atomic= takes True or False, not 'yes'"),
        ({"rerun_if_lost": 1}, InvalidOption, "rerun_if_lost= takes True or False, not 1"),
        (
            {"max_duratoin": 1},
            InvalidOption,
            "unknown option max_duratoin=. Known: alert, alert_after, atomic, discard",
        ),
        ({"delay": 1}, InvalidOption, "unknown option delay="),
        ({"timezone": "UTC"}, InvalidOption, "timezone= is about a schedule"),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_meant_is_refused(
    options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=re.escape(says)):
        defer(compute, **options)
    assert len(registry) == 0


@pytest.mark.parametrize(
    ("alert", "read"),
    [("billing", ("billing",)), (["a", "b"], ("a", "b")), (False, False), (None, None)],
)
def test_a_function_names_the_channels_that_are_told_of_it(alert: Any, read: Any) -> None:
    assert defer(compute, alert=alert).options.alert == read


@pytest.mark.parametrize("alert", [True, 5, [""], [5], ""])
def test_what_names_no_channel_is_refused(alert: Any) -> None:
    with pytest.raises(
        InvalidOption, match=r"tests\.compute: alert=.*: write the name of a channel"
    ):
        defer(compute, alert=alert)
    assert len(registry) == 0


# -- schedules -------------------------------------------------------------------------------------

SOME_DAY = datetime(2026, 12, 1, tzinfo=ZoneInfo("Europe/Paris"))


def test_a_schedule_takes_its_options() -> None:
    made = defer.cron(
        compute,
        "0 8 * * MON",
        catch_up="all",
        catch_up_window="2h",
        overlap="queue",
        supersede=True,
        jitter=90,
        enabled=False,
        starts_at=SOME_DAY,
        ends_at=SOME_DAY + timedelta(days=1),
    )
    assert made.schedule_options == ScheduleOptions(
        catch_up="all",
        catch_up_window=timedelta(hours=2),
        overlap="queue",
        supersede=True,
        jitter=timedelta(seconds=90),
        enabled=False,
        starts_at=datetime(2026, 11, 30, 23, tzinfo=UTC),
        ends_at=datetime(2026, 12, 1, 23, tzinfo=UTC),
    )
    assert made.schedule_options.starts_at is not None
    assert made.schedule_options.starts_at.tzinfo is UTC


def test_an_interval_is_a_schedule_with_the_same_options() -> None:
    for made in (
        defer.every("10s", overlap="skip")(compute),
        defer.every(compute_async, timedelta(seconds=10), overlap="skip"),
    ):
        assert made.schedule == Every(timedelta(seconds=10))
        assert made.schedule_options.overlap == "skip"
        with pytest.raises(ScheduledFunctionError):
            made()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"catch_up": "latet"}, """catch_up='latet'; write one of "latest", "none", "all"."""),
        ({"overlap": True}, """overlap=True; write one of "allow", "skip", "queue", "replace"."""),
        ({"catch_up": "none", "catch_up_window": "1h"}, "catches up nothing"),
        ({"catch_up_window": "soon"}, "catch_up_window='soon' is not a duration"),
        ({"jitter": -1}, "jitter=-1 is negative"),
        ({"supersede": 1}, "supersede=1; write True or False."),
        ({"enabled": "no"}, "enabled='no'; write True or False or a function"),
        ({"starts_at": "2026-12-01"}, "write an aware datetime"),
        ({"ends_at": datetime(2026, 12, 1)}, "write an aware datetime"),  # noqa: DTZ001
        ({"starts_at": SOME_DAY, "ends_at": SOME_DAY}, "no slot lies between them"),
        ({"timezone": "UTC"}, "An interval knows no time zone"),
    ],
    ids=str,
)
def test_an_option_of_a_schedule_that_means_nothing_is_refused(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises((InvalidOption, InvalidDuration), match=re.escape(sentence)):
        defer.every("10s", **options)(compute)
    assert len(registry) == 0


@pytest.mark.parametrize(
    ("interval", "sentence"),
    [
        ("0.5s", "interval='0.5s' is too short; write \"1s\" or more."),
        (0, 'write "1s" or more'),
        ("now and then", "is not a duration"),
    ],
)
def test_an_interval_is_a_second_at_least(interval: Any, sentence: str) -> None:
    with pytest.raises(InvalidDuration, match=re.escape(sentence)):
        defer.every(interval)


def test_a_schedule_without_anything_to_repeat_by_says_how_to_write_it() -> None:
    with pytest.raises(InvalidOption, match=re.escape('defer.every(function, "10s")')):
        defer.every(compute)  # type: ignore[call-overload]
    with pytest.raises(InvalidOption, match=re.escape('Write @defer.every("10s") above')):
        defer.every("10s", "20s")  # type: ignore[call-overload]
    with pytest.raises(InvalidOption, match=re.escape('defer.cron(function, "0 8 * * MON")')):
        defer.cron(compute)  # type: ignore[call-overload]


@pytest.mark.parametrize("option", ["catch_up", "overlap", "enabled", "starts_at", "timezone"])
def test_a_background_function_takes_no_option_of_a_schedule(option: str) -> None:
    with pytest.raises(InvalidOption, match=f"{option}= is about a schedule"):
        defer(compute, **{option: None})


def test_enabled_may_be_a_function_that_is_asked_each_time() -> None:
    answers = [True, False]
    options = defer.every(compute, 1, enabled=lambda: answers.pop()).schedule_options
    assert options.is_enabled("k") is False
    assert options.is_enabled("k") is True


@pytest.mark.parametrize("enabled", [lambda: "yes", lambda: 1 / 0, lambda needed: True])
def test_a_function_that_cannot_say_whether_it_is_enabled_is_an_error(enabled: Any) -> None:
    options = defer.every(compute, 1, enabled=enabled).schedule_options
    with pytest.raises(InvalidOption, match="the function given as enabled="):
        options.is_enabled("tests.compute")


# -- renamed_from= ---------------------------------------------------------------------------------


def test_a_function_is_found_by_its_former_keys_too() -> None:
    made = defer(compute, renamed_from="old_name")
    assert made.former_keys == ("tests.old_name",)
    assert registry.find("tests.old_name") is registry.get("tests.old_name") is made
    assert registry.keys() == ["tests.compute", "tests.old_name"]
    assert [*registry] == [made]


def test_it_may_have_had_several_keys() -> None:
    assert defer(compute, renamed_from=["a", "shop.b"]).former_keys == ("tests.a", "shop.b")


@pytest.mark.parametrize("renamed_from", [7, "", ["a", 7]])
def test_a_former_key_is_a_text(renamed_from: Any) -> None:
    with pytest.raises(InvalidOption, match="renamed_from="):
        defer(compute, renamed_from=renamed_from)


def test_a_key_has_one_owner() -> None:
    defer(compute, renamed_from="old")
    with pytest.raises(ImproperlyDeferred, match="but there still is such a function"):
        defer(compute_async, name="old")
    with pytest.raises(ImproperlyDeferred, match=r"but this is that of tests\.compute"):
        defer(compute_async, renamed_from="compute")
    with pytest.raises(ImproperlyDeferred, match=r"but this is that of tests\.compute"):
        defer(compute_async, renamed_from="old")
    with pytest.raises(ImproperlyDeferred, match="but this is its own key"):
        defer(compute_async, renamed_from="compute_async")


# -- name= -----------------------------------------------------------------------------------------


def test_a_plain_name_takes_the_place_of_the_functions() -> None:
    assert defer(compute, name="total").key == "tests.total"


def test_a_dotted_name_is_the_whole_key() -> None:
    assert defer(compute, name="billing.total").key == "billing.total"


@pytest.mark.parametrize("name", ["", ".", "shop.", ".compute", "shop..compute", 5, b"compute"])
def test_a_name_that_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(InvalidOption, match=r'write a text such as "compute" or "shop.compute"'):
        defer(compute, name=name)


def test_a_key_is_as_long_as_its_column_at_most() -> None:
    assert len(defer(compute, name="tests." + "x" * 194).key) == 200
    with pytest.raises(InvalidOption, match="a key has at most 200 characters"):
        defer(compute, name="x" * 195)


# -- schedules -------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", ["0 8 * *", "61 * * * *", "0 0 30 2 *", "", "@reboot", 8])
def test_an_expression_that_cannot_be_used_is_refused(expression: Any) -> None:
    with pytest.raises(InvalidCronExpression):
        defer.cron(expression)(compute)
    assert len(registry) == 0


def test_a_zone_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidCronExpression, match="did you mean 'Europe/Paris'"):
        defer.cron("0 8 * * *", timezone="Europe/Pari")(compute)
    with pytest.raises(InvalidCronExpression, match=r"None.* is not a time zone"):
        defer.cron("0 8 * * *", timezone=None)(compute)


def test_a_plain_call_without_an_expression_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"defer\.cron\(function, .*no expression"):
        defer.cron(compute)  # type: ignore[call-overload]


def test_two_expressions_are_refused() -> None:
    with pytest.raises(InvalidOption, match=r"above the function"):
        defer.cron("0 8 * * *", "0 9 * * *")  # type: ignore[call-overload]


VERBS: dict[str, Callable[[Any], Any]] = {
    "calling nightly()": lambda f: f(),
    ".enqueue()": lambda f: f.enqueue(),
    ".map()": lambda f: f.map([1]),
    ".starmap()": lambda f: f.starmap([(1,)]),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("using", [False, True], ids=["plain", "using"])
def test_a_scheduled_function_is_neither_called_nor_enqueued(verb: str, using: bool) -> None:
    nightly = define("@defer.cron('0 8 * * *', name='sweep')\ndef nightly(): ...").nightly
    with pytest.raises(ScheduledFunctionError) as caught:
        VERBS[verb](nightly.using(priority=1) if using else nightly)
    message = str(caught.value)
    assert message.startswith("shop.sweep is a scheduled function")
    assert f"so {verb} is an error" in message
    assert "nightly.run_now()" in message
    assert "nightly.call()" in message


@pytest.mark.parametrize("verb", ["aenqueue", "amap", "astarmap"])
def test_nor_is_it_enqueued_from_async_code(verb: str) -> None:
    nightly = define("@defer.cron('0 8 * * *')\ndef nightly(): ...").nightly

    async def enqueue() -> None:
        await getattr(nightly, verb)(*([] if verb == "aenqueue" else [[(1,)]]))

    with pytest.raises(ScheduledFunctionError, match=r"nightly\.run_now\(\)"):
        asyncio.run(enqueue())


def test_a_scheduled_function_can_be_run_now_and_called() -> None:
    nightly = define("@defer.cron('0 8 * * *')\ndef nightly(): return 5").nightly
    assert nightly.call() == nightly.using(queue="mail").call() == 5
    assert asyncio.run(nightly.acall()) == 5
    for verb in ("run_now", "arun_now"):
        assert callable(getattr(nightly, verb))
        assert callable(getattr(nightly.using(priority=5), verb))


# -- what is done with a function ------------------------------------------------------------------


def test_options_of_one_enqueue_compose_and_the_later_one_wins() -> None:
    using = defer(compute).using(queue="mail", priority=1).using(priority=2, label="weekly")
    assert using._options == CallOptions(queue="mail", priority=2, label="weekly")
    assert repr(using) == f"<tests.compute using {using._options}>"


def test_options_leave_the_function_they_were_given_to_as_it_was() -> None:
    deferred = defer(compute)
    deferred.using(queue="mail")
    assert deferred._options == CallOptions()


def test_a_function_that_workers_would_not_import_is_not_enqueued() -> None:
    module = define("@defer\ndef compute(): ...", module="tests.testapp.tasks")
    with pytest.raises(NotDiscoverable) as caught:
        module.compute()
    assert "testapp.compute is decorated in tests.testapp.tasks" in str(caught.value)
    assert "Move the function to tests/testapp/defer.py" in str(caught.value)


def test_arguments_are_checked_against_the_signature_when_enqueuing() -> None:
    module = define("@defer\ndef compute(first): ...", module="tests.testapp.defer")
    with pytest.raises(TypeError, match=r"^testapp\.compute\(\) missing a .* argument: 'first'$"):
        module.compute()
    with pytest.raises(TypeError, match="unexpected keyword argument 'secnod'"):
        module.compute.using(priority=1)(1, secnod=2)


IN_EVENT_LOOP: dict[str, Callable[[Any], Any]] = {
    "()": lambda f: f(),
    "using()": lambda f: f.using(priority=1)(),
    "enqueue": lambda f: f.enqueue(),
    "map": lambda f: f.map([1]),
    "starmap": lambda f: f.starmap([(1,)]),
    "run_now": lambda f: f.run_now(),
}


@pytest.mark.parametrize("verb", IN_EVENT_LOOP)
def test_in_a_running_event_loop_the_error_names_a_twin_that_exists(verb: str) -> None:
    deferred = define("@defer\ndef compute(): ...", module="tests.testapp.defer").compute

    async def call() -> None:
        IN_EVENT_LOOP[verb](deferred)

    with pytest.raises(CalledInEventLoop) as caught:
        asyncio.run(call())
    twin = caught.value.twin.strip(".()")
    assert twin == ("aenqueue" if "(" in verb else f"a{verb}")
    assert inspect.iscoroutinefunction(getattr(deferred, twin))
    assert f".{twin}" in str(caught.value)


# -- handles ---------------------------------------------------------------------------------------


def test_a_handle_finds_its_function_when_it_is_used() -> None:
    handle = function("shop.compute")
    assert repr(handle) == "<function shop.compute>"
    made = define("@defer\ndef compute(first): return first").compute
    assert handle.key == "shop.compute"
    assert handle.call(3) == 3
    assert handle.using(queue="mail")._options.queue == "mail"
    assert handle.options is made.options


def test_a_handle_to_nothing_says_so_when_it_is_used() -> None:
    define("@defer\ndef compute(): ...")
    handle = function("shop.compote")
    with pytest.raises(UnknownFunction, match=r"Did you mean 'shop\.compute'"):
        handle()
    with pytest.raises(AttributeError):
        handle.__wrapped__  # noqa: B018


def test_an_error_while_decorating_registers_nothing() -> None:
    with pytest.raises(ImproperlyDeferred):
        defer(lambda: None, name="shop.compute")
    assert "shop.compute" not in registry


def test_a_coroutine_function_can_be_called_here_and_now() -> None:
    assert defer(compute_async).call(2) == 3


# -- the address to ping ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["https://hc-ping.com/7c8d", "http://127.0.0.1:8000/x?a=1", None]
)
def test_an_address_to_ping_is_taken_as_it_is(address: str | None) -> None:
    scheduled = defer.every("1h", ping_url=address)(compute)
    assert scheduled.schedule_options.ping_url == address


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "is no address; write one such as"),
        (17, "is no address"),
        ("hc-ping.com/7c8d-secret", "is no address"),
        ("ftp://hc-ping.com/7c8d-secret", "is no address"),
        ("https:///7c8d-secret", "is no address"),
        ("https://hc-ping.com/7c8d secret", "is no address"),
        ("https://hc-ping.com:x/7c8d-secret", "is no address"),
        ("https://hc-ping.com/7c8d-secret\n", "is no address"),
        ("https://ada:secret@hc-ping.com/7c8d", "has a user name or a # in it"),
        ("https://hc-ping.com/7c8d#secret", "has a user name or a # in it"),
    ],
)
def test_an_address_that_cannot_be_pinged_is_refused_and_not_quoted(
    address: object, says: str
) -> None:
    with pytest.raises(InvalidOption, match=says) as caught:
        defer.every("1h", ping_url=address)(compute)
    assert "secret" not in str(caught.value)


def test_only_a_scheduled_function_is_pinged() -> None:
    with pytest.raises(InvalidOption, match="ping_url= is about a schedule"):
        defer(compute, ping_url="https://hc-ping.com/7c8d")
