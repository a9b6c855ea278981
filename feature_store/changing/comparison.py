"""Two versions of a service compared by what was served: distributions of their features and, with labels, scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.errors import InputError
from feature_store.history.training import get_historical_features
from feature_store.proof.layout import ServedFeature, ServedLayout, served_layout
from feature_store.proof.served_log import VECTOR, view_column
from feature_store.proof.served_table import read_served
from feature_store.status import Status
from feature_store.time_rule import from_us

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled

    Floats = NDArray[np.float64]

SCORE, TIME_COLUMN = "score", "event_timestamp"
BINS = 10
_LEAST = 1e-4
"""What an empty bin counts as, so that the index stays finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A feature as one version served it."""

    missing: float
    """Share of vectors without a value,"""
    unknown: float
    """and of those that are neither PRESENT nor EMPTY, so that a default may have been served."""
    quantiles: tuple[float, float, float] | None
    """5 %, median, 95 % of numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureComparison:
    """A feature of two versions."""

    name: str
    before: Distribution | None
    """None: that version does not have it."""
    after: Distribution | None
    psi: float | None
    """Population stability index over ten bins of the older version, missing values a bin of their own. Up to 0.1 is
    usually called stable, from 0.25 on shifted. None unless both have vectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """How well the scores of one version rank what happened."""

    scored: int
    """Vectors that have a score and whose label's window has closed."""
    positive: int
    auc: float | None
    """None unless both outcomes were seen."""
    log_loss: float | None
    """None unless all scores are probabilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two versions of a service over the served vectors that the lake has."""

    services: tuple[str, str]
    vectors: tuple[int, int]
    features: Sequence[FeatureComparison]
    scores: tuple[Scores, Scores] | None = None


def compare_served(
    compiled: Compiled,
    lake: Lake,
    services: tuple[str, str],
    *,
    label: str | None = None,
    scores: Path | None = None,
    where: str = "TRUE",
) -> Comparison:
    """Compare two versions of a service, `name@version` each.

    Args:
        compiled: the declarations, with both versions.
        lake: with the table of served vectors.
        services: the older and the newer one.
        label: of the declarations: what happened after each vector's time.
        scores: Parquet with the columns `vector_id` and `score`, what the models made of the vectors.
        where: SQL over the columns of the table, to choose vectors.

    Raises:
        UnknownNameError: a service or the label is not declared.
        InputError: only one of label and scores is given, or the file has other columns.
    """
    if (label is None) != (scores is None):
        raise InputError("`label` and `scores` go together: a score is compared with what happened")
    layouts = [served_layout(compiled, service) for service in services]
    tables = [read_served(compiled, lake, service, where=where) for service in services]
    judged = None
    if label is not None and scores is not None:
        given = _read_scores(scores)
        judged = [_judge(compiled, lake, *pair, label, given) for pair in zip(layouts, tables, strict=True)]
    return Comparison(
        services=services,
        vectors=(tables[0].num_rows, tables[1].num_rows),
        features=_compare_features(layouts, tables),
        scores=None if judged is None else (judged[0], judged[1]),
    )


def _compare_features(layouts: Sequence[ServedLayout], tables: Sequence[pa.Table]) -> list[FeatureComparison]:
    named = [{feature.name: feature for feature in layout.features} for layout in layouts]
    found = []
    for name in dict.fromkeys([*named[0], *named[1]]):
        sides = [_Side.of(features.get(name), table) for features, table in zip(named, tables, strict=True)]
        before, after = sides
        psi = stability(before.values, after.values) if before and after and before.rows and after.rows else None
        shown = [None if side is None else side.distribution for side in sides]
        found.append(FeatureComparison(name=name, before=shown[0], after=shown[1], psi=psi))
    return found


@dataclass(frozen=True, slots=True)
class _Side:
    """A feature's column in one version."""

    values: pa.Array
    statuses: pa.Array

    @classmethod
    def of(cls, feature: ServedFeature | None, table: pa.Table) -> _Side | None:
        if feature is None:
            return None
        return cls(*(table.column(name).combine_chunks() for name in (feature.column, feature.status)))

    @property
    def rows(self) -> int:
        return len(self.values)

    @property
    def distribution(self) -> Distribution:
        known = pc.is_in(self.statuses, pa.array([int(Status.PRESENT), int(Status.EMPTY)], type=pa.int8()))
        numbers = _numbers(self.values)
        quantiles = None if numbers is None or not len(numbers) else np.quantile(numbers, (0.05, 0.5, 0.95)).tolist()
        return Distribution(
            missing=_share(pc.is_null(self.values)),
            unknown=1 - _share(known) if self.rows else 0.0,
            quantiles=None if quantiles is None else (quantiles[0], quantiles[1], quantiles[2]),
        )


def stability(before: pa.Array, after: pa.Array) -> float:
    """The population stability index of two samples: sum of (q - p) ln(q / p) over the bins.

    Numbers fall into ten bins of equal counts of the first sample, anything else into a bin for each value.
    """
    one, other = _numbers(before), _numbers(after)
    if one is not None and other is not None:
        edges = np.unique(np.quantile(one, np.linspace(0, 1, BINS + 1)[1:-1])) if len(one) else np.array([])
        counts = [
            np.bincount(np.searchsorted(edges, each, side="right"), minlength=len(edges) + 1) for each in (one, other)
        ]
    else:
        seen = [Counter(map(str, each.drop_null().to_pylist())) for each in (before, after)]
        kinds = sorted({*seen[0], *seen[1]})
        counts = [np.array([each[kind] for kind in kinds]) for each in seen]
    p, q = (
        np.maximum(np.append(count, each.null_count) / len(each), _LEAST)
        for count, each in zip(counts, (before, after), strict=True)
    )
    return float(np.sum((q - p) * np.log(q / p)))


def _numbers(values: pa.Array) -> Floats | None:
    """The values that are numbers, without missing ones; None for other kinds."""
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return None
    found = cast("Floats", values.drop_null().cast(pa.float64()).to_numpy(zero_copy_only=False))
    return found[np.isfinite(found)]


def _share(flags: pa.Array) -> float:
    return float(pc.mean(flags).as_py() or 0.0) if len(flags) else 0.0


def _read_scores(path: Path) -> Mapping[str, float]:
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=[VECTOR, SCORE])
        values = table.column(SCORE).cast(pa.float64())
    except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError) as error:
        raise InputError(
            f"`scores` must be a Parquet file with the columns '{VECTOR}' and '{SCORE}' (a number), got '{path}': {error}"
        ) from error
    return dict(zip(table.column(VECTOR).to_pylist(), values.to_pylist(), strict=True))


def _judge(
    compiled: Compiled, lake: Lake, layout: ServedLayout, table: pa.Table, label: str, scores: Mapping[str, float]
) -> Scores:
    """The scores of a version's vectors beside what happened after their times."""
    given = [scores.get(vector) for vector in table.column(VECTOR).to_pylist()]
    chosen = table.filter(pa.array([score is not None for score in given], type=pa.bool_()))
    if not chosen.num_rows:
        return Scores(scored=0, positive=0, auc=None, log_loss=None)
    first = next(iter(layout.reads))
    times = [from_us(at) for at in chosen.column(view_column(first, "as_of_us")).to_pylist()]
    keys = dict.fromkeys(column for each in layout.reads.values() for column in each.read.columns.values())
    spine = pa.table({TIME_COLUMN: times, **{key: chosen.column(key) for key in keys}})
    found = get_historical_features(
        compiled, lake, spine, [], labels=[label], allow_incomplete=True, knowledge="corrected"
    )
    outcome = found.to_arrow().column(label).combine_chunks()
    closed = np.asarray(pc.is_valid(outcome))
    happened = np.asarray(pc.fill_null(outcome.cast(pa.float64()), 0.0))[closed] > 0
    score = np.array([each for each in given if each is not None])[closed]
    return _scores(score, happened)


def _scores(score: Floats, happened: NDArray[np.bool_]) -> Scores:
    positive, count = int(happened.sum()), len(score)
    auc = None if positive in (0, count) else _auc(score, happened)
    probable = bool(count) and bool(((score >= 0) & (score <= 1)).all())
    return Scores(scored=count, positive=positive, auc=auc, log_loss=_log_loss(score, happened) if probable else None)


def _auc(score: Floats, happened: NDArray[np.bool_]) -> float:
    """How often a positive one scores higher than a negative one, ties half: from the ranks (Mann and Whitney)."""
    _, group, counts = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = ((last - counts + 1 + last) / 2)[group]
    positive, negative = int(happened.sum()), int((~happened).sum())
    return float((ranks[happened].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _log_loss(score: Floats, happened: NDArray[np.bool_]) -> float:
    likely = np.clip(np.where(happened, score, 1 - score), 1e-15, 1)
    return float(-np.log(likely).mean())
