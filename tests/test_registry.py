"""What a registry refuses, and what is meant where nothing is declared."""

from datetime import timedelta

import pytest
import shop

from feature_store import DeclarationError, FeatureView, Registry, agg
from feature_store.time_rule import HOUR_US, MINUTE_US, SECOND_US


def spending(**options):
    return FeatureView(
        "spending", entity=shop.customer, source=shop.payments, features=[agg.count(over="7d")], **options
    )


@pytest.mark.parametrize(
    ("options", "sla_us"),
    [
        ({}, 5 * MINUTE_US),
        ({"online": None, "every": "1h"}, 5 * MINUTE_US),
        ({"online": "batch"}, 36 * HOUR_US),
        ({"online": "batch", "every": timedelta(hours=1)}, 90 * MINUTE_US),
        ({"online": "batch", "every": "1m"}, 6 * MINUTE_US),
        ({"online": "batch", "freshness_sla": "1d"}, 24 * HOUR_US),
        ({"freshness_sla": "1s", "every": "1d"}, SECOND_US),
    ],
)
def test_a_batch_view_is_fresh_for_as_long_as_its_rows_may_be_the_newest(options, sla_us):
    [view] = Registry(views=[spending(**options)]).views

    assert view.freshness_sla_us == sla_us


@pytest.mark.parametrize(
    ("options", "problems"),
    [
        ({"every": "1d", "freshness_sla": "5m"}, ["`freshness_sla` must be at least `every`, 1d, in which a batch view publishes once, got 5m"]),
        ({"every": "7h"}, ["`every` must divide a day, got 7h"]),
        ({"every": "soon"}, ["`every` must be a positive duration in whole seconds such as '30s' or '7d', got 'soon'"]),
        (
            {"every": "7h", "freshness_sla": "1h"},
            ["`every` must divide a day, got 7h", "`freshness_sla` must be at least `every`, 7h, in which a batch view publishes once, got 1h"],
        ),
        (
            {"every": "0h", "freshness_sla": "often"},
            [f"`{name}` must be a positive duration in whole seconds such as '30s' or '7d', got '{got}'" for name, got in (("every", "0h"), ("freshness_sla", "often"))],
        ),
    ],
)  # fmt: skip
def test_durations_of_a_batch_view_that_do_not_fit_are_refused(options, problems):
    with pytest.raises(DeclarationError) as refused:
        Registry(views=[spending(online="batch", **options)])

    assert list(refused.value.problems) == [f"view 'spending': {each}" for each in problems]
