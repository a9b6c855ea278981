"""The features of this project, at times that matter."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from feature_store import FeatureStore, Settings
from features import registry


def test_a_customers_payments_are_counted_up_to_the_moment_that_is_asked_for(tmp_path: Path) -> None:
    days = {"start": datetime(2026, 1, 1, tzinfo=UTC), "end": datetime(2026, 1, 4, tzinfo=UTC)}
    asked = pd.DataFrame(
        {"customer": ["ada", "ada"], "event_timestamp": pd.to_datetime(["2026-01-01 09:40Z", "2026-01-01 09:41Z"])}
    )

    with FeatureStore(settings=Settings(home=tmp_path), registry=registry) as store:
        store.load("payments", **days)
        found = store.get_historical_features(asked, "fraud").to_pandas()

    assert found["spending__count_1h"].tolist() == [1, 2]
    assert found["spending__amount_mean_7d"].tolist() == [10.0, 15.0]
