"""`Draft`: features as they are being declared, computed at once from a sample of events. Nothing is applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self, cast

import numpy as np
import pyarrow as pa

from feature_store.declare.keyed import KeyedView
from feature_store.declare.requests import requests_of
from feature_store.declare.service import FeatureService
from feature_store.declare.view import FeatureView
from feature_store.errors import InputError
from feature_store.history.asof import built_days
from feature_store.history.rows import materialize_rows
from feature_store.history.spine import read_spine, spine_keys
from feature_store.history.training import get_historical_features
from feature_store.history.workers import Workers
from feature_store.html_table import html_table
from feature_store.lake.memory import MemoryLake
from feature_store.notebook.distribution import distribution
from feature_store.notebook.entities import TIME_COLUMN, entities, key_columns, spine_at, times
from feature_store.notebook.over_time import over_time
from feature_store.notebook.sample import Sample, show_share, show_time
from feature_store.time_rule import DAY_US, from_us, moment_us
from feature_store.transforms.project import ARRIVED, ID, KEY, TIME, project_sql

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from pathlib import Path

    import pandas as pd

    from feature_store.history.manifest import Knowledge
    from feature_store.history.spine import Spine
    from feature_store.history.training import TrainingSet
    from feature_store.lake import Lake
    from feature_store.notebook.distribution import Distribution
    from feature_store.notebook.entities import Asked
    from feature_store.notebook.filling import Filled
    from feature_store.notebook.over_time import OverTime
    from feature_store.transforms.compiled import Compiled

_SHOWN_ENTITIES, _SHOWN_EVENTS = 10, 20


class Draft:
    """Declarations and a sample of their sources' events, in memory; `FeatureStore.local` makes one.

    Values are those of a store that has the declarations applied and the same events: the same code computes them.
    """

    def __init__(
        self,
        compiled: Compiled,
        memory: MemoryLake,
        *,
        sample: Sample,
        filled: Sequence[Filled],
        now_us: int,
        bucket_events: int,
    ) -> None:
        self.registry = compiled.registry
        self.sample = sample
        self._compiled, self._memory, self._lake = compiled, memory, cast("Lake", memory)
        self._filled, self._now_us, self._workers = filled, now_us, Workers(bucket_events=bucket_events)
        self._entities = {view.id: self._count(view) for view in self.registry.views}

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what there is

    def entities(self, view: FeatureView | str, *, limit: int = _SHOWN_ENTITIES) -> pd.DataFrame:
        """The entities of a view with the most events: join keys, how many events, when the newest one was."""
        return _frame(entities(self._compiled, self._lake, self._view(view), sample=self.sample, busiest=limit))

    def events(
        self,
        view: FeatureView | str,
        *,
        entity: Mapping[str, object],
        before: datetime | str | None = None,
        limit: int = _SHOWN_EVENTS,
    ) -> pd.DataFrame:
        """The newest events of one entity that a view accepts, before a time if one is given; the newest one last."""
        declared = self._view(view)
        plan, schema = self._compiled.plan(declared), self._compiled.schemas[declared.source.name]
        read = KeyedView(declared)
        row = pa.table({**key_columns(self._compiled, [read], entity, 1), TIME_COLUMN: times([0])})
        self._sampled(read_spine(row, lake=self._lake, time_column=TIME_COLUMN), [read], only=False)
        within = "TRUE" if before is None else f"{TIME} < {moment_us(before, 'before')}"
        rows = self._memory.events_sql(declared.source.name, where=within)
        columns = [f'"{name}"' for name in schema.names]
        accepted = project_sql(plan, rows, extra=[*columns, ARRIVED])
        same = " AND ".join(f'"{name}" = ?' for name in declared.entity.join_keys) or "TRUE"
        with self._memory.cursor() as cursor:
            found = cursor.execute(
                f"SELECT {', '.join(columns)}, make_timestamptz({ARRIVED}) AS _arrived_at FROM ({accepted}) "
                f"WHERE {same} ORDER BY {TIME} DESC, {ID} DESC LIMIT ?",
                [*(row.column(name)[0].as_py() for name in declared.entity.join_keys), limit],
            ).to_arrow_table()
        return _frame(found.take(pa.array(range(found.num_rows - 1, -1, -1), type=pa.int64())))

    # ---- values

    def features(
        self,
        features: FeatureService | FeatureView | str | Sequence[object],
        *,
        at: datetime | str,
        entity: Mapping[str, object] | None = None,
        knowledge: Knowledge = "served",
    ) -> TrainingSet:
        """Features at one time: of an entity, or of every sampled one that has had an event by then.

        Args:
            features: a service, a view, the name of one, `view:feature`, or a list of features, views and ratios.
            at: an aware datetime, or ISO 8601 text with a zone.
            entity: join key -> value, and what on-demand features take from a request.
            knowledge: as for `get_historical_features`.
        """
        asked = self._asked(features)
        resolved = self.registry.resolve(asked)
        spine = spine_at(
            self._compiled,
            self._lake,
            self.registry.reads(resolved),
            moment_us(at, "at"),
            entity=entity,
            asked=requests_of(resolved),
            sample=self.sample,
        )
        return self.get_historical_features(spine, asked, knowledge=knowledge)

    def get_historical_features(
        self,
        spine: pd.DataFrame | pa.Table | Path | str,
        features: FeatureService | FeatureView | str | Sequence[object],
        *,
        knowledge: Knowledge = "served",
        time_column: str = TIME_COLUMN,
        statuses: bool = False,
        allow_incomplete: bool = False,
        labels: Sequence[str] = (),
        only_sampled: bool = False,
    ) -> TrainingSet:
        """The features at every row of a spine, as `FeatureStore.get_historical_features` would have them once applied.

        `only_sampled` leaves out the rows about entities that are not in the sample; otherwise they are refused. SQL
        runs over the sample's events (`events_<source>_loaded`).

        Raises:
            InputError: a row is about an entity or a time that the sample does not have; and as there.
            UnknownNameError: no such service, view, feature or label.
        """
        asked = self._asked(features)
        rows = read_spine(spine, lake=self._lake, time_column=time_column)
        self.sample.check_times(rows.time_us)
        reads = self.registry.reads(self.registry.resolve(asked))
        if not self.sample.is_whole:
            rows = self._sampled(rows, reads, only=only_sampled)
        self._build_rows(list({read.view.id: read.view for read in reads}.values()), rows)
        found = get_historical_features(
            self._compiled,
            self._lake,
            rows.table,
            asked,
            knowledge=knowledge,
            time_column=time_column,
            statuses=statuses,
            allow_incomplete=allow_incomplete,
            workers=self._workers,
            labels=labels,
            now_us=self._now_us,
        )
        return replace(found, sample=self.rests_on)

    def over_time(
        self,
        feature: Asked,
        *,
        entity: Mapping[str, object],
        start: datetime | str,
        end: datetime | str,
        every: str | timedelta | None = None,
        knowledge: Knowledge = "served",
    ) -> OverTime:
        """One feature of one entity from `start` to `end`. See `notebook.over_time.over_time`."""
        ask = partial(self.get_historical_features, statuses=True, knowledge=knowledge)
        return over_time(self._compiled, ask, feature, entity=entity, start=start, end=end, every=every)

    def distribution(
        self,
        feature: Asked,
        *,
        at: datetime | str | None = None,
        spine: pd.DataFrame | pa.Table | Path | str | None = None,
        knowledge: Knowledge = "served",
    ) -> Distribution:
        """One feature of every sampled entity at a time, or at the rows of a spine. See `notebook.distribution`."""
        ask = partial(self.get_historical_features, statuses=True, knowledge=knowledge)
        return distribution(self._compiled, self._lake, ask, feature, at=at, spine=spine, sample=self.sample)

    # ---- what it is

    @property
    def rests_on(self) -> str:
        """Which entities, and how many events, in words."""
        counted: dict[str, int] = {}
        for view in self.registry.views:
            counted[view.entity.name] = max(counted.get(view.entity.name, 0), self._entities[view.id])
        of = "all entities" if self.sample.is_whole else f"{show_share(self.sample.share)} of the entities"
        listed = ", ".join(f"{count:,} {name}" for name, count in counted.items())
        return f"draft on {of} ({listed}), {sum(each.events for each in self._filled):,} events"

    def __repr__(self) -> str:
        return f"Draft({self.rests_on}; times {self.sample.span})"

    def _repr_html_(self) -> str:
        rows = [
            [each.source, f"{each.events:,}", _show(each.first_us), _show(each.last_us), each.note or "from the lake"]
            for each in self._filled
        ]
        return html_table(
            "Draft", ["source", "events", "first", "last", ""], rows, notes=[self.rests_on, f"times {self.sample.span}"]
        )

    # ---- inside

    def _asked(self, features: object) -> FeatureService | list[object]:
        if isinstance(features, str):
            if ":" in features:
                return [features]
            bare = features.partition("@")[0]
            if any(view.name == bare for view in self.registry.views):
                return [self.registry.view(features)]
            return self.registry.service(features)
        if isinstance(features, FeatureService):
            return features
        return list(features) if isinstance(features, Sequence) else [features]

    def _view(self, view: FeatureView | str) -> FeatureView:
        return self.registry.view(view.id if isinstance(view, FeatureView) else view)

    def _count(self, view: FeatureView) -> int:
        rows = project_sql(self._compiled.plan(view), self._memory.events_sql(view.source.name))
        with self._memory.cursor() as cursor:
            row = cursor.execute(
                f"SELECT count(DISTINCT {KEY}) FROM ({rows}) WHERE {self.sample.has_sql(view, KEY)}"
            ).fetchone()
        return int(row[0]) if row else 0

    def _sampled(self, rows: Spine, reads: Sequence[KeyedView], *, only: bool) -> Spine:
        """The rows, if all are about entities of the sample; `only`: those that are."""
        kept = np.ones(len(rows), dtype=bool)
        for read in reads:
            keys = spine_keys(rows, read, self._compiled.schemas[read.view.source.name])
            has = self.sample.has_sql(read.view, KEY)
            with self._memory.cursor() as cursor:
                cursor.register("asked", pa.table({KEY: keys.text, "_n": np.arange(len(keys))}))
                found = cursor.execute(f"SELECT {has} AS has FROM asked ORDER BY _n").fetchnumpy()["has"]
            # A null key has no entity and stays: its values are UNKNOWN in any case.
            kept &= np.append(np.asarray(found, dtype=bool), True)[keys.codes]
            if not only and not kept.all():
                name = "+".join(read.columns.values())
                first = {each: rows.table.column(each)[int(kept.argmin())].as_py() for each in read.columns.values()}
                raise InputError(
                    f"{int((~kept).sum()):,} of {len(rows):,} rows are about entities '{name}' outside the sample of "
                    f"{show_share(self.sample.share)}, such as {first}; see `entities('{read.view.name}')` for those inside, "
                    "say only_sampled=True to leave these rows out, or make a draft with sample=1"
                )
        chosen = rows.table.filter(pa.array(kept))
        return replace(rows, table=chosen, time_us=rows.time_us[kept])

    def _build_rows(self, views: Sequence[FeatureView], rows: Spine) -> None:
        """Rows of batch views for the days that are asked for, in memory."""
        for view in views:
            if view.is_batch and len(rows):
                steps = rows.time_us // view.every_us * view.every_us
                asked = {from_us(int(day)).date() for day in np.unique((steps - 1) // DAY_US) * DAY_US}
                days = sorted(asked.difference(built_days(self._lake, view)))
                if days:
                    materialize_rows(
                        self._compiled,
                        self._lake,
                        view,
                        days=days,
                        now_us=self._now_us,
                        workers=self._workers,
                        counts_late=False,
                    )


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _show(time_us: int | None) -> str | None:
    return None if time_us is None else show_time(time_us)
