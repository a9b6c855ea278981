"""A service's vectors as the declarations see them: which columns of a record are what, and of which type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.declare.computed import Computed, RequestInput
from feature_store.declare.feature import FeatureRef
from feature_store.declare.requests import requests_of
from feature_store.errors import InputError
from feature_store.history.columns import shown_as, shown_type
from feature_store.history.join_keys import as_key
from feature_store.history.requests import request_column
from feature_store.proof.served_log import (
    ENTRY,
    PER_VIEW,
    REQUESTED,
    SERVED,
    SERVICE,
    VECTOR,
    view_column,
)
from feature_store.reader.vector import feature_column, status_column
from feature_store.status import Status

if TYPE_CHECKING:
    from feature_store.declare.keyed import KeyedView
    from feature_store.declare.service import FeatureService
    from feature_store.registry import Resolved
    from feature_store.transforms.compiled import Compiled
    from feature_store.transforms.plan import FeaturePlan, ViewPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedFeature:
    """One feature of a service."""

    name: str
    """`view:feature`, or the name of what is computed: as in the vector."""
    item: Resolved
    type: pa.DataType

    @property
    def column(self) -> str:
        """The column of its values."""
        return feature_column(self.name)

    @property
    def status(self) -> str:
        """The column of its statuses."""
        return status_column(self.name)

    @property
    def refs(self) -> tuple[FeatureRef, ...]:
        """The stored features that it is made of."""
        return self.item.refs


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRead:
    """A view in its role, and its plan."""

    read: KeyedView
    plan: ViewPlan

    @property
    def id(self) -> str:
        """What tells reads of one view apart."""
        return self.read.id


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedLayout:
    """One service, as its vectors are recorded."""

    service: FeatureService
    features: Sequence[ServedFeature]
    reads: Mapping[str, PlannedRead]
    """What features are read from, by `KeyedView.id`."""
    requests: Mapping[str, RequestInput]
    """The columns that on-demand features take from a request."""
    schema: pa.Schema
    """The columns that a proof needs."""

    def plan_of(self, ref: FeatureRef) -> FeaturePlan:
        """The plan of a stored feature."""
        return feature_plan(self.reads[ref.read_id].plan, ref.feature)


def feature_plan(plan: ViewPlan, name: str) -> FeaturePlan:
    """A feature of a view by name, which it must have."""
    return next(feature for feature in plan.features if feature.feature.name == name)


def served_layout(compiled: Compiled, service: str) -> ServedLayout:
    """The layout of a service: `name` (its newest version) or `name@version`.

    Raises:
        UnknownNameError: no such service.
    """
    declared = compiled.registry.service(service)
    resolved = compiled.registry.resolve(declared)
    reads = {
        read.id: PlannedRead(read=read, plan=compiled.plan(read.view)) for read in compiled.registry.reads(resolved)
    }
    features: list[ServedFeature] = []
    for item in resolved:
        name = _vector_name(item, {feature.name for feature in features})
        features.append(ServedFeature(name=name, item=item, type=_type(item, reads)))
    requests = requests_of(resolved)
    schema = _schema(compiled, features, list(reads.values()), requests)
    return ServedLayout(service=declared, features=features, reads=reads, requests=requests, schema=schema)


def served_layout_of(compiled: Compiled, served: pa.Table) -> ServedLayout:
    """The layout of the service that a record is of.

    Raises:
        InputError: it names none, or several.
    """
    if SERVICE not in served.schema.names:
        raise InputError(f"a record of served vectors has a column '{SERVICE}', got {', '.join(served.schema.names)}")
    names = served.column(SERVICE).unique().to_pylist()
    if len(names) != 1:
        raise InputError(f"a record must be of one service, got {', '.join(map(str, names)) or 'no vectors'}")
    return served_layout(compiled, str(names[0]))


def _type(item: Resolved, reads: Mapping[str, PlannedRead]) -> pa.DataType:
    if isinstance(item, FeatureRef):
        return shown_type(feature_plan(reads[item.read_id].plan, item.feature))
    return shown_as(item.output.kind if isinstance(item, Computed) else "float")


def _vector_name(item: Resolved, taken: set[str]) -> str:
    """The name that the reader gives to a feature."""
    return str(item) if isinstance(item, FeatureRef) and item.name in taken else item.name


def _schema(
    compiled: Compiled,
    features: Sequence[ServedFeature],
    reads: Sequence[PlannedRead],
    requests: Mapping[str, RequestInput],
) -> pa.Schema:
    fields = {
        VECTOR: pa.string(),
        SERVICE: pa.string(),
        REQUESTED: pa.int64(),
        SERVED: pa.int64(),
        ENTRY: pa.string(),
    }
    for each in reads:
        source = compiled.schemas[each.plan.view.source.name]
        columns = each.read.columns.items()
        fields |= {column: source.field(key).type for key, column in columns if column not in fields}
        fields |= {view_column(each.id, name): pa.int64() for name in PER_VIEW}
    fields |= {name: shown_as(each.kind) for name, each in requests.items() if name not in fields}
    for feature in features:
        fields |= {feature.column: feature.type, feature.status: pa.int8()}
    return pa.schema(list(fields.items()))


def conform(layout: ServedLayout, served: pa.Table) -> pa.Table:
    """A record with the layout's columns and types.

    A feature's values of another type than the feature's become null, so that a proof finds them unequal.

    Raises:
        InputError: a column is missing, or cannot have its type.
    """
    values = {feature.column: feature for feature in layout.features}
    keys = {column for each in layout.reads.values() for column in each.read.columns.values()}
    columns = []
    for field in layout.schema:
        if field.name in layout.requests and field.name not in keys:
            columns.append(_request_column(served, layout.requests[field.name]))
            continue
        if field.name not in served.schema.names:
            raise InputError(f"the record of service '{layout.service.id}' has no column '{field.name}'")
        column = served.column(field.name).combine_chunks()
        if field.name in values:
            columns.append(_value_column(column, served.column(values[field.name].status), field.type))
            continue
        if field.name in keys:
            columns.append(as_key(served.column(field.name), field.type, field.name, of="record").combine_chunks())
            continue
        try:
            columns.append(column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(f"column '{field.name}' of a record must be {field.type}: {error}") from error
    return pa.table(columns, schema=layout.schema)


def _request_column(served: pa.Table, asked: RequestInput) -> pa.Array:
    """A column of the request; a reader's log has times as microseconds and dates as days since the epoch."""
    if asked.kind in ("timestamp", "date") and asked.column in served.schema.names:
        column = served.column(asked.column)
        if pa.types.is_integer(column.type):
            whole = column.cast(pa.int64() if asked.kind == "timestamp" else pa.int32())
            at = served.schema.get_field_index(asked.column)
            served = served.set_column(at, asked.column, whole.cast(shown_as(asked.kind)))
    return request_column(served, asked, of="record")


def _value_column(column: pa.Array, statuses: pa.ChunkedArray, wanted: pa.DataType) -> pa.Array:
    if column.type == wanted or pa.types.is_null(column.type) or _same_values(column.type, wanted):
        return column.cast(wanted)
    if pa.types.is_floating(wanted) and pa.types.is_integer(column.type):
        # A default may be a whole number; a served value may not.
        defaulted = pc.is_in(
            statuses.combine_chunks(), pa.array([Status.UNKNOWN, Status.STALE, Status.AHEAD], pa.int8())
        )
        return pc.if_else(defaulted, column, pa.scalar(None, type=column.type)).cast(wanted)
    return pa.nulls(len(column), type=wanted)


def _same_values(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether two types spell the same values: lists that differ in their element's name, times in their unit."""
    if pa.types.is_list(found) and pa.types.is_list(wanted):
        inner = found.value_type
        return inner == wanted.value_type or pa.types.is_null(inner) or _same_values(inner, wanted.value_type)
    return bool(pa.types.is_timestamp(found) and pa.types.is_timestamp(wanted))
