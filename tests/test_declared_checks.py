"""What a declaration may say of its checks, and what is refused with which words."""

import re
from dataclasses import replace

import pytest
from dagster_world import registry, table

from feature_store import Check, FeatureService, Registry
from feature_store.declare.check import declared_check
from feature_store.errors import DeclarationError


def with_checks(where, checks, **more):
    """The rides, where the source, a view or the service has these checks."""
    hourly, _ = registry(table).views
    if where == "source":
        hourly = replace(hourly, source=replace(hourly.source, checks=checks, **more))
    elif where == "view":
        hourly = replace(hourly, checks=checks, **more)
    service = FeatureService("pricing", features=[hourly], checks=checks if where == "service" else {})
    return Registry(views=[hourly], services=[service])


def test_a_number_a_mapping_and_none_are_short_for_a_check():
    checks = {"volume": 8, "missing_rate": {"fare": 0.1, "city": None}, "categories": None}

    assert declared_check(checks, "volume") == Check(limit=8)
    assert declared_check(checks, "missing_rate") == Check(by={"fare": 0.1, "city": None})
    assert declared_check(checks, "categories") is None
    assert declared_check(checks, "range") == Check()
    assert declared_check({}, "drift", {"fare": 1.0}) == Check(by={"fare": 1.0})


def test_every_form_is_accepted_where_it_means_something():
    with_checks(
        "source", {"range": {"fare": (0, None)}, "categories": {"city": {"york"}}, "schema": Check(blocking=False)}
    )
    with_checks("view", {"drift": {"count_1h": ("psi", 0.2)}, "freshness": Check(severity="warn"), "range": None})
    with_checks("service", {"drift": Check(limit=0.3, days=7), "default_value_rate": {"hourly:count_1h": 0.2}})


@pytest.mark.parametrize(
    ("where", "checks", "said"),
    [
        ("source", {"volumes": 3}, "source 'rides': unknown check 'volumes'"),
        ("view", {"volume": 3}, "view 'hourly': unknown check 'volume'"),
        ("service", {"missing_rate": 0.1}, "service 'pricing': unknown check 'missing_rate'"),
        ("source", {"volume": -1}, "check 'volume': `limit` must be a number that is not negative, got -1"),
        ("source", {"volume": {"fare": 1}}, "check 'volume': `by` is not for this check, which looks at the whole, got ['fare']"),
        ("source", {"schema": 0.1}, "check 'schema': `limit` is not for this check, whose demand is exact or declared elsewhere, got 0.1"),
        ("source", {"missing_rate": {"fair": 0.1}}, "check 'missing_rate': unknown column or feature 'fair'"),
        ("source", {"missing_rate": {"fare": "few"}}, "check 'missing_rate': the limit of 'fare' must be a number that is not negative, got 'few'"),
        ("source", {"range": {"fare": (9, 1)}}, "check 'range': 'fare' must be (lowest, highest) in this order, got (9, 1)"),
        ("source", {"range": {"fare": 9}}, "check 'range': 'fare' must be (lowest, highest), either of them None for no bound, got 9"),
        ("source", {"range": {"fare": ("a", 1)}}, "check 'range': 'fare' must be (lowest, highest) as numbers, got ('a', 1)"),
        ("source", {"categories": {"city": "york"}}, "check 'categories': 'city' must have the values that there may be, as a set of texts, got 'york'"),
        ("view", {"drift": {"count_1h": ("psi",)}}, "check 'drift': 'count_1h' must be a limit, or (method, limit) with a method of wasserstein, jensenshannon, psi, kl_div, hellinger, got ('psi',)"),
        ("view", {"drift": {"count_1h": ("ks", 0.1)}}, "hellinger, got ('ks', 0.1)"),
        ("view", {"drift": Check(severity="fatal")}, "check 'drift': `severity` must be 'error' or 'warn', got 'fatal'"),
        ("view", {"drift": Check(severity="warn", blocking=True)}, "check 'drift': `blocking` needs severity='error': a warning stops nothing"),
        ("view", {"drift": Check(days=0)}, "check 'drift': `days` must be a whole number of at least 1, got 0"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_name(where, checks, said):
    with pytest.raises(DeclarationError, match=re.escape(said)):
        with_checks(where, checks)


@pytest.mark.parametrize(
    ("where", "named", "check", "needs"),
    [
        ("source", "source 'rides'", "schema", "load"),
        ("source", "source 'rides'", "dead_letters", "log"),
        ("view", "view 'hourly'", "freshness", "online"),
        ("view", "view 'hourly'", "online_parity", "online"),
    ],
)
def test_a_check_that_nothing_could_ever_evaluate_is_refused_unless_it_is_left_out(where, named, check, needs):
    with pytest.raises(DeclarationError, match=f"{named}: check '{check}' needs `{needs}`, which is None"):
        with_checks(where, {check: Check(severity="warn")}, **{needs: None})
    with_checks(where, {check: None}, **{needs: None})


def test_drift_is_said_once():
    with pytest.raises(DeclarationError, match="view 'hourly': `drift` stands twice"):
        with_checks("view", {"drift": 0.2}, drift={"count_1h": 0.3})
    with pytest.raises(DeclarationError, match="view 'hourly': `drift`: unknown column or feature 'count_2h'"):
        with_checks("view", {}, drift={"count_2h": 0.3})
