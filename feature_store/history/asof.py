"""Batch views at the rows of a spine: the row that stood when it was asked for.

Rows are made for every step `every`; the value at `t` is the row of the newest step at or before `t` that was built. As it
was served: the row that was published last by `t`, whenever it was built. Before a view was first published nothing was
served, and its rows count as there at their times.

An entity without a row there had no event in any window: EMPTY. Past the SLA both are STALE, and an hour later nothing is
known any more: UNKNOWN. So is a feature that the row was built without. The reader says the same of published rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.errors import InputError
from feature_store.history.answers import Answer, missing
from feature_store.history.columns import to_shown
from feature_store.history.served import GUESSED, MEASURED, RowFacts, no_facts
from feature_store.lake.view_tables import rows_table
from feature_store.online.ready import STALE_US
from feature_store.status import Status
from feature_store.time_rule import DAY_US, from_us
from feature_store.transforms.catalogue import Ints
from feature_store.transforms.project import DAY, KEY

if TYPE_CHECKING:
    from feature_store.declare.view import FeatureView
    from feature_store.history.spine import SpineKeys
    from feature_store.lake import Lake
    from feature_store.lake.books.publications import Publication
    from feature_store.transforms.plan import FeaturePlan, ViewPlan

ROW_US, AVAILABLE = "_row_us", "_available_us"
_THERE = "_there"
"""Whether there is a row, in what answers for it."""
_NONE = -(2**62)
"""Stands for the step of a time before any step that was built."""


def status_column(feature: str) -> str:
    """The column of a feature's status in the table of its rows."""
    return f"{feature}__status"


def built_days(lake: Lake, view: FeatureView, *, snapshot: int | None = None) -> list[date]:
    """The days for which rows were built, from whatever state of the events."""
    return list(lake.builds.newest(rows_table(view), snapshot=snapshot))


def steps_at(time_us: Ints, days: Sequence[date], every_us: int) -> Ints:
    """The newest step at or before each time among those of the built days; a day has the steps in (00:00, 24:00]."""
    built = _numbers(days)
    step = time_us // every_us * every_us
    day = (step - 1) // DAY_US
    at = np.searchsorted(built, day, side="right") - 1
    if len(built) == 0:
        return np.full(len(time_us), _NONE)
    newest = built[np.maximum(at, 0)]
    return np.where(at < 0, _NONE, np.where(newest == day, step, (newest + 1) * DAY_US))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenRows:
    """Which row each time is answered by."""

    step_us: Ints
    """The row's time, or what stands for none."""
    version: Ints
    """The row's version."""

    def take(self, at: Ints) -> ChosenRows:
        """Some of them."""
        return ChosenRows(step_us=self.step_us[at], version=self.version[at])


def newest_rows(builds: Mapping[date, int], time_us: Ints, every_us: int) -> ChosenRows:
    """The newest step at or before each time among those of the built days, in each day's version."""
    days = sorted(builds)
    step_us = steps_at(time_us, days, every_us)
    versions = np.array([0, *(builds[day] for day in days)], dtype=np.int64)
    return ChosenRows(
        step_us=step_us, version=versions[np.searchsorted(_numbers(days), (step_us - 1) // DAY_US, "right")]
    )


def published_rows(publications: Sequence[Publication], newest: ChosenRows, at: Ints) -> ChosenRows:
    """The rows of chosen publications; of -1, which is none, the newest ones.

    Args:
        publications: of the view.
        newest: int64[n], the rows with hindsight.
        at: int64[n], positions among the publications.
    """
    step_us, version = (np.array([*(p[column] for p in publications), 0], dtype=np.int64)[at] for column in (1, 2))
    return ChosenRows(
        step_us=np.where(at < 0, newest.step_us, step_us), version=np.where(at < 0, newest.version, version)
    )


def _numbers(days: Sequence[date]) -> Ints:
    """Days since the epoch."""
    return np.array([(day - date(1970, 1, 1)).days for day in days], dtype=np.int64)


def check_materialized(lake: Lake, view: FeatureView, *, last_us: int, snapshot: int | None = None) -> None:
    """Refuse rows at times for which a batch view's row was not built yet.

    Raises:
        InputError: naming the view and until when it was built.
    """
    days = built_days(lake, view, snapshot=snapshot)
    remedy = f"materialize '{view.name}' further, or say allow_incomplete=True"
    if not days:
        raise InputError(f"batch view '{view.name}' has no rows in the lake; {remedy}")
    until = ((days[-1] - date(1970, 1, 1)).days + 1) * DAY_US + view.every_us
    if last_us >= until:
        raise InputError(
            f"spine rows reach to {from_us(last_us).isoformat()}, but the rows of batch view '{view.name}' hold until "
            f"{from_us(until).isoformat()} only; {remedy}"
        )


def batch_answers(
    plan: ViewPlan, *, lake: Lake, snapshot: int, keys: SpineKeys, time_us: Ints, served: bool
) -> tuple[dict[str, Answer], RowFacts | None]:
    """A batch view's features at times given by (entity, time), and what the rows knew if they are as served."""
    view, table = plan.view, rows_table(plan.view)
    newest = newest_rows(lake.builds.newest(table, snapshot=snapshot), time_us, view.every_us)
    answers = _answers(plan, lake, snapshot, keys.codes, keys, newest, time_us)
    if not served:
        return answers, None
    publications = lake.publications.of(table, snapshot=snapshot)
    at = np.searchsorted([each.since_us for each in publications], time_us, side="right") - 1
    measured = np.array([*(each.is_acknowledged for each in publications), False])[at]
    facts = no_facts(len(time_us))
    facts.kind[:] = np.where(keys.codes >= 0, np.where(measured, np.int8(MEASURED), np.int8(GUESSED)), facts.kind)
    chosen = published_rows(publications, newest, at)
    others = np.flatnonzero((chosen.step_us != newest.step_us) | (chosen.version != newest.version))
    if len(others):
        facts.recomputed[others] = True
        then = _answers(plan, lake, snapshot, keys.codes[others], keys, chosen.take(others), time_us[others])
        answers = {name: _replaced(one, others, then[name], facts) for name, one in answers.items()}
    return answers, facts


def _replaced(answer: Answer, at: Ints, fresh: Answer, facts: RowFacts) -> Answer:
    """An answer with some rows exchanged; those that are others now are counted."""
    before = answer.column.take(pa.array(at))
    same = np.array([a == b for a, b in zip(before.to_pylist(), fresh.column.to_pylist(), strict=True)])
    facts.differing[at] += ~same | (answer.status[at] != fresh.status)
    place = np.arange(len(answer.status))
    place[at] = len(place) + np.arange(len(at))
    status = answer.status.copy()
    status[at] = fresh.status
    return Answer(column=pa.concat_arrays([answer.column, fresh.column]).take(pa.array(place)), status=status)


def _answers(
    plan: ViewPlan, lake: Lake, snapshot: int, codes: Ints, keys: SpineKeys, chosen: ChosenRows, time_us: Ints
) -> dict[str, Answer]:
    view, step_us = plan.view, chosen.step_us
    if not (step_us != _NONE).any():
        return {feature.feature.name: missing(feature, len(time_us)) for feature in plan.features}
    rows = _rows(plan, lake, snapshot, codes, keys, chosen)
    versions = _Versions.of(lake, view, rows, chosen)
    age = time_us - step_us
    built = (step_us != _NONE) & (codes >= 0)
    built &= age <= view.freshness_sla_us + STALE_US
    fresh = built & (age <= view.freshness_sla_us)
    return {
        feature.feature.name: _answer(feature, rows, built=built & versions.have(feature.feature.name), fresh=fresh)
        for feature in plan.features
    }


def _rows(plan: ViewPlan, lake: Lake, snapshot: int, codes: Ints, keys: SpineKeys, chosen: ChosenRows) -> pa.Table:
    """The row of each (entity, step, version), nulls where there is none; of the features that were built at all."""
    step_us = chosen.step_us
    asked = pa.table({"_n": np.arange(len(step_us)), "_code": codes, ROW_US: step_us, "row_version": chosen.version})
    present = step_us[step_us != _NONE]
    low, high = (int(present.min()), int(present.max())) if len(present) else (0, 0)
    span = (from_us(low - 1).date(), from_us(high - 1).date())
    with lake.reading() as cursor:
        cursor.register("asked", asked)
        cursor.register("entities", pa.table({KEY: keys.text, "_code": np.arange(len(keys))}))
        rows = lake.partitions.all_sql(rows_table(plan.view), snapshot=snapshot, days=span)
        kept = {column for column, *_ in cursor.execute(f"DESCRIBE {rows}").fetchall()}
        names = [name for feature in plan.features if status_column(name := feature.feature.name) in kept]
        listed = "".join(f', r."{column}"' for name in names for column in (name, status_column(name)))
        return cursor.execute(
            f"SELECT r.row_version IS NOT NULL AS {_THERE}{listed} FROM asked AS a LEFT JOIN (SELECT e._code, r.* FROM ({rows}) AS r "
            f"JOIN entities AS e USING ({KEY})) AS r ON a._code = r._code AND a.{ROW_US} = r.{ROW_US} "
            "AND a.row_version = r.row_version ORDER BY a._n"
        ).to_arrow_table()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Versions:
    """Which features the builds had that were asked for rows that they do not have: others were added since."""

    columns: list[frozenset[str] | None]
    """Of each build; None: all that the table has."""
    of_row: Ints
    """int64[n], the position among them."""

    @classmethod
    def of(cls, lake: Lake, view: FeatureView, rows: pa.Table, chosen: ChosenRows) -> _Versions:
        """The lake's book is asked only if a row is missing; what is there tells it by itself."""
        there = rows.column(_THERE).to_numpy()
        versions, at = np.unique(np.where(there | (chosen.step_us == _NONE), 0, chosen.version), return_inverse=True)
        asked = [int(version) for version in versions if version]
        noted = lake.builds.columns(rows_table(view), asked) if asked else {}
        return cls(columns=[noted.get(int(version)) for version in versions], of_row=at)

    def have(self, name: str) -> np.ndarray:
        """bool[n], whether the build had a feature."""
        return np.array([columns is None or name in columns for columns in self.columns])[self.of_row]


def _answer(feature: FeaturePlan, rows: pa.Table, *, built: np.ndarray, fresh: np.ndarray) -> Answer:
    name = feature.feature.name
    if status_column(name) not in rows.column_names:
        return missing(feature, rows.num_rows)
    stored = rows.column(status_column(name)).combine_chunks()
    found = ~stored.is_null().to_numpy(zero_copy_only=False)
    built = built & (
        found | ~rows.column(_THERE).to_numpy()
    )  # a row that is there without the feature is older than it
    status = pc.fill_null(stored, int(Status.EMPTY)).to_numpy(zero_copy_only=False).astype(np.int8)
    error = status == Status.ERROR
    status = np.where(fresh | error, status, np.int8(Status.STALE))
    status = np.where(built, status, np.int8(Status.UNKNOWN))
    column = _blank_nulls(to_shown(feature, rows.column(name)).combine_chunks())
    empty = pa.scalar(_plain(feature.aggregate.empty), type=column.type)
    column = pc.if_else(pa.array(~found & built), empty, column)
    column = pc.if_else(pa.array(built), column, pa.scalar(None, type=column.type))
    return Answer(column=column, status=status)


def _blank_nulls(column: pa.Array) -> pa.Array:
    """The column with zeros behind its nulls, where DuckDB leaves whatever was there: equal columns have equal bytes."""
    if not column.null_count or not pa.types.is_primitive(column.type):
        return column
    zero = pa.scalar(False if pa.types.is_boolean(column.type) else 0, type=column.type)
    return pc.if_else(column.is_valid(), pc.fill_null(column, zero), pa.scalar(None, type=column.type))


def _plain(empty: object) -> object:
    return list(empty) if isinstance(empty, tuple) else empty


__all__ = [
    "AVAILABLE",
    "DAY",
    "ROW_US",
    "batch_answers",
    "built_days",
    "check_materialized",
    "status_column",
    "steps_at",
]
