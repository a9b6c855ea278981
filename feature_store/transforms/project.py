"""Events become rows of partials: the one place where declarations turn into SQL, for the lake and for micro-batches.

An events relation has the source's columns and the system columns below, in the lake and in a micro-batch alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feature_store.computed.kinds import Kind
from feature_store.declare.key import joined_sql, key_sql
from feature_store.schema import key_kind
from feature_store.time_rule import parse_duration
from feature_store.transforms.plan import PartialColumn, ViewPlan
from feature_store.transforms.rowset import Merge

if TYPE_CHECKING:
    import pyarrow as pa

    from feature_store.declare.source import EventSource

KEY, TIME, ID = "_key", "_event_us", "_event_id"
ARRIVED, PARTITION, OFFSET, LATE, DAY = "_arrived_us", "_partition", "_offset", "_late", "_day"
TILE, HOP, EVENTS, NEWEST = "_tile_us", "_hop_us", "events", "newest"

SYSTEM_TYPES = {
    ID: "VARCHAR",
    TIME: "BIGINT",
    ARRIVED: "BIGINT",
    PARTITION: "INTEGER",
    OFFSET: "BIGINT",
    LATE: "BOOLEAN",
    DAY: "DATE",
}

NO_TIME = {Merge.LAST: -(2**63), Merge.FIRST: 2**63 - 1}
"""The event time of a pick that has picked nothing yet."""


def event_id_sql(source: EventSource, schema: pa.Schema) -> str:
    """The text of an event's id over the source's columns; of several columns as the text of a key, null if one is null."""
    if len(source.id_columns) == 1:
        return f'"{source.id_columns[0]}"::VARCHAR'
    return joined_sql([_id_part_sql(name, schema.field(name).type) for name in source.id_columns])


def _id_part_sql(column: str, kind: pa.DataType) -> str:
    if str(kind).startswith("timestamp"):
        return f'epoch_us("{column}")::VARCHAR'
    return key_sql(column, key_kind(kind))


def accepts_sql(plan: ViewPlan) -> str:
    """Which events (with their operands) belong to the view: `where`, a whole key, and in time if late ones do not."""
    conditions = [plan.where_sql, f"({plan.key_sql}) IS NOT NULL"]
    if plan.view.late_events == "ignore" and plan.view.lateness is not None:
        lateness = parse_duration(plan.view.lateness, name="lateness")
        conditions.append(f"coalesce({ARRIVED} - {TIME} <= {lateness}, TRUE)")
    return " AND ".join(f"({condition})" for condition in conditions)


def late_marks(time: pa.ChunkedArray, arrived: pa.ChunkedArray, lateness_us: int | None) -> pa.ChunkedArray:
    """Which events arrived later than that after they happened; none where nothing is too late. Times in microseconds.

    One that does not say when it arrived, or has no time, is not late.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if lateness_us is None:
        return pa.chunked_array([pa.array(np.zeros(len(time), dtype=bool))])
    return pc.fill_null(pc.greater(pc.subtract(arrived, time), lateness_us), False)


def project_sql(plan: ViewPlan, relation: str, *, extra: Sequence[str] = ()) -> str:
    """Rows of one view: its key, event time, event id, partials and the `extra` columns, for the events it accepts."""
    columns = [f"{plan.key_sql} AS {KEY}", TIME, ID, *(f"{c.sql} AS {c.name}" for c in plan.columns), *extra]
    return f"SELECT {', '.join(columns)} FROM ({_with_operands([plan], relation)}) WHERE {accepts_sql(plan)}"


def project_batch_sql(plans: Sequence[ViewPlan], relation: str) -> str:
    """Rows of several views of one source in one pass: view i has the columns `<i>.<name>`; `<i>._key` is null
    where the view does not accept the event.
    """
    columns = [ID, TIME]
    for i, plan in enumerate(plans):
        columns.append(f'CASE WHEN {accepts_sql(plan)} THEN {plan.key_sql} END AS "{i}.{KEY}"')
        columns.extend(f'{column.sql} AS "{i}.{column.name}"' for column in plan.columns)
    return f"SELECT {', '.join(columns)} FROM ({_with_operands(plans, relation)})"


def _with_operands(plans: Sequence[ViewPlan], relation: str) -> str:
    """The relation with a column for each expression of the plans: each is evaluated once, in a step of its own."""
    computed = {name: sql for plan in plans for name, sql in plan.operands.items()}
    return f"SELECT {', '.join(['*', *(f'{sql} AS {name}' for name, sql in computed.items())])} FROM ({relation})"


def tiles_sql(plan: ViewPlan, relation: str) -> str:
    """The view's tiles of the events of a relation: one row per (hop, key, tile), columns as in `tile_types`.

    Together with `tile_types` this is the layout of the lake's table of tiles.
    """
    projected = project_sql(plan, relation)
    tiles = " UNION ALL ".join(_tiles_at_hop_sql(plan, hop) for hop in plan.hops_us)
    return f"WITH rows AS MATERIALIZED ({projected}) {tiles}"


def tile_sql(hop_us: int) -> str:
    """The start of an event's tile."""
    return f"({TIME} - (({TIME} % {hop_us}) + {hop_us}) % {hop_us})"  # floors before the epoch too


def _tiles_at_hop_sql(plan: ViewPlan, hop_us: int) -> str:
    wanted = {column.name for feature in plan.at_hop(hop_us) for column in feature.columns.values()}
    tile = tile_sql(hop_us)
    columns = [KEY, f"{hop_us}::BIGINT AS {HOP}", f"{tile} AS {TILE}"]
    columns += [f"count(*)::BIGINT AS {EVENTS}", f"max({TIME})::BIGINT AS {NEWEST}"]
    for column in plan.columns:
        columns.extend(_merge_sql(column) if column.name in wanted else _absent_sql(column))
    return f"SELECT {', '.join(columns)} FROM rows GROUP BY {KEY}, {tile}"


def _merge_sql(column: PartialColumn) -> list[str]:
    name = column.name
    some = f"FILTER (WHERE {name} IS NOT NULL)"
    order = f"({TIME}, {ID})"
    match column.merge:
        case Merge.ADD:
            return [f"sum({name})::BIGINT AS {name}"]
        case Merge.MIN | Merge.MAX:
            return [f"{column.merge.value}({name}) AS {name}"]
        case Merge.FIRST | Merge.LAST:
            best = "arg_min" if column.merge is Merge.FIRST else "arg_max"
            none = NO_TIME[column.merge]
            none_sql = f"({none + 1} - 1)::BIGINT" if none < 0 else str(none)
            return [
                f"{best}({name}, {order}) {some} AS {name}",
                f"coalesce({best}({TIME}, {order}) {some}, {none_sql}) AS {name}__t",
                f"{best}({ID}, {order}) {some} AS {name}__id",
            ]
        case Merge.DISTINCT:
            return [f"coalesce(list(DISTINCT {name}) {some}, []) AS {name}"]
        case Merge.LAST_N:
            row = f"{{'t': {TIME}, 'id': {ID}, 'v': {name}}}"
            return [f"coalesce(arg_max({row}, {order}, {column.cap}) {some}, []) AS {name}"]


def _absent_sql(column: PartialColumn) -> list[str]:
    return [f"NULL::{sql_type} AS {name}" for name, sql_type in column_types(column).items()]


def column_types(column: PartialColumn) -> dict[str, str]:
    """DuckDB types of the tile columns of one partial."""
    value = {"int": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN", "str": "VARCHAR"}.get(column.kind, "BIGINT")
    if column.merge in NO_TIME:
        return {column.name: value, f"{column.name}__t": "BIGINT", f"{column.name}__id": "VARCHAR"}
    if column.merge is Merge.DISTINCT:
        return {column.name: f"{value}[]"}
    if column.merge is Merge.LAST_N:
        return {column.name: f"STRUCT(t BIGINT, id VARCHAR, v {value})[]"}
    return {column.name: value}


def unbuilt_sql(plan: ViewPlan) -> str:
    """Whether a tile was built before the view had all the features that it has now: a partial of its hop is null."""
    conditions = []
    for hop in plan.hops_us:
        columns = {column.name: column for feature in plan.at_hop(hop) for column in feature.columns.values()}
        for name, column in columns.items():
            always = f"{name}__t" if column.merge in NO_TIME else name
            conditions.append(f"({HOP} = {hop} AND {always} IS NULL)")
    return " OR ".join(conditions) or "FALSE"


def tile_types(plan: ViewPlan) -> dict[str, str]:
    """Columns and DuckDB types of the lake's table of a view's tiles, without the day."""
    types = {KEY: "VARCHAR", HOP: "BIGINT", TILE: "BIGINT", EVENTS: "BIGINT", NEWEST: "BIGINT"}
    for column in plan.columns:
        types |= column_types(column)
    return types


def to_numpy(column: pa.Array | pa.ChunkedArray, kind: Kind) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """An Arrow column as (values, valid); nulls are zero, False or None."""
    import pyarrow as pa

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    valid = (
        np.ones(len(array), dtype=bool) if array.null_count == 0 else ~array.is_null().to_numpy(zero_copy_only=False)
    )
    if kind == "str":
        return array.to_numpy(zero_copy_only=False).astype(object, copy=False), valid
    zero = {"float": 0.0, "bool": False}.get(kind, 0)
    filled = array.fill_null(pa.scalar(zero, type=array.type)) if array.null_count else array
    dtype = {"float": np.float64, "bool": np.bool_}.get(kind, np.int64)
    return filled.to_numpy(zero_copy_only=False).astype(dtype, copy=False), valid
