"""Batch rows to the online store: the newest row of every entity, one owner, older never over newer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.errors import InputError
from feature_store.history.asof import ROW_US, status_column, steps_at
from feature_store.history.rows import NEWEST
from feature_store.lake.view_tables import rows_table
from feature_store.online.keys import features_prefix
from feature_store.online.layout import ViewLayout, publish_layouts, view_layout
from feature_store.online.packed import ERROR
from feature_store.online.packing import Column, encode_columns
from feature_store.online.ready import EXPIRY_SLACK_US, STALE_US, ReadyRecord, read_ready, store_generation
from feature_store.online.server import check_server
from feature_store.online.writer import OnlineWriter, Write
from feature_store.registry import view_fingerprint
from feature_store.status import Status
from feature_store.time_rule import SECOND_US, from_us
from feature_store.transforms.project import KEY

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.clock import Clock
    from feature_store.declare.view import FeatureView
    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled
    from feature_store.transforms.plan import FeaturePlan, ViewPlan

_WRITES = 50_000
"""Rows encoded at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishResult:
    """What a publication did."""

    entities: int
    """Rows written; 0 if Redis has newer rows already, or these are too old to be of use."""
    row_us: int
    """The time of the rows."""
    row_version: int
    """The version of the rows that stand there now, which readers see as `run`; as `n` they see the second of `row_us`."""


def publish_rows(
    compiled: Compiled, lake: Lake, client: Redis, view: FeatureView, *, env: str, clock: Clock
) -> PublishResult:
    """Write the rows of the newest step at or before now.

    Rows are served for an hour past the SLA, and expire some time after that. An entity that had a row before and has none at this step gets an empty one, so
    that no value outlives its window. The view's ready record follows the rows. The lake notes what readers were given,
    and since when (`Lake.publications.of`).

    Raises:
        InputError: the view is no batch view, or no row of it was built up to now.
        LakeError: the lake cannot note it. Unless it was lost on the way, nothing was published.
        OnlineStoreError: Redis is away, evicts, or cannot expire a field.
    """
    if not view.is_batch:
        raise InputError(f"view '{view.name}' is not a batch view (online='batch'), so it has no rows to publish")
    check_server(client)
    plan, now_us = compiled.plan(view), clock.now_us()
    builds = lake.builds.newest(rows_table(view))
    row_us = newest_step(view, builds, now_us=now_us)
    generation = store_generation(client, env)
    current = read_ready(client, env).get(view.id)
    if current is not None and current.generation == generation and current.beat_us > row_us:
        return PublishResult(entities=0, row_us=current.beat_us, row_version=current.run)
    # A step that no entity has a row at is one of its day's build all the same.
    version = builds[from_us(row_us - 1).date()]
    rows = _rows(plan, lake, builds, row_us)
    built = _built(plan, lake, rows, row_us=row_us, version=version)
    layout = view_layout(built)
    ready = _ready(view, layout, generation=generation, version=version, row_us=row_us)
    layouts = [layout, view_layout(plan)]  # the last one is in use
    writer = OnlineWriter(client, env, clock=clock)
    served_us = row_us + view.freshness_sla_us + STALE_US - now_us
    expire_ms = (served_us + EXPIRY_SLACK_US) // 1000
    stands = current is not None and (current.generation, current.run, current.n) == (
        ready.generation,
        version,
        ready.n,
    )
    if served_us < 0:
        publish_layouts(client, env, layouts)
        writer.write([], ready=ready)
        return PublishResult(entities=0, row_us=row_us, row_version=version)
    noted = nullcontext() if stands else lake.publications.recorded(rows_table(view), row_us=row_us, version=version)
    with noted:
        publish_layouts(client, env, layouts)
        for start in range(0, rows.num_rows, _WRITES):
            some = rows.slice(start, _WRITES)
            writer.write(_writes(built, some, env, version, layout.layout_id, row_us, expire_ms))
        writer.write([], ready=ready)
    return PublishResult(entities=rows.num_rows, row_us=row_us, row_version=version)


def _ready(view: FeatureView, layout: ViewLayout, *, generation: str, version: int, row_us: int) -> ReadyRecord:
    return ReadyRecord(
        field=view.id,
        generation=generation,
        fingerprint=view_fingerprint(view),
        views={view.id: layout.layout_id},
        run=version,
        n=row_us // SECOND_US,
        beat_us=row_us,
    )


def newest_step(view: FeatureView, days: Iterable[date], *, now_us: int) -> int:
    """The time of the newest rows of a batch view at or before now, of the days that were built.

    Raises:
        InputError: there are none.
    """
    step = int(steps_at(np.array([now_us], dtype=np.int64), sorted(days), view.every_us)[0])
    if step < 0:
        raise InputError(
            f"batch view '{view.name}' has no rows up to {from_us(now_us).isoformat()}; materialize it first"
        )
    return step


def _rows(plan: ViewPlan, lake: Lake, builds: Mapping[date, int], row_us: int) -> pa.Table:
    """The rows of a step, and all-null ones for entities whose older rows may still stand in Redis."""
    view = plan.view
    since_us = row_us - view.freshness_sla_us - STALE_US - EXPIRY_SLACK_US
    kept = lake.columns(rows_table(view))
    names = [name for feature in plan.features if status_column(name := feature.feature.name) in kept]
    features = ", ".join(f'"{column}"' for name in names for column in (name, status_column(name)))
    table = _query(
        lake,
        view,
        builds,
        f"{KEY}, {ROW_US}, {NEWEST}, {features}, row_version",
        (since_us, row_us),
        f"QUALIFY row_number() OVER (PARTITION BY {KEY} ORDER BY {ROW_US} DESC) = 1",
    )
    return table.sort_by([(ROW_US, "descending"), (KEY, "ascending")])


def _built(plan: ViewPlan, lake: Lake, rows: pa.Table, *, row_us: int, version: int) -> ViewPlan:
    """The plan with those of its features that the rows of a step have: others were added since, and are UNKNOWN."""
    current = rows.filter(pc.equal(rows.column(ROW_US), row_us))
    there = [name for each in plan.features if status_column(name := each.feature.name) in rows.column_names]
    if len(current):
        built = {name for name in there if current.column(status_column(name)).null_count < len(current)}
    else:
        built = set(lake.builds.columns(rows_table(plan.view), [version]).get(version, there)) & set(there)
    return replace(plan, features=tuple(each for each in plan.features if each.feature.name in built))


def _query(
    lake: Lake,
    view: FeatureView,
    builds: Mapping[date, int],
    listed: str,
    span_us: tuple[int, int],
    chosen: str = "",
) -> pa.Table:
    """The rows of the steps from the first to the last. Materialized: DuckDB would plan to read the files twice."""
    first, last = (from_us(time_us - 1).date() for time_us in span_us)
    versions = {day: version for day, version in builds.items() if first <= day <= last}
    rows = lake.partitions.versions_sql(rows_table(view), versions)
    between = f"{ROW_US} >= {span_us[0]} AND {ROW_US} <= {span_us[1]}"
    with lake.reading() as cursor:
        return cursor.execute(
            f"WITH recent AS MATERIALIZED (SELECT {listed} FROM ({rows}) WHERE {between}) SELECT * FROM recent {chosen}"
        ).to_arrow_table()


def _writes(
    plan: ViewPlan, rows: pa.Table, env: str, version: int, layout_id: int, row_us: int, expire_ms: int
) -> list[Write]:
    view = plan.view
    keys = rows.column(KEY).to_pylist()
    current = [time == row_us for time in rows.column(ROW_US).to_pylist()]
    ages = [row_us - newest for newest in rows.column(NEWEST).to_pylist()]
    values = encode_columns(
        layout_id,
        version,
        row_us // SECOND_US,
        [row_us] * len(keys),
        ages,
        [0] * len(keys),
        [_column(feature, rows, current) for feature in plan.features],
    )
    prefix = features_prefix(env, view.entity.name, personal=view.is_personal)
    return [Write(f"{prefix}{key}}}", view.id, value, expire_ms) for key, value in zip(keys, values, strict=True)]


def _column(feature: FeaturePlan, rows: pa.Table, current: Sequence[bool]) -> Column:
    """A feature of all rows; empty where the row is of an older step."""
    name = feature.feature.name
    values, statuses = rows.column(name).to_pylist(), rows.column(status_column(name)).to_pylist()
    return Column(
        [_value(value, status) if now else None for value, status, now in zip(values, statuses, current, strict=True)]
    )


def _value(value: object, status: int) -> object:
    if status == Status.ERROR:
        return ERROR
    return None if status == Status.EMPTY else value
