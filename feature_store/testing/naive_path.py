"""Vectors by naive loops: what a service makes of the values in `naive`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.declare.computed import AskedTime, RequestInput
from feature_store.declare.feature import FeatureRef, Ratio
from feature_store.declare.service import defaults_of
from feature_store.status import Status
from feature_store.testing.naive import NaiveView, accepted_rows, with_defaults
from feature_store.testing.naive_functions import on_demand
from feature_store.time_rule import from_us

if TYPE_CHECKING:
    from feature_store.declare.computed import Source
    from feature_store.declare.service import FeatureService
    from feature_store.registry import Resolved
    from feature_store.testing.events import Given
    from feature_store.testing.mismatch import Found
    from feature_store.transforms.compiled import Compiled


class NaivePath:
    """The events of a replay, for loops."""

    def __init__(self, compiled: Compiled, given: Mapping[str, Given]) -> None:
        self._registry = compiled.registry
        self._given = {name: with_defaults(events) for name, events in given.items()}
        self._accepted = {name: accepted_rows(events) for name, events in self._given.items()}
        self._views: dict[str, NaiveView] = {}

    def accepted(self, source: str) -> pa.Table:
        """The events that count, by id: the source's columns."""
        return self._given[source].rows.take(pa.array(self._accepted[source], type=pa.int64()))

    def values(
        self, service: FeatureService, resolved: Sequence[Resolved], *, row: Mapping[str, object], time_us: int
    ) -> list[Found]:
        """The features of a service for one entity at a time."""
        found = [self._found(item, row, time_us) for item in resolved]
        replaced = {Status.UNKNOWN, *([Status.STALE] if service.on_stale == "default" else [])}
        defaults = defaults_of(service, resolved)
        return [
            (default if status in replaced else value, status)
            for (value, status), default in zip(found, defaults, strict=True)
        ]

    def _found(self, item: Resolved, row: Mapping[str, object], time_us: int) -> Found:
        if isinstance(item, FeatureRef):
            return self._stored(item, row, time_us)
        if isinstance(item, Ratio):
            parts = [self._stored(ref, row, time_us) for ref in (item.numerator, item.denominator)]
            return _quotient(parts[0], parts[1], item.empty)
        inputs = []
        for each in item.of.inputs:
            value, status = self._input(each.source, row, time_us)
            inputs.append((each.fill if value is None else value, status))
        return on_demand(item, inputs)

    def _input(self, source: Source, row: Mapping[str, object], time_us: int) -> Found:
        if isinstance(source, AskedTime):
            return from_us(time_us), Status.PRESENT
        if isinstance(source, RequestInput):
            value = row.get(source.column)
            value = source.default if value is None else value
            return value, Status.EMPTY if value is None else Status.PRESENT
        return self._found(source, row, time_us)

    def _stored(self, ref: FeatureRef, row: Mapping[str, object], time_us: int) -> Found:
        view = self._registry.view(ref.view_id)
        if view.id not in self._views:
            source = view.source.name
            self._views[view.id] = NaiveView(view, self._given[source], self._accepted[source])
        elsewhere = dict(ref.role.columns)
        key = tuple(row[elsewhere.get(name, name)] for name in view.entity.join_keys)
        return self._views[view.id].value(view.feature(ref.feature), key, time_us)


def _quotient(top: Found, bottom: Found, empty: float | None) -> Found:
    statuses = {top[1], bottom[1]}
    for lost in (Status.ERROR, Status.UNKNOWN):
        if lost in statuses:
            return None, lost
    divides = isinstance(top[0], int | float) and isinstance(bottom[0], int | float) and bottom[0] != 0
    value = float(top[0]) / float(bottom[0]) if divides else empty  # type: ignore[arg-type]
    if Status.STALE in statuses:
        return value, Status.STALE
    return value, Status.PRESENT if divides else Status.EMPTY
