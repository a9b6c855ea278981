"""`Replay`: events that have been taken in, and the values that they make at any time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.declare.computed import Computed, OnDemand, RequestInput
from feature_store.declare.feature import FeatureRef, Ratio
from feature_store.declare.keyed import KeyedView
from feature_store.declare.requests import requests_of
from feature_store.declare.service import FeatureService
from feature_store.declare.view import FeatureView
from feature_store.errors import InputError, UnknownNameError
from feature_store.history.columns import shown_as
from feature_store.online.layout import service_layout
from feature_store.reader.given import functions_of
from feature_store.registry import Registry
from feature_store.testing.arrived import Arrived, Event
from feature_store.testing.events import fit, read_events
from feature_store.testing.history_path import HistoryPath
from feature_store.testing.mismatch import check_agreement, check_events
from feature_store.testing.naive_path import NaivePath
from feature_store.testing.stream_path import StreamPath
from feature_store.time_rule import from_us, moment_us
from feature_store.transforms.compiled import compile_registry

if TYPE_CHECKING:
    from feature_store.reader.vector import FeatureVector
    from feature_store.registry import Resolved
    from feature_store.status import Status
    from feature_store.testing.micro_batches import Rejection

Declarations = Registry | FeatureView | Sequence[FeatureView]
Asked = FeatureRef | Ratio | OnDemand | Computed | str

_SHOWN = 5
HISTORY, STREAM, NAIVE = "history's SQL", "micro-batches", "naive loops"


class Replay:
    """Events that have come, and the values that they make at any time; `feature_store.testing.replay` makes one.

    Every answer is computed in three ways, which must agree to the last bit: as a training set (the code of
    `get_historical_features`), as the stream and a reader (payloads in shuffled micro-batches, the shards' fold, packed
    bytes) and by naive loops. A value at `time` knows the events that had arrived by then.
    """

    def __init__(
        self,
        declarations: Declarations,
        events: Mapping[str, Sequence[Event | Arrived]],
        *,
        seed: int,
        allow_rejected: bool,
    ) -> None:
        """Take the events in, as `feature_store.testing.replay` says."""
        self._compiled = compile_registry(_registry(declarations))
        self._seed = seed
        given = read_events(self._compiled, events)
        self._stream = StreamPath(self._compiled, given, seed=seed)
        if not allow_rejected:
            _refuse_rejected(self._stream.rejected)
        self._history = HistoryPath(self._compiled, given)
        self._naive = NaivePath(self._compiled, given)
        for source in given:
            self._check_accepted(source)
        self._known: dict[tuple[object, ...], FeatureVector] = {}

    @property
    def rejected(self) -> Sequence[Rejection]:
        """The events that were not taken: duplicates, conflicts and, if they are allowed, rejected ones."""
        return tuple(self._stream.rejected)

    def at(
        self,
        feature: Asked,
        *,
        time: datetime | str,
        entity: Mapping[str, object] | None = None,
        **keys: object,
    ) -> object:
        """A feature's value at a time; where the window is empty, the aggregate's empty value.

        Args:
            feature: `view:feature`, a handle such as `view["count_1h"]`, a ratio or an on-demand feature.
            time: an aware datetime, or ISO 8601 text with a zone. Events of this very moment are not in the value.
            entity: join key -> value; the same as `keys`, for names that cannot be keywords here.
            keys: the join keys, each with its value, and the columns that an on-demand feature takes from a request.

        Raises:
            FunctionFailed: an on-demand function did.
            ReplayMismatch: the computations do not agree; names view, feature, entity, time and the values.
            UnknownNameError: no such view, feature or join key.
            InputError: a join key is missing or of another type, or the time is naive.
        """
        return self._one(feature, time, entity, keys).values[0]

    def status(
        self,
        feature: Asked,
        *,
        time: datetime | str,
        entity: Mapping[str, object] | None = None,
        **keys: object,
    ) -> Status:
        """What a feature's value is worth at a time; asked like `at`."""
        return self._one(feature, time, entity, keys).statuses[0]

    def vector(
        self,
        features: FeatureService | str | Sequence[Asked | FeatureView | KeyedView],
        *,
        time: datetime | str,
        entity: Mapping[str, object] | None = None,
        **keys: object,
    ) -> FeatureVector:
        """The vector that a reader gives a model: of a service, its name, or a list of features; asked like `at`.

        Raises:
            OnlineStoreError: a value is STALE or AHEAD, and the service says that this fails.
        """
        if isinstance(features, str):
            features = self._compiled.registry.service(features)
        service = features if isinstance(features, FeatureService) else _service(features)
        return self._ask(service, time, entity, keys)

    def _one(
        self, feature: Asked, time: datetime | str, entity: Mapping[str, object] | None, keys: Mapping[str, object]
    ) -> FeatureVector:
        return self._ask(_service([feature]), time, entity, keys)

    def _ask(
        self,
        service: FeatureService,
        time: datetime | str,
        entity: Mapping[str, object] | None,
        keys: Mapping[str, object],
    ) -> FeatureVector:
        time_us = moment_us(time, "time")
        resolved = self._compiled.registry.resolve(service)
        reads = self._compiled.registry.reads(resolved)
        row = self._row(reads, requests_of(resolved), {**(entity or {}), **keys})
        known = (repr(service), repr(resolved), time_us, *((name, repr(value)) for name, value in row.items()))
        if known not in self._known:
            self._known[known] = self._compute(service, resolved, reads, row=row, time_us=time_us)
        return self._known[known]

    def _compute(
        self,
        service: FeatureService,
        resolved: Sequence[Resolved],
        reads: Sequence[KeyedView],
        *,
        row: Mapping[str, pa.Scalar],
        time_us: int,
    ) -> FeatureVector:
        plain = {name: value.as_py() for name, value in row.items()}
        vector = self._stream.vector(
            service_layout(service, self._compiled.registry),
            plain,
            time_us=time_us,
            functions=functions_of(item for item in resolved if isinstance(item, Computed)),
        )
        columns = {name: pa.array([value.as_py()], type=value.type) for name, value in row.items()}
        views = list({read.view.id: read.view for read in reads}.values())
        history = self._history.values(service, views, keys=columns, time_us=time_us)
        naive = self._naive.values(service, resolved, row=plain, time_us=time_us)
        streamed = list(zip(vector.values, vector.statuses, strict=True))
        for item, found in zip(resolved, zip(history, streamed, naive, strict=True), strict=True):
            check_agreement(
                dict(zip((HISTORY, STREAM, NAIVE), found, strict=True)),
                view=item.view if isinstance(item, FeatureRef) else None,
                feature=item.feature if isinstance(item, FeatureRef) else item.name,
                entity=plain,
                time=from_us(time_us),
                seed=self._seed,
            )
        return vector

    def _row(
        self, reads: Sequence[KeyedView], requests: Mapping[str, RequestInput], keys: Mapping[str, object]
    ) -> dict[str, pa.Scalar]:
        """The columns that the views need for their join keys, and functions from the request, each of its type."""
        row: dict[str, pa.Scalar] = {}
        for read in reads:
            for key, name in read.columns.items():
                if name not in keys:
                    raise InputError(f"{read.told} needs the join key `{name}`, got {', '.join(keys) or 'no keys'}")
                kind = self._compiled.schemas[read.view.source.name].field(key).type
                row.setdefault(name, pa.scalar(fit(keys[name], kind, f"`{name}`"), type=kind))
        for name, asked in requests.items():
            if name in keys:
                row.setdefault(
                    name, pa.scalar(fit(keys[name], shown_as(asked.kind), f"`{name}`"), shown_as(asked.kind))
                )
            elif asked.default is None:
                raise InputError(
                    f"an on-demand feature needs `{name}` ({asked.kind}), got {', '.join(keys) or 'nothing'}"
                )
        for name in keys:
            if name not in row:
                raise UnknownNameError("join key", name, row)
        return row

    def _check_accepted(self, source: str) -> None:
        """Refuse to go on where the computations would start from different events."""
        history = self._history.accepted(source)
        for name, found in ((STREAM, self._stream.accepted(source)), (NAIVE, self._naive.accepted(source))):
            check_events(
                {HISTORY: history.select(found.schema.names), name: found},
                source=source,
                id_columns=self._compiled.registry.source(source).id_columns,
                seed=self._seed,
            )


def _registry(declarations: Declarations) -> Registry:
    if isinstance(declarations, Registry):
        return declarations
    views = [declarations] if isinstance(declarations, FeatureView) else list(declarations)
    for view in views:
        if not isinstance(view, FeatureView):
            raise InputError(f"`declarations` must be a Registry, a FeatureView or several, got {view!r}")
    return Registry(views=views)


def _service(features: Sequence[Asked | FeatureView | KeyedView]) -> FeatureService:
    return FeatureService("asked", features=list(features))


def _refuse_rejected(rejected: Sequence[Rejection]) -> None:
    unfit = [f"event {each.event}: {each.reason}" for each in rejected if each.kind == "rejected"]
    if unfit:
        source = next(each.source for each in rejected if each.kind == "rejected")
        more = "" if len(unfit) <= _SHOWN else f"; and {len(unfit) - _SHOWN} more"
        raise InputError(
            f"source '{source}' rejects {'; '.join(unfit[:_SHOWN])}{more}; say allow_rejected=True if that is the test"
        )
