"""Settings are read when they are needed, and follow every change."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.test import override_settings

from django_defer.conf import DEFAULTS, Conf, conf, unknown_keys


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_setting_that_is_not_given_has_its_default(name: str) -> None:
    with override_settings(DEFER={}):
        assert getattr(conf, name.lower()) == DEFAULTS[name]


def test_no_setting_is_needed_at_all() -> None:
    with override_settings():
        if hasattr(settings, "DEFER"):
            del settings.DEFER
        conf.reset()
        assert conf.values == DEFAULTS
    conf.reset()


def test_it_follows_override_settings_also_nested_and_back() -> None:
    with override_settings(DEFER={"WORKERS": 5}):
        assert conf.workers == 5
        with override_settings(DEFER={"LEASE": "1m"}):
            assert (conf.workers, conf.lease) == (DEFAULTS["WORKERS"], "1m")
        assert conf.workers == 5
    assert conf.workers == {**DEFAULTS, **getattr(settings, "DEFER", {})}["WORKERS"]


def test_a_change_of_another_setting_does_not_make_it_read_again() -> None:
    own = Conf()
    before = own.values
    own.reset(setting="DEBUG")
    assert own.values is before
    own.reset(setting="DEFER")
    assert own.values is not before


def test_reading_changes_neither_the_settings_nor_the_defaults() -> None:
    given = {"WORKERS": 5}
    with override_settings(DEFER=given):
        assert conf.values is not given
    assert given == {"WORKERS": 5}
    assert DEFAULTS["WORKERS"] == 2


def test_a_setting_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no setting 'WROKERS'"):
        _ = conf.wrokers


def test_keys_that_mean_nothing_are_listed() -> None:
    with override_settings(DEFER={"WROKERS": 5, "workers": 5, "WORKERS": 5, 7: 7}):
        assert unknown_keys() == [7, "WROKERS", "workers"]
    with override_settings(DEFER={}):
        assert unknown_keys() == []
