"""Generated payments, some of them: no day without an event is an alarm, and half a standard deviation is one.

`python -m benchmarks alarms` does it for thirty weeks, with the views and the service.
"""

import pytest
from feature_store_deploy.checks.distance import Asked, quick_distances
from feature_store_deploy.checks.look import EventsLook
from feature_store_deploy.checks.policy import checks_of
from feature_store_deploy.checks.values import OF_SOURCE, evaluate_values

from benchmarks.alarms import move
from benchmarks.payments import KEY, at, days_of, deployment

PER_DAY, WARM, DAYS = 400, 28, 35


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("payments")
    with deployment(folder, payments=PER_DAY * (DAYS + 1), days=DAYS + 1, seed=3) as store:
        move(folder / "data" / "payments" / f"{at(DAYS).date()}.parquet")
        store.load("payments", start=at(0), end=at(DAYS + 1))
        yield store


def red(store, day):
    payments = store.registry.source("payments")
    options = {"days": days_of(day), "ran": days_of(day), "in_a_load": True}
    found = list(evaluate_values(store, payments, payments, KEY, checks_of(payments, OF_SOURCE), **options))
    assert [each.check_name for each in found] == list(OF_SOURCE)
    assert all(
        "figures" in each.metadata for each in found if each.check_name in ("volume", "missing_rate", "range", "drift")
    )
    return [each.check_name for each in found if not each.passed]


def test_a_week_in_which_nothing_happens_raises_no_alarm(store):
    assert {day: red(store, day) for day in range(WARM, DAYS)} == {day: [] for day in range(WARM, DAYS)}


def test_amounts_that_move_by_half_a_standard_deviation_are_found_on_the_first_day(store):
    payments, days = store.registry.source("payments"), days_of(DAYS)
    look = EventsLook(store, payments, days=days, reference=days.before(28), checks={})
    asked = [Asked(column="amount", threshold=store.settings.drift_threshold, method="wasserstein", is_text=False)]

    [found] = quick_distances(look.current, look.back, asked)  # without Evidently, whose import takes seconds

    assert found.drifted
    assert 0.4 < found.distance < 0.7
