"""Values of features as Arrow columns, and the names that these columns have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from feature_store.declare.computed import Computed
from feature_store.status import Status
from feature_store.transforms.catalogue import Array, Values

if TYPE_CHECKING:
    from feature_store.computed.kinds import Kind
    from feature_store.declare.feature import FeatureRef
    from feature_store.declare.keyed import KeyedView
    from feature_store.registry import Resolved
    from feature_store.transforms.plan import FeaturePlan

_STORED = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "str": pa.string()}
_SHOWN = {**_STORED, "timestamp": pa.timestamp("us", tz="UTC"), "date": pa.date32()}


def column_names(refs: Sequence[FeatureRef]) -> list[str]:
    """`view__feature` with the prefix of its role, which SQL takes without quotes; `view_v2__feature` where two versions
    would have one name.
    """
    first: dict[str, FeatureRef] = {}
    names: list[str] = []
    for ref in refs:
        name = f"{ref.role.prefix}{ref.view}__{ref.feature}"
        other = first.setdefault(name, ref)
        names.append(
            name if other.version == ref.version else f"{ref.role.prefix}{ref.view}_v{ref.version}__{ref.feature}"
        )
    return names


def stored_type(plan: FeaturePlan) -> pa.DataType:
    """How the lake keeps a feature's values: times as microseconds, dates as days, both since the epoch."""
    element = _STORED.get(plan.kind, pa.int64())
    return pa.list_(element) if plan.is_list else element


def shown_type(plan: FeaturePlan) -> pa.DataType:
    """How a training set shows them."""
    return pa.list_(_SHOWN[plan.kind]) if plan.is_list else _SHOWN[plan.kind]


def shown_as(kind: Kind) -> pa.DataType:
    """How a training set shows values of a kind."""
    return _SHOWN[kind]


def stored_column(plan: FeaturePlan, values: Values) -> pa.Array:
    """Values as the lake keeps them: empty windows have the aggregate's empty value, errors are null."""
    if plan.is_list:
        return _list_column(plan, values)
    empty, data = plan.aggregate.empty, values.values
    null = values.status != Status.PRESENT
    if empty is not None:
        data = np.where(values.status == Status.EMPTY, np.asarray(empty, dtype=data.dtype), data)
        null &= values.status != Status.EMPTY
    return pa.array(_typed(data, plan.kind), type=stored_type(plan), mask=null if null.any() else None)


def to_shown(plan: FeaturePlan, column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """A stored column with the type that is shown."""
    if plan.kind == "timestamp" and not plan.is_list:
        return column.cast(shown_type(plan))
    if plan.kind == "date" and not plan.is_list:
        return column.cast(pa.int32()).cast(pa.date32())
    if plan.kind in ("timestamp", "date"):
        narrow = pa.list_(pa.int32()) if plan.kind == "date" else column.type
        return column.cast(narrow).cast(shown_type(plan))
    return column


def _typed(data: Array, kind: Kind) -> Array:
    dtype = {"float": np.float64, "bool": np.bool_, "str": np.object_}.get(kind, np.int64)
    return data.astype(dtype, copy=False)


def _list_column(plan: FeaturePlan, values: Values) -> pa.Array:
    empty: dict[int, list[object]] = {int(Status.EMPTY): []}
    lists = [
        list(value) if status == Status.PRESENT else empty.get(status)
        for value, status in zip(values.values, values.status.tolist(), strict=True)
    ]
    return pa.array(lists, type=stored_type(plan))


def personal_columns(names: Sequence[str], resolved: Sequence[Resolved], reads: Sequence[KeyedView]) -> frozenset[str]:
    """The columns that hold personal data: features of views that are tagged so, their keys, and what is made of either."""
    personal = {read.view.id for read in reads if read.view.is_personal}
    keys = {column for read in reads if read.view.is_personal for column in read.columns.values()}

    def is_personal(item: Resolved) -> bool:
        requests = item.requests if isinstance(item, Computed) else ()
        return any(ref.view_id in personal for ref in item.refs) or any(each.column in keys for each in requests)

    return frozenset({*keys, *(name for name, item in zip(names, resolved, strict=True) if is_personal(item))})
