"""`sensitive=`: hidden from whoever looks, in arguments, errors, log lines and signals alike."""

from __future__ import annotations

import json
import logging
import re
import signal
import time
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import UUID

import pytest
from django.db import transaction

from django_defer import (
    Cancel,
    InvalidOption,
    PayloadTooLarge,
    Retry,
    RunAborted,
    UnserializableValue,
)
from django_defer.admin.data import show_arguments
from django_defer.attempt_events import report_after_commit
from django_defer.connections import Freshness
from django_defer.executor import Executor
from django_defer.failures import MAX_TRACEBACK, describe
from django_defer.interrupts import Interrupts
from django_defer.models import BackgroundFunction, Run
from django_defer.payload_display import display
from django_defer.redaction import hidden_arguments, hide, hider
from django_defer.registry import registry
from django_defer.sensitive import MARK, MASK
from django_defer.signals import run_failed
from django_defer.states import Outcome, State
from django_defer.sync import sync
from django_defer.testing import drain
from tests import runs
from tests.admin_rows import HOSTILE, call, log_in_with, make_run
from tests.runs import claim_for, fresh, new_cluster, start
from tests.scratch import define as define_source
from tests.scratch import own_registry
from tests.testapp.models import Customer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.test import Client

    from tests.runs import Define

pytestmark = runs.in_transaction

LIST = "/admin/django_defer/run/"
SECRET = "hunter2-Straße/ž\\ç'\"\n-----BEGIN KEY-----\n4242"
LONG = "sk_live_" + "0123456789abcdef" * 8


def pay(order: int, token: str = "", *rest: Any, **more: Any) -> None:
    """Take all kinds of arguments."""


def shown(run: Run) -> str:
    """Return what the run's page shows of its arguments, as lines."""
    return show_arguments(fresh(run))


@pytest.fixture
def errors() -> Iterator[list[str]]:
    told: list[str] = []

    def receive(sender: object, event: Any, **kwargs: object) -> None:
        told.append(event.error)

    run_failed.connect(receive)
    yield told
    run_failed.disconnect(receive)


# -- the option ------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["token", ("token",), ["token"], ("token", "token")])
def test_names_are_a_text_or_a_list_of_texts(define: Define, names: Any) -> None:
    assert define(pay, sensitive=names).sensitive == ("token",)


@pytest.mark.parametrize("names", [None, 1, True, {"token"}, (1,), ("",), "", b"token"])
def test_anything_else_is_refused(define: Define, names: Any) -> None:
    with pytest.raises(InvalidOption, match='write the name of a parameter, such as "token"'):
        define(pay, sensitive=names)


def test_a_name_that_is_no_parameter_is_refused_at_decoration() -> None:
    says = "shop.charge: sensitive= names `tokn`, which is no parameter of it. Known: `token`."
    with own_registry():
        for source in (
            "@defer(sensitive='tokn')\ndef charge(token): ...",
            "@defer.cron('0 8 * * *', sensitive='tokn')\ndef charge(token=''): ...",
            "@defer.every('1h', sensitive='tokn')\ndef charge(token=''): ...",
        ):
            with pytest.raises(InvalidOption, match=re.escape(says)):
                define_source(source)
        assert len(registry) == 0
        define_source("@defer(sensitive='tokn')\ndef charge(**more): ...")
        define_source("@defer.cron('0 8 * * *', sensitive='token')\ndef daily(token='x'): ...")
        assert len(registry) == 2
    with pytest.raises(InvalidOption, match="Known: none"):
        define_source("@defer(sensitive='tokn')\ndef charge(): ...")


# -- arguments that are shown ----------------------------------------------------------------------


def test_a_sensitive_argument_is_hidden_however_it_was_passed(define: Define) -> None:
    charge = define(pay, sensitive="token")
    assert shown(charge(17, SECRET)) == f"order = 17\ntoken = {MASK}"
    assert shown(charge(17, token=SECRET)) == f"order = 17\ntoken = {MASK}"
    assert shown(charge(17, SECRET, "a", b=1)) == (f"order = 17\ntoken = {MASK}\n[2] = 'a'\nb = 1")
    assert shown(charge(17)) == "order = 17"


def test_stars_stand_for_all_that_they_take(define: Define) -> None:
    charge = define(pay, sensitive=("rest", "more"))
    assert charge.sensitive == ("*rest", "**more")
    assert shown(charge(17, "t", "a", "b", c="c")) == (
        f"order = 17\ntoken = 't'\n[2] = {MASK}\n[3] = {MASK}\nc = {MASK}"
    )
    registry.remove("defined.pay")
    charge = define(pay, sensitive=("card",))
    assert shown(charge(17, card="4242", cards=1)) == f"order = 17\ncard = {MASK}\ncards = 1"


def test_keyword_only_and_positional_only_parameters_are_told_apart(define: Define) -> None:
    def login(user: str, /, *args: str, token: str = "", **more: str) -> None: ...

    run = define(login, sensitive=("token",))("ada", "second", token="t", user="x")
    assert hidden_arguments(run) == {"token"}
    registry.remove("defined.login")
    run = define(login, sensitive=("user",))("ada", "second", token="t", user="x")
    assert hidden_arguments(run) == {0, "user"}  # a second user is better hidden than shown


@pytest.mark.parametrize(
    "value", [[SECRET], {"a": SECRET}, (SECRET,), {SECRET}, b"hunter2", Decimal("4242.1"), HOSTILE]
)
def test_a_value_of_any_kind_is_hidden_as_a_whole(define: Define, value: Any) -> None:
    run = define(pay, sensitive="token")(17, value)
    assert shown(run) == f"order = 17\ntoken = {MASK}"
    text = display(run.args, parameter_names=("order", "token"), hidden=hidden_arguments(run))
    assert text == f"order=17, token={MASK}"


def test_the_worker_gets_what_was_passed(define: Define) -> None:
    def echo(token: str) -> str:
        return token

    run = define(echo, sensitive="token")(SECRET)
    assert drain().succeeded == 1
    assert fresh(run).get_result() == SECRET
    assert fresh(run).rerun().args == run.args


def test_a_function_without_sensitive_parameters_stores_what_it_did(define: Define) -> None:
    assert define(pay)(17).args == {"args": [17], "kwargs": {}}


# -- without the code, or with other code ----------------------------------------------------------


def test_without_the_code_it_stays_hidden(define: Define) -> None:
    run = define(pay, sensitive=("token", "more"))(17, SECRET, "a", b=SECRET)
    registry.remove("defined.pay")
    assert shown(run) == f"[0] = 17\n[1] = {MASK}\n[2] = 'a'\nb = {MASK}"


def test_with_other_parameters_it_stays_hidden(define: Define) -> None:
    run = define(pay, sensitive="token")(17, SECRET)

    def moved(token: str, order: int, extra: str = "") -> None: ...

    registry.remove("defined.pay")
    moved.__name__ = "pay"
    define(moved, sensitive="token")
    assert shown(run) == f"token = {MASK}\norder = {MASK}"  # what either code hides
    registry.remove("defined.pay")
    define(pay)
    assert shown(run) == f"order = 17\ntoken = {MASK}"


def test_a_run_from_before_the_option_is_hidden_by_the_code(define: Define) -> None:
    run = define(pay)(17, SECRET)
    assert "hunter2" in shown(run)
    registry.remove("defined.pay")
    define(pay, sensitive="token")
    assert shown(run) == f"order = 17\ntoken = {MASK}"


@pytest.fixture
def _synced() -> None:
    """Rows of a function whose code is not here."""
    with own_registry():
        define_source("@defer(sensitive=('token', 'more'))\ndef pay(order, token, **more): ...")
        sync()
    assert BackgroundFunction.objects.get(key="shop.pay").options["sensitive"] == [
        "token",
        "**more",
    ]


@pytest.mark.usefixtures("_synced")
def test_a_run_from_before_the_option_is_hidden_by_the_row() -> None:
    run = make_run(function_id="shop.pay", args=call(17, SECRET, order=1, token=SECRET, b="b"))
    assert set(shown(run).split("\n")) == {
        f"{name} = {MASK}" for name in ("[0]", "[1]", "order", "token", "b")
    }
    BackgroundFunction.objects.update(options={"sensitive": ["token"]})
    assert set(
        shown(make_run(function_id="shop.pay", args=call(order=1, token=SECRET))).split("\n")
    ) == {
        "order = 1",
        f"token = {MASK}",
    }


def test_a_function_that_nobody_knows_has_nothing_to_hide() -> None:
    assert shown(make_run(function_id="shop.gone", args=call(17, a="b"))) == "[0] = 17\na = 'b'"


@pytest.mark.usefixtures("_synced")
@pytest.mark.parametrize(
    "args", ["hunter2", ["hunter2"], {"args": "hunter2"}, {"token": "hunter2"}]
)
def test_what_is_no_stored_call_is_hidden_as_a_whole(args: Any) -> None:
    assert shown(make_run(function_id="shop.pay", args=args)) == MASK


@pytest.mark.parametrize("mark", [None, [], "text", {"names": "token"}, {"at": [1]}])
def test_a_mark_that_cannot_be_read_hides_everything(mark: Any) -> None:
    run = make_run(function_id="shop.gone", args={**call(17, a="b"), MARK: mark})
    assert shown(run) == f"[0] = {MASK}\na = {MASK}"


@pytest.mark.parametrize("options", [[], None, "token", {"sensitive": "token"}, {"sensitive": 1}])
def test_a_row_edited_by_hand_is_no_error(options: Any) -> None:
    BackgroundFunction.objects.create(key="shop.gone", options=options or {})
    assert shown(make_run(function_id="shop.gone", args=call(17))) == "[0] = 17"


# -- pages -----------------------------------------------------------------------------------------


def test_nobody_sees_it_whatever_they_may(admin_client: Client, define: Define) -> None:
    run = define(pay, sensitive="token")(17, "hunter2")
    page = admin_client.get(f"{LIST}{run.pk}/change/").content.decode()
    assert f"token = {MASK}" in page
    assert "order = 17" in page
    assert "hunter2" not in page


def test_a_person_with_the_permission_for_data_does_not_either(
    client: Client, define: Define
) -> None:
    log_in_with(client, "view_run", "view_run_data")
    run = define(pay, sensitive="token")(17, HOSTILE, **{HOSTILE: HOSTILE})
    page = client.get(f"{LIST}{run.pk}/change/").content.decode()
    assert f"token = {MASK}" in page
    assert "<script>alert" not in page
    assert client.get(LIST, {"q": "hunter2"}).context["cl"].result_count == 0


# -- errors about arguments ------------------------------------------------------------------------


def test_an_argument_that_cannot_be_stored_is_named_without_its_keys(define: Define) -> None:
    charge = define(pay, sensitive=("token", "rest", "more"))
    for args, kwargs, name in (
        ((17, {"hunter2": object()}), {}, "token"),
        ((17, {"hun`ter2": [object()]}), {}, "token"),
        ((17, "", "a", [{"hunter2": object()}]), {}, "args[3]"),
        ((17,), {"card": {"hunter2": object()}}, "card"),
        ((17, object()), {}, "token"),
    ):
        with pytest.raises(UnserializableValue) as caught:
            charge(*args, **kwargs)
        assert "ter2" not in str(caught.value)
        assert caught.value.where == f"argument `{name}` of defined.pay"
        assert str(caught.value).startswith(f"argument `{name}` of defined.pay is of type builtins")


def test_other_arguments_are_named_as_before(define: Define) -> None:
    with pytest.raises(UnserializableValue, match=r"argument `order\.a\[0\]` of defined"):
        define(pay, sensitive="token")({"a": [object()]})


def test_what_is_too_large_is_not_quoted(define: Define) -> None:
    with runs.defer_settings(MAX_ARGS_BYTES=100), pytest.raises(PayloadTooLarge) as caught:
        define(pay, sensitive="token")(17, LONG)
    assert "sk_live" not in str(caught.value)


def test_a_call_that_does_not_fit_is_not_quoted(define: Define) -> None:
    def charge(token: str = LONG) -> None: ...

    deferred = define(charge, sensitive="token")
    with pytest.raises(TypeError) as caught:
        deferred(SECRET, SECRET)
    assert "hunter2" not in str(caught.value)
    run = deferred()
    Run.objects.filter(pk=run.pk).update(args=call("hunter2", "hunter2", n="hunter2"))
    assert drain().failed == 1
    attempt = fresh(run).attempts[-1]
    assert f"defined.charge(token: 'str' = {MASK}) -> 'None'" in attempt.error_message
    for text in (attempt.error_message, attempt.traceback):
        assert "hunter2" not in text
        assert "sk_live" not in text


# -- errors of the function ------------------------------------------------------------------------


def fail_with(define: Define, error: Any, *args: Any, **kwargs: Any) -> Run:
    """Execute a function that raises what `error(token)` makes."""

    def charge(order: int, token: Any, **more: Any) -> None:
        raise error(token)

    run = define(charge, sensitive="token", retry=False)(*args, **kwargs)
    drain()
    return fresh(run)


def texts_of(run: Run) -> str:
    """Return all that is kept of a run's errors."""
    kept = [run.error_message, run.reason]
    for attempt in run.attempts:
        kept += [attempt.error_message, attempt.traceback, attempt.error_class]
    return "\n".join(kept)


def test_an_error_that_quotes_it_is_kept_with_a_mask(
    define: Define, errors: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "django_defer")
    run = fail_with(define, lambda token: ValueError(f"no {token} for 17"), 17, "hunter2")
    assert run.state == State.FAILED
    assert run.error_message == f"no {MASK} for 17"
    assert f"ValueError: no {MASK} for 17" in run.attempts[-1].traceback
    assert "raise error(token)" in run.attempts[-1].traceback
    assert "hunter2" not in texts_of(run)
    assert errors == [f"ValueError: no {MASK} for 17"]
    assert "hunter2" not in caplog.text
    assert MASK in caplog.text


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        HOSTILE,
        LONG,
        b"hunter2\xff",
        424242,
        42.4242,
        Decimal("4242.10"),
        UUID(int=7),
        date(2001, 12, 31),
        ["hunter2", {"pin": 4242}],
        {"card": {"number": "4242 4242"}, 1: ("tuple",)},
        "has\x00nul and \ud800 half",
        float("1e300"),
        10**30,
    ],
    ids=lambda value: ascii(value)[:30],
)
@pytest.mark.parametrize("how", [str, repr], ids=["str", "repr"])
def test_a_value_of_any_kind_is_recognised(define: Define, value: Any, how: Any) -> None:
    leaves: list[Any] = []

    def error(token: Any) -> Exception:
        left = [token]
        while left:
            item = left.pop()
            if isinstance(item, (dict, list, tuple)):
                left += item.values() if isinstance(item, dict) else item
            else:
                leaves.append(item)
        return ValueError(" | ".join(map(how, leaves)))

    run = fail_with(define, error, 17, value)
    assert MASK in run.error_message
    left = re.sub(rf"{MASK}|[^\w<>]", "", run.error_message)
    assert left in ("", "b", "n", "UUID", "Decimal", "datetimedate") or not left.strip("b"), left
    assert "hunter2" not in texts_of(run)


def test_text_is_recognised_in_json_in_addresses_and_line_by_line(define: Define) -> None:
    def error(token: str) -> Exception:
        forms = [json.dumps({"t": token}), f"https://a/?t={quote(token)}", quote(token, safe="")]
        return ExceptionGroup(" ".join(forms), [ValueError(token)])

    run = fail_with(define, error, 17, SECRET)
    for piece in ("hunter2", "BEGIN", "4242"):
        assert piece not in texts_of(run)
    assert f"https://a/?t={MASK} {MASK}" in run.error_message


def test_a_text_that_is_quoted_in_part_is_recognised_by_its_beginning(define: Define) -> None:
    run = fail_with(define, lambda token: ValueError(f"{token[:40]}…, {token[8:]}"), 17, LONG)
    assert run.error_message.startswith(f"{MASK}…, ")


def test_what_the_end_of_a_long_traceback_would_leave_is_masked_first(define: Define) -> None:
    filler = "x" * (MAX_TRACEBACK - 20)
    run = fail_with(define, lambda token: ValueError(f"{token}{filler}"), 17, LONG)
    assert run.error_message.startswith(MASK)
    assert "cdef" not in texts_of(run)


def test_causes_and_notes_are_masked_too(define: Define) -> None:
    def error(token: str) -> Exception:
        made = ValueError("outer")
        made.__cause__ = KeyError(token)
        made.add_note(f"was {token}")
        return made

    run = fail_with(define, error, 17, "hunter2")
    assert "hunter2" not in texts_of(run)
    assert f"KeyError: '{MASK}'" in run.attempts[-1].traceback
    assert f"was {MASK}" in run.attempts[-1].traceback


@pytest.mark.parametrize("value", ["abc", 123, "   ", "    \n    ", None, True, ""])
def test_what_is_short_or_says_nothing_is_left_in_place(define: Define, value: Any) -> None:
    run = fail_with(define, lambda token: ValueError(f"a{token}b None True"), 17, value)
    assert MASK not in texts_of(run)
    assert "\n    raise error(token)" in run.attempts[-1].traceback


def test_other_arguments_are_not_masked(define: Define) -> None:
    run = fail_with(define, lambda token: ValueError("order 170017"), 170017, "hunter2")
    assert run.error_message == "order 170017"


def test_keys_are_not_values(define: Define) -> None:
    run = fail_with(define, lambda token: KeyError("password"), 17, {"password": "hunter2"})
    assert run.error_message == "'password'"


@pytest.mark.parametrize(
    ("kind", "state"),
    [(Cancel, State.CANCELLED), (RunAborted, State.ABORTED), (Retry, State.FAILED)],
)
def test_however_the_attempt_ends(
    define: Define, caplog: pytest.LogCaptureFixture, kind: Any, state: State
) -> None:
    caplog.set_level(logging.DEBUG, "django_defer")
    run = fail_with(define, lambda token: kind(f"not with {token}"), 17, "hunter2")
    assert run.state == state
    assert run.error_message == f"not with {MASK}"
    assert "hunter2" not in texts_of(run)
    assert "hunter2" not in caplog.text


def test_a_model_instance_is_known_by_its_key_and_is_not_loaded(define: Define) -> None:
    customer = Customer.objects.create(pk=987654, name="Ada")
    run = fail_with(define, lambda token: ValueError(f"no {token.pk} {token.name}"), 17, customer)
    assert run.error_message == f"no {MASK} Ada"
    customer.delete()
    with runs.captured() as queries:
        assert hider("defined.charge", run.args) is not None
    assert len(queries) == 0


def test_a_reference_that_is_gone_is_masked_too(define: Define) -> None:
    customer = Customer.objects.create(pk=987654, name="Ada")
    run = define(pay, sensitive="token")(17, customer)
    customer.delete()
    assert drain().failed == 1
    assert "no longer exists" in fresh(run).error_message
    assert "987654" not in texts_of(fresh(run))


def test_a_payload_that_cannot_be_read_is_not_quoted(define: Define) -> None:
    run = define(pay, sensitive="token")(17, "x")
    broken = {**run.args, "args": [17, {"$decimal": LONG}]}
    Run.objects.filter(pk=run.pk).update(args=broken)
    assert drain().failed == 1
    assert "sk_live" not in texts_of(fresh(run))
    assert "cannot be read" in fresh(run).error_message


def test_a_hook_after_the_commit_is_logged_with_a_mask(
    define: Define, caplog: pytest.LogCaptureFixture
) -> None:
    run = define(pay, sensitive="token")(17, "hunter2")
    ((_, _claim),) = claim_for(new_cluster(), keys=("defined.pay",))
    started = start(fresh(run))
    error = ValueError("no hunter2")
    hides = hider(started.function, started.args)
    report_after_commit(started, error, describe(error, hides))
    assert "hunter2" not in caplog.text
    assert f"ValueError: no {MASK}" in caplog.text
    assert caplog.records[-1].exc_info is None
    report_after_commit(started, error)
    assert "no hunter2" in caplog.text


@runs.committing
def test_the_executor_logs_the_failure_of_a_hook_so(
    define: Define, caplog: pytest.LogCaptureFixture
) -> None:
    def charge(token: str) -> None:
        def hook() -> None:
            raise ValueError(f"no {token}")

        transaction.on_commit(hook, using=runs.DATABASE)

    run = define(charge, sensitive="token", atomic=True)("hunter2")
    ((_, mine),) = claim_for(new_cluster(), keys=("defined.charge",))
    before = signal.getsignal(signal.SIGALRM)
    try:
        Executor(
            using=runs.DATABASE,
            worker="0.1",
            inbox=None,
            board=None,
            interrupts=Interrupts(),
            freshness=Freshness(),
        ).execute(mine)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert fresh(run).state == State.SUCCEEDED
    assert "run.hook_failed" in caplog.text
    assert f"ValueError: no {MASK}" in caplog.text
    assert "hunter2" not in caplog.text


def test_hiding_many_values_takes_a_moment(define: Define) -> None:
    run = define(pay, sensitive="token")(17, [f"value {n}" for n in range(5000)])
    masked = hider("defined.pay", run.args)
    assert masked is not None
    began = time.process_time()
    assert masked("nothing of it, but value 4999 " * 500).count(MASK) == 500
    assert time.process_time() - began < 5


@pytest.mark.parametrize("stored", [None, [], "text", {}, {"args": 1, "kwargs": 1, MARK: 1}])
def test_a_row_edited_by_hand_has_nothing_to_hide(define: Define, stored: Any) -> None:
    define(pay, sensitive="token")
    assert hider("defined.pay", stored) is None


def test_a_broken_leaf_is_hidden_as_it_is_stored(define: Define) -> None:
    define(pay, sensitive="token")
    for data in ({"$bytes": "%%%%no base64"}, {"$dict": [1, [], ["a", "hunter2"]]}, {"$model": 1}):
        masked = hider("defined.pay", {"args": [1, data], "kwargs": {}})
        assert masked is not None
        for text in ("%%%%no base64", "hunter2"):
            if text in str(data):
                assert masked(text) == MASK


def test_a_mask_is_put_over_the_longest_value_first() -> None:
    assert hide("abcdefgh abcd", ["abcdefgh", "abcd"]) == f"{MASK} {MASK}"
    assert hide("nothing", ["abcd"]) == "nothing"
    assert hide("", ["abcd"]) == hide("", []) == ""
    value = "0123456789abcdefXYZ"
    assert hide(f"<{value[:16]}", [value]) == f"<{MASK}"
    assert hide(f"<{value[:17]}!{value}>", [value]) == f"<{MASK}!{MASK}>"
    assert hide(value[:15], [value]) == value[:15]


def test_outcomes_stay_what_they_are(define: Define) -> None:
    run = fail_with(define, lambda token: ValueError(token), 17, "hunter2")
    assert run.attempts[-1].outcome == Outcome.FAILED
    assert run.error_class == "ValueError"
