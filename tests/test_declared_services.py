"""What a service may say of the values that it serves instead of others, and every way in which it may be wrong."""

import math
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from demanded import share, spending, times_usual

from feature_store import (
    DeclarationError,
    FeatureService,
    FeatureView,
    InputError,
    Registry,
    UnknownNameError,
    agg,
    ratio,
)
from feature_store.declare.service import defaults_of
from feature_store.history.answers import Answer, with_defaults
from feature_store.online.layout import service_layout, view_layout
from feature_store.reader.plan import plan_read
from feature_store.status import Status
from feature_store.transforms.compiled import compile_registry

COUNT = "spending:count_1h"


def refused(*features, views=(spending,), **options):
    """What compiling a service says."""
    with pytest.raises(DeclarationError) as error:
        compile_registry(Registry(views=views, services=[FeatureService("s", features=features, **options)]))
    return list(error.value.problems)


@pytest.mark.parametrize(
    ("feature", "default", "said"),
    [
        (spending["count_1h"], 0.5, "must be an integer of 64 bits, got 0.5"),
        (spending["count_1h"], 7.0, "must be an integer of 64 bits, got 7.0"),
        (spending["count_1h"], True, "must be an integer of 64 bits, got True"),
        (spending["count_1h"], 2**63, "must be an integer of 64 bits, got 9223372036854775808"),
        (spending["amount_mean_24h"], "n/a", "must be a number, got 'n/a'"),
        (spending["amount_mean_24h"], True, "must be a number, got True"),
        (spending["amount_mean_24h"], 2**60 + 1, "must be a number, got 1152921504606846977"),
        (spending["amount_mean_24h"], math.nan, "must be a number, got nan"),
        (spending["amount_mean_24h"], math.inf, "must be a number, got inf"),
        (spending["amount_mean_24h"], np.float64(1), "must be a number, got np.float64(1.0)"),
        (spending["home_last"], 1, "must be a boolean, got 1"),
        (spending["merchant_last"], 1, "must be text, got 1"),
        (spending["paid_at_last"], datetime(2024, 1, 1, tzinfo=UTC), "must be None for timestamp, got datetime.datetime"),
        (spending["last_day"], 0, "must be None for date, got 0"),
        (spending["amount_last_3_24h"], "abc", "must be None for list of float, got 'abc'"),
        (share, "n/a", "must be a number, got 'n/a'"),
        (times_usual, "n/a", "must be a number, got 'n/a'"),
    ],
)  # fmt: skip
def test_a_default_that_is_no_value_of_its_feature_is_refused(feature, default, said):
    name = feature.name
    [problem] = refused(feature, defaults={name: default})

    assert problem.startswith(f"service 's': the default of '{name}' {said}")


@pytest.mark.parametrize(
    ("feature", "default"),
    [
        (spending["count_1h"], -1),
        (spending["amount_mean_24h"], 3),
        (spending["amount_mean_24h"], 0.5),
        (spending["home_last"], False),
        (spending["merchant_last"], "none"),
        (spending["paid_at_last"], None),
        (spending["amount_last_3_24h"], None),
        (share, -1),
    ],
)
def test_a_default_that_is_a_value_of_its_feature_is_taken(feature, default):
    service = FeatureService("s", features=[feature], defaults={feature.name: default})

    assert compile_registry(Registry(views=[spending], services=[service]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"on_stale": "Fail"}, "service 's': `on_stale` must be 'serve', 'default' or 'fail', got 'Fail'"),
        ({"on_ahead": "refuse"}, "service 's': `on_ahead` must be 'serve', 'default' or 'fail', got 'refuse'"),
        ({"on_ahead": None}, "service 's': `on_ahead` must be 'serve', 'default' or 'fail', got None"),
    ],
)
def test_a_policy_that_there_is_not_is_refused(options, said):
    assert refused(spending, **options) == [said]


def test_a_service_of_nothing_is_refused():
    assert refused() == ["service 's' has no feature"]


@pytest.mark.parametrize("empty", ["n/a", True, math.inf])
def test_what_a_ratio_is_without_a_quotient_is_a_number(empty):
    with pytest.raises(InputError, match="ratio 'share': `empty` must be a number, got"):
        ratio("share", COUNT, "spending:count_24h", empty=empty)


@pytest.mark.parametrize(
    ("default", "kind"),
    [(0.5, pa.int64()), (True, pa.float64()), (2**70, pa.int64()), (5, pa.timestamp("us", "UTC")), ("ab", pa.list_(pa.string()))],
)  # fmt: skip
def test_a_training_set_never_makes_another_value_of_a_default(default, kind):
    unknown = Answer(column=pa.nulls(1, kind), status=np.array([Status.UNKNOWN], np.int8))

    with pytest.raises(InputError, match=f"the default of 'a:b' must be {str(kind)[:4]}"):
        with_defaults(unknown, default=default, on_stale="serve", on_ahead="serve", name="a:b")


@pytest.mark.parametrize(
    ("defaults", "served"),
    [
        ({COUNT: 1}, (1, None)),
        ({"spending@2:count_1h": 2}, (None, 2)),
        ({"spending@1:count_1h": 3}, (3, None)),
        ({COUNT: 1, "spending@2:count_1h": 2}, (1, 2)),
    ],
)
def test_two_versions_of_a_view_have_the_same_defaults_in_training_and_in_serving(defaults, served):
    newer = FeatureView(
        "spending", version=2, entity=spending.entity, source=spending.source, features=[agg.count(over="1h")]
    )
    service = FeatureService("s", features=[spending["count_1h"], newer["count_1h"]], defaults=defaults)
    compiled = compile_registry(Registry(views=[spending, newer], services=[service]))
    layouts = {plan.view.id: view_layout(plan) for plan in compiled.plans.values()}

    plan = plan_read("test", service_layout(service, compiled.registry), layouts)

    assert tuple(defaults_of(service, compiled.registry.resolve(service))) == plan.defaults == served


def test_an_unknown_service_lists_each_name_once():
    registry = Registry(
        views=[spending], services=[FeatureService("plain", version=v, features=[spending]) for v in (1, 2)]
    )

    with pytest.raises(UnknownNameError, match=r"unknown service 'plane'; did you mean 'plain'\? \(known: plain\)"):
        registry.service("plane")
