"""The demo's model: will a flight arrive more than 15 minutes late? Gradient boosting on schedule and features.

Also the join that would have fooled you: the same facts, joined by calendar day, which lets a flight know itself.

What to expect, trained on January to August: AUC 0.66 from the schedule and 0.74 with features on September to
November, 0.79 with the leaky join instead. Live features tell one day from another, and the days of that autumn were
alike: 16 % late with a standard deviation of 10 points between days, against 26 % and 14 from January to August. Within
those months (train until June, test on July and August) the gain is 0.09 to 0.10, and in December, with 33 % late and
16 points, a model trained on January to November goes from 0.62 to 0.74.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from feature_store.duck import in_memory
from features.flights import data_directory
from features.nycflights import prepared_tables

CATEGORIES = ("carrier", "origin", "dest")
STATIC = (*CATEGORIES, "hour", "weekday", "distance")
"""What the schedule itself says of a flight."""
LABEL = "late"
TRAIN_UNTIL = datetime(2013, 9, 1, tzinfo=UTC)
TEST_UNTIL = datetime(2013, 12, 1, tzinfo=UTC)

SMALL = 1000
"""Rows that are scored on one thread."""

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayModel:
    """A trained classifier with what it must know of its input."""

    classifier: HistGradientBoostingClassifier
    columns: tuple[str, ...]
    """Its inputs, in order."""
    levels: dict[str, pd.CategoricalDtype]
    """The categories seen in training; any other value counts as missing."""

    def predict(self, rows: pd.DataFrame) -> Scores:
        """The probability of being late, one per row."""
        # A few rows are scored faster by one thread than they are handed to several.
        threads = 1 if len(rows) <= SMALL else None
        with threadpool_limits(limits=threads, user_api="openmp"):
            return self._probability(rows)

    def _probability(self, rows: pd.DataFrame) -> Scores:
        return np.asarray(self.classifier.predict_proba(_inputs(rows, self.columns, self.levels))[:, 1])


def train(rows: pd.DataFrame, features: Sequence[str] = ()) -> DelayModel:
    """A model of `late` from the static columns and the named feature columns; rows without a label are left out."""
    labelled = rows[rows[LABEL].notna()]
    columns = (*STATIC, *features)
    levels = {name: pd.CategoricalDtype(sorted(labelled[name].unique())) for name in CATEGORIES}
    classifier = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
    classifier.fit(_inputs(labelled, columns, levels), labelled[LABEL].astype(bool))
    return DelayModel(classifier=classifier, columns=columns, levels=levels)


def auc(rows: pd.DataFrame, scores: Scores) -> float:
    """The area under the ROC curve of `scores` over the rows that have a label."""
    labelled = rows[LABEL].notna().to_numpy()
    return float(roc_auc_score(rows[LABEL][labelled].astype(bool), scores[labelled]))


def split(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """January to August, and September to November, by request time."""
    time = rows["request_time"]
    return rows[time < TRAIN_UNTIL], rows[(time >= TRAIN_UNTIL) & (time < TEST_UNTIL)]


LEAKY = ("day_origin_carrier_delay", "day_destination_delay", "day_airport_delay")

_LEAKY_JOIN = """
    WITH departed AS (SELECT *, departed_at::DATE AS day FROM read_parquet('{tables}/departures.parquet')),
         landed AS (SELECT *, landed_at::DATE AS day FROM read_parquet('{tables}/arrivals.parquet')),
         asked AS (SELECT row_number() OVER () AS position, origin, carrier, dest, sched_dep::DATE AS day FROM spine)
    SELECT a.delay AS day_origin_carrier_delay, b.delay AS day_destination_delay, c.delay AS day_airport_delay
    FROM asked
    LEFT JOIN (SELECT origin, carrier, day, avg(dep_delay) AS delay FROM departed GROUP BY ALL) a
           USING (origin, carrier, day)
    LEFT JOIN (SELECT dest, day, avg(arr_delay) AS delay FROM landed GROUP BY ALL) b USING (dest, day)
    LEFT JOIN (SELECT origin, day, avg(dep_delay) AS delay FROM departed GROUP BY ALL) c USING (origin, day)
    ORDER BY position
"""


def leaky_features(spine: pd.DataFrame) -> pd.DataFrame:
    """The day's mean delays joined by date, as from a daily summary table; one row per spine row, in its order.

    It looks reasonable and is wrong: the day's mean holds the flight itself and everything that happens after the
    question. No such number exists when the model is asked.
    """
    con = in_memory(threads=2)
    try:
        con.register("spine", spine[["origin", "carrier", "dest", "sched_dep"]])
        joined = con.execute(_LEAKY_JOIN.format(tables=prepared_tables(data_directory()))).df()
    finally:
        con.close()
    return joined.set_index(spine.index)


def _inputs(rows: pd.DataFrame, columns: Sequence[str], levels: dict[str, pd.CategoricalDtype]) -> pd.DataFrame:
    as_numbers = {name: rows[name].astype("float64") for name in columns if name not in levels}
    as_levels = {name: rows[name].astype(dtype) for name, dtype in levels.items()}
    return pd.DataFrame({**as_numbers, **as_levels})[list(columns)]
