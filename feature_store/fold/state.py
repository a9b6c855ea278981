"""What a shard remembers of one view: its entities and their rows, in families that merge alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from feature_store.fold.own_events import OwnEvents
from feature_store.fold.split import ViewRows
from feature_store.time_rule import BEGINNING_US
from feature_store.transforms.accumulator import Accumulator
from feature_store.transforms.catalogue import Array, Ints, Values
from feature_store.transforms.evaluate import evaluate, tails_us
from feature_store.transforms.families import LIFETIME, state_hop_us
from feature_store.transforms.kernel import RangeIndex
from feature_store.transforms.ordering import Bools, run_starts
from feature_store.transforms.plan import FeaturePlan, PartialColumn, ViewPlan
from feature_store.transforms.project import EVENTS, NEWEST, NO_TIME
from feature_store.transforms.rowset import Merge, RowSet, concat, merge_distinct, merge_last_n, merge_tiles
from feature_store.transforms.steps import FOREVER_US, ViewSteps, view_steps

ValueFamily = tuple[str, int]
"""Partial column and hop."""


class ViewState:
    """The rows of one view in one shard, and the values that follow from them."""

    def __init__(self, plan: ViewPlan) -> None:
        self.plan = plan
        self.keys: list[str] = []
        self._number: dict[str, int] = {}
        self._newest_us = np.zeros(0, dtype=np.int64)
        self._until_us = np.zeros(0, dtype=np.int64)
        self._own = OwnEvents(plan.columns) if plan.view.score_own_event else None
        self._merged_us = np.zeros(0, dtype=np.int64)
        """The newest time that is merged into tiles, by entity."""
        self._forgotten_us: dict[int, int] = {}
        hops = sorted({state_hop_us(feature) for feature in plan.features})
        self._features = {hop: [f for f in plan.features if state_hop_us(f) == hop] for hop in hops}
        self._tiles = {
            hop: Accumulator(partial(merge_tiles, ops=tile_ops(self._features[hop])), per_time=True) for hop in hops
        }
        self._values: dict[ValueFamily, Accumulator] = {
            (column.name, hop): Accumulator(_value_merge(column))
            for hop in hops
            for column in value_columns(self._features[hop])
        }

    def __len__(self) -> int:
        """How many rows are kept, in all families."""
        own = () if self._own is None else (self._own,)
        return sum(len(rows) for rows in (*self._tiles.values(), *self._values.values(), *own))

    @property
    def nbytes(self) -> int:
        """Bytes of the rows kept."""
        own = () if self._own is None else (self._own,)
        return sum(rows.nbytes for rows in (*self._tiles.values(), *self._values.values(), *own))

    @property
    def hops_us(self) -> Sequence[int]:
        """The hops of the families of tiles; `LIFETIME` for lifetimes."""
        return tuple(self._tiles)

    def number(self, keys: Sequence[str]) -> Ints:
        """The entities' numbers, int64; unknown ones get the next."""
        known, names = self._number, self.keys
        numbers = [known.get(key, -1) for key in keys]
        for i, number in enumerate(numbers):
            if number < 0:
                numbers[i] = known.setdefault(keys[i], len(names))
                if numbers[i] == len(names):
                    names.append(keys[i])
        self._grow(len(names))
        return np.array(numbers, dtype=np.int64)

    def add(self, rows: ViewRows) -> Ints:
        """Merge the rows of some events in; returns the entities touched, sorted."""
        entity = self.number(rows.keys)[rows.key]
        touched = np.unique(entity)
        if self._own is not None:
            np.maximum.at(self._newest_us, entity, rows.time)
            entity, rows = self._own.exchange(entity, rows, newest_us=self._newest_us)
        for hop, features in self._features.items():
            self.add_tiles(hop, _event_tiles(features, rows, entity, hop))
            for column in value_columns(features):
                self.add_values(column, hop, _event_values(column, rows, entity))
        return touched

    def add_tiles(self, hop_us: int, rows: RowSet) -> None:
        """Merge tiles of one hop in."""
        if len(rows):
            self._tiles[hop_us].add(rows)
            newest = rows.columns[NEWEST].astype(np.int64, copy=False)
            np.maximum.at(self._newest_us, rows.entity, newest)
            np.maximum.at(self._merged_us, rows.entity, newest)

    def add_values(self, column: PartialColumn, hop_us: int, rows: RowSet) -> None:
        """Merge rows of a set or list column in."""
        if len(rows):
            self._values[(column.name, hop_us)].add(rows)

    def forget(self, now_us: int) -> None:
        """Drop the rows that no window at `now_us` holds, with some slack for reads of the recent past."""
        for hop, features in self._features.items():
            cutoff = horizon_us(features, now_us)
            if cutoff > self._forgotten_us.get(hop, BEGINNING_US):
                self.mark_forgotten(hop, cutoff)
        if self._own is not None:
            self._own.drop_before(min(horizon_us(features, now_us) for features in self._features.values()))

    def mark_forgotten(self, hop_us: int, cutoff_us: int) -> None:
        """From now on nothing older than the cutoff is known under this hop."""
        self._forgotten_us[hop_us] = cutoff_us
        self._tiles[hop_us].drop_before(cutoff_us)
        for (_, hop), rows in self._values.items():
            if hop == hop_us:
                rows.drop_before(cutoff_us)

    def ending_before(self, time_us: int) -> Ints:
        """The entities whose written values cease to be valid before that time."""
        return np.flatnonzero(self._until_us[: len(self.keys)] < time_us)

    def steps(self, entities: Ints, now_us: int) -> ViewSteps:
        """The step functions of some entities (sorted numbers), noting until when they are valid."""
        families = _Gathered(self, entities)
        steps = view_steps(
            self.plan,
            families,
            entities,
            newest_us=self._newest_us[entities],
            now_us=now_us,
            forgotten_us=self._forgotten_us,
        )
        self._until_us[entities] = steps.until_us
        return steps

    def before_own(self, entities: Ints) -> tuple[dict[str, Values], Bools]:
        """The features of some entities (sorted numbers) at the time of each one's newest event, which does not count, and
        where they are known: the event is kept apart, and no row that its windows hold is forgotten.
        """
        newest_us = self._newest_us[entities]
        found = evaluate(self.plan, _Gathered(self, entities, own=False), entities, time_us=newest_us)
        known = self._merged_us[entities] < newest_us
        if self._own is None or not len(self._own):
            return found, np.zeros(len(entities), dtype=bool)
        known &= np.isin(entities, self._own.of(entities).entity)
        for feature in self.plan.features:
            forgotten = self._forgotten_us.get(state_hop_us(feature), BEGINNING_US)
            window, hop = feature.feature.window_us, feature.feature.hop_us
            known &= tails_us(newest_us, window_us=window, hop_us=hop) >= forgotten
        return found, known

    def gather_tiles(self, hop_us: int, entities: Ints, *, own: bool = True) -> RowSet:
        """The tiles of some entities; none if there never was an event. `own`: with their newest events."""
        tiles, features = self._tiles[hop_us], self._features[hop_us]
        found = tiles.gather(entities) if len(tiles) else RowSet.empty(_tile_dtypes(features))
        if not own or self._own is None or not len(self._own):
            return found
        numbers, rows = self._own.as_events(self._own.of(entities))
        if not len(rows):
            return found
        newest = merge_tiles(_event_tiles(features, rows, numbers, hop_us), ops=tile_ops(features))
        return merge_tiles(concat([found, newest]), ops=tile_ops(features)) if len(found) else newest

    def gather_values(self, family: ValueFamily, entities: Ints, *, own: bool = True) -> RowSet:
        """The rows of a set or list column of some entities; none if there never was a value. `own`: as for tiles."""
        kept = self._values[family]
        found = kept.gather(entities) if len(kept) else RowSet.empty({"value": np.int64, "id": object})
        if not own or self._own is None or not len(self._own):
            return found
        numbers, rows = self._own.as_events(self._own.of(entities))
        [column] = [column for column in self.plan.columns if column.name == family[0]]
        newest, merge = _event_values(column, rows, numbers), _value_merge(column)
        if not len(newest):
            return found
        return merge(concat([found, newest])) if len(found) else merge(newest)

    def _grow(self, size: int) -> None:
        missing = size - len(self._newest_us)
        if missing > 0:
            room = max(missing, len(self._newest_us))
            self._newest_us = np.append(self._newest_us, np.full(room, BEGINNING_US))
            self._merged_us = np.append(self._merged_us, np.full(room, BEGINNING_US))
            self._until_us = np.append(self._until_us, np.full(room, FOREVER_US))


class _Gathered:
    """The families of some entities of a view."""

    unique = True

    def __init__(self, state: ViewState, entities: Ints, *, own: bool = True) -> None:
        self._state, self._entities, self._own = state, entities, own
        self._tiles: dict[int, RangeIndex] = {}
        self._values: dict[ValueFamily, RangeIndex] = {}

    def tiles(self, hop_us: int) -> RangeIndex:
        if hop_us not in self._tiles:
            self._tiles[hop_us] = RangeIndex(self._state.gather_tiles(hop_us, self._entities, own=self._own))
        return self._tiles[hop_us]

    def values(self, column: PartialColumn, hop_us: int) -> RangeIndex:
        family = (column.name, hop_us)
        if family not in self._values:
            self._values[family] = RangeIndex(self._state.gather_values(family, self._entities, own=self._own))
        return self._values[family]


def horizon_us(features: Sequence[FeaturePlan], now_us: int) -> int:
    """Before this, no window of these features (of one hop) at `now_us` or a little earlier holds anything."""
    windows = [f.feature.window_us for f in features]
    longest = max((window for window in windows if window is not None), default=None)
    if longest is None or None in windows:
        return BEGINNING_US
    hop = features[0].feature.hop_us
    return (now_us - longest - longest // 8) // hop * hop


def tile_ops(features: Sequence[FeaturePlan]) -> Mapping[str, Merge]:
    """How the tile columns of some features merge."""
    ops = {EVENTS: Merge.ADD, NEWEST: Merge.MAX}
    return ops | {column.name: column.merge for column in tile_columns(features)}


def tile_columns(features: Sequence[FeaturePlan]) -> list[PartialColumn]:
    """The partial columns of some features that have a slot in each tile."""
    return list({c.name: c for feature in features for c in feature.columns.values() if c.in_tiles}.values())


def _tile_dtypes(features: Sequence[FeaturePlan]) -> dict[str, type]:
    dtypes: dict[str, type] = {EVENTS: np.int64, NEWEST: np.int64}
    for column in tile_columns(features):
        dtypes[column.name] = {"str": object, "float": np.float64, "bool": np.bool_}.get(column.kind, np.int64)
        if column.merge in NO_TIME:
            dtypes |= {f"{column.name}__t": np.int64, f"{column.name}__id": object}
    return dtypes


def value_columns(features: Sequence[FeaturePlan]) -> list[PartialColumn]:
    """The partial columns of some features that are rows of their own."""
    return list({c.name: c for feature in features for c in feature.columns.values() if not c.in_tiles}.values())


def _event_tiles(features: Sequence[FeaturePlan], rows: ViewRows, entity: Ints, hop_us: int) -> RowSet:
    tile = np.zeros_like(rows.time) if hop_us == LIFETIME else rows.time // hop_us * hop_us
    columns: dict[str, Array] = {EVENTS: np.ones(len(rows), dtype=np.int64), NEWEST: rows.time}
    for column in tile_columns(features):
        values, valid = rows.columns[column.name]
        columns[column.name] = values
        if column.merge in NO_TIME:
            columns[f"{column.name}__t"] = np.where(valid, rows.time, NO_TIME[column.merge])
            columns[f"{column.name}__id"] = rows.event_id
    return RowSet(entity=entity, time=tile, columns=columns)


def _event_values(column: PartialColumn, rows: ViewRows, entity: Ints) -> RowSet:
    values, valid = rows.columns[column.name]
    chosen = np.flatnonzero(valid)
    return RowSet(
        entity=entity[chosen],
        time=rows.time[chosen],
        columns={"value": values[chosen], "id": rows.event_id[chosen]},
    )


def _value_merge(column: PartialColumn) -> Callable[[RowSet], RowSet]:
    if column.merge is Merge.LAST_N:
        return partial(merge_last_n, n=column.cap or 1)
    return partial(_merge_capped, cap=column.cap)


def _merge_capped(rows: RowSet, cap: int | None) -> RowSet:
    """The latest time per value, of the `cap` latest values: windows hold the latest ones, and count no further."""
    distinct = merge_distinct(rows)
    if cap is None:
        return distinct
    starts = run_starts(distinct.entity)
    ends = np.repeat(np.append(starts[1:], len(distinct)), np.diff(starts, append=len(distinct)))
    return distinct.take(np.flatnonzero(ends - np.arange(len(distinct)) <= cap))
