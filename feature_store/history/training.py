"""Training sets: every feature of a service as it was at each row of a spine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, get_args

import pyarrow as pa

from feature_store.declare.feature import FeatureRef
from feature_store.declare.requests import requests_of
from feature_store.declare.service import Default, FeatureService, defaults_of
from feature_store.errors import InputError
from feature_store.history.answers import Answer, answer, with_defaults
from feature_store.history.asof import batch_answers, check_materialized
from feature_store.history.columns import column_names, personal_columns
from feature_store.history.computed import ComputedAnswers
from feature_store.history.coverage import check_complete
from feature_store.history.definitions import definitions
from feature_store.history.knowledge import KnowledgeReport
from feature_store.history.labels import label_column
from feature_store.history.manifest import Knowledge, Manifest
from feature_store.history.reading import LakeReading
from feature_store.history.requests import request_column
from feature_store.history.spine import Spine, SpineKeys, read_spine, spine_keys
from feature_store.history.windows import window_values
from feature_store.history.workers import ALONE, Workers
from feature_store.lake.view_tables import rows_table

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

    from feature_store.declare.keyed import KeyedView
    from feature_store.declare.view import FeatureView
    from feature_store.history.served import RowFacts
    from feature_store.lake import Lake
    from feature_store.registry import Resolved
    from feature_store.transforms.compiled import Compiled


class _AtSnapshot(TypedDict):
    """What a manifest says of the lake."""

    snapshot: int
    positions: Mapping[str, Mapping[int, int]]
    stale_days: Mapping[str, Sequence[str]]


Answers = Mapping[tuple[str, str], Answer]
"""(`view@version` with the prefix of its role, feature) -> its answer."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TrainingSet:
    """The spine's rows in their order, with a column per feature: `view__feature` (in a role with its prefix), or the
    name of a ratio.
    """

    table: pa.Table
    feature_columns: Sequence[str]
    label_columns: Sequence[str]
    manifest: Manifest
    sample: str = ""
    """Which part of the events it rests on, in words; empty for all."""
    personal: frozenset[str] = frozenset()
    """Columns with personal data: features of views that are tagged so, their keys, and what is made of either. Masked
    where it is shown.
    """

    def to_arrow(self) -> pa.Table:
        """As an Arrow table."""
        return self.table

    def to_pandas(self) -> pd.DataFrame:
        """As a pandas frame; integers with nulls become floats, as pandas does."""
        frame: pd.DataFrame = self.table.to_pandas()
        return frame

    def to_duckdb(self, connection: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
        """As a DuckDB relation, on a connection of its own unless one is given."""
        import duckdb

        return (connection or duckdb.connect()).from_arrow(self.table)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        counts = f"rows: {len(self):,}, features: {len(self.feature_columns)}, labels: {len(self.label_columns)}"
        return f"TrainingSet({counts}, {self.manifest.knowledge}, snapshot {self.manifest.snapshot})"

    def _repr_html_(self) -> str:
        from feature_store.history.shown import training_set_html

        return training_set_html(self)


def get_historical_features(
    compiled: Compiled,
    lake: Lake,
    spine: pd.DataFrame | pa.Table | Path | str,
    features: FeatureService | str | Sequence[object],
    *,
    knowledge: Knowledge = "served",
    time_column: str = "event_timestamp",
    statuses: bool = False,
    allow_incomplete: bool = False,
    snapshot: int | None = None,
    workers: Workers = ALONE,
    labels: Sequence[str] = (),
    now_us: int | None = None,
    reading: LakeReading | None = None,
) -> TrainingSet:
    """The features of a service, or of a list of `view:feature`, at every row of a spine.

    Args:
        compiled: the declarations.
        lake: the events and rows.
        spine: a pandas or Arrow table, the path of a Parquet file, or SQL over the lake, with the join keys, times and the
            columns that on-demand features take from a request.
            Every row comes back once, in order; one with a null join key has UNKNOWN values.
        features: a service, its name, or a list of features, views, ratios and on-demand features.
        knowledge: 'served': what a value could know at the row's time, events that had arrived by then; 'corrected':
            all events by the time at which they happened.
        time_column: the spine's column of times, aware. A row sees events strictly before its time.
        statuses: add a column `<feature>__status` per feature.
        allow_incomplete: answer rows beyond what the lake has as if nothing had happened there.
        snapshot: as of which the lake is read; the newest by default.
        workers: who computes the windows of more events than a bucket holds. The result is the same whoever does.
        labels: labels of the registry, a column each. Rows whose window has not closed are null and counted.
        now_us: until when windows of labels can have closed; by default as far as the lake knows.
        reading: an open one, see `open_reading`, in place of `snapshot`.

    Raises:
        InputError: the spine, or a row later than the lake is complete, as said above.
        FunctionFailed: an on-demand function; names it and the row.
        UnknownNameError: no such service, view, feature or label.
        WorkerError: a worker was lost.
    """
    _check_knowledge(knowledge)
    wanted = [compiled.registry.label(name) for name in labels]
    service = compiled.registry.service(features) if isinstance(features, str) else features
    resolved = compiled.registry.resolve(service)
    reads = compiled.registry.reads(resolved)
    views = list({read.view.id: read.view for read in reads}.values())
    _ensure_sources(compiled, lake, {*(v.source.name for v in views), *(w.outcome.source.name for w in wanted)})
    rows = read_spine(spine, lake=lake, time_column=time_column)
    names = _names(resolved, rows)
    requests = {each: request_column(rows.table, each, of="spine") for each in requests_of(resolved).values()}
    until_us = 2**62 if now_us is None or not wanted else now_us
    opened = open_reading(lake, snapshot=snapshot) if reading is None else nullcontext(reading)
    with opened as at:
        if not allow_incomplete and len(rows):
            _check_complete(at, views, rows)
        job = _Job(
            compiled,
            at,
            rows,
            served=knowledge == "served",
            workers=workers,
            asked_by=f" of service '{service.name}'" if isinstance(service, FeatureService) else "",
        )
        facts = job.answer_all(reads)
        found_labels = {
            label.name: label_column(
                compiled,
                label,
                reading=at,
                spine=rows,
                now_us=until_us,
                workers=workers,
                allow_incomplete=allow_incomplete,
            )
            for label in wanted
        }
        manifest = Manifest(
            service=service.id if isinstance(service, FeatureService) else None,
            features=[str(item) if isinstance(item, FeatureRef) else item.name for item in resolved],
            fingerprints=definitions(compiled, service, resolved, wanted),
            **_at_snapshot(at.lake, views, at.snapshot),
            knowledge=knowledge,
            time_column=time_column,
            statuses=statuses,
            allow_incomplete=allow_incomplete,
            until_us=until_us,
            spine_digest=rows.digest,
            rows=len(rows),
            known=KnowledgeReport.of(facts, rows=len(rows)),
            labels={name: label.open for name, label in found_labels.items()},
        )
    table, personal = rows.table, personal_columns(names, resolved, reads)
    computed = ComputedAnswers(
        stored=lambda ref: job.answers[ref.read_id, ref.feature],
        requested=requests.__getitem__,
        asked_us=rows.time_us,
        strict=True,
    )
    defaults = defaults_of(service, resolved) if isinstance(service, FeatureService) else [None] * len(resolved)
    for name, item, default in zip(names, resolved, defaults, strict=True):
        found = _served(item, computed.of(item), service, default=default)
        table = table.append_column(name, found.column)
        if statuses:
            table = table.append_column(f"{name}__status", pa.array(found.status, type=pa.int8()))
    for name, label in found_labels.items():
        if name in table.schema.names:
            raise InputError(f"column '{name}' of the training set has the name of a label; rename it")
        table = table.append_column(name, label.column)
    return TrainingSet(
        table=table,
        feature_columns=tuple(names),
        label_columns=tuple(found_labels),
        manifest=manifest,
        personal=personal,
    )


@contextmanager
def open_reading(
    lake: Lake,
    *,
    snapshot: int | None = None,
    remembers: bool = False,
    tiles: Mapping[str, tuple[str, Sequence[str]]] | None = None,
    beside: Path | None = None,
) -> Iterator[LakeReading]:
    """A reading of the lake at a snapshot, by default the newest. Sources must be in the lake before it is opened.

    `remembers`, `tiles`, `beside`: see `LakeReading`.
    """
    at = lake.snapshot() if snapshot is None else snapshot
    with (
        lake.pinned(at) as pinned,
        LakeReading(pinned, at, scratch=lake, remembers=remembers, tiles=tiles, beside=beside) as reading,
    ):
        yield reading


class _Job:
    """Answers of the views one after another; entities of the spine are numbered once per entity."""

    def __init__(
        self,
        compiled: Compiled,
        reading: LakeReading,
        spine: Spine,
        *,
        served: bool,
        workers: Workers,
        asked_by: str,
    ) -> None:
        self._compiled, self._reading, self._spine = compiled, reading, spine
        self._served, self._workers, self._asked_by = served, workers, asked_by
        self._keys = reading.keys if reading.is_remembering else {}
        self._digest = spine.digest if reading.is_remembering else ""
        self.answers: dict[tuple[str, str], Answer] = {}

    def answer_all(self, reads: Sequence[KeyedView]) -> dict[str, RowFacts | None]:
        """Answer all features of all views in their roles; returns what the rows of each knew."""
        time_us = self._spine.time_us
        windowed = list({read.view.id: read.view for read in reads if not read.view.is_batch}.values())
        for source in dict.fromkeys(view.source.name for view in windowed if len(time_us)):
            mine = [view for view in windowed if view.source.name == source]
            self._reading.share(source, mine, first_us=int(time_us.min()), last_us=int(time_us.max()))
        return {
            read.id: self._answer_rows(read) if read.view.is_batch else self._answer_windows(read) for read in reads
        }

    def _answer_rows(self, read: KeyedView) -> RowFacts | None:
        found, facts = batch_answers(
            self._compiled.plan(read.view),
            lake=self._reading.lake,
            snapshot=self._reading.snapshot,
            keys=self._entities(read),
            time_us=self._spine.time_us,
            served=self._served,
        )
        self.answers |= {(read.id, name): each for name, each in found.items()}
        return facts

    def _answer_windows(self, read: KeyedView) -> RowFacts | None:
        plan = self._compiled.plan(read.view)
        windows = window_values(
            plan,
            reading=self._reading,
            keys=self._entities(read),
            time_us=self._spine.time_us,
            served=self._served,
            workers=self._workers,
        )
        for feature in plan.features:
            name = feature.feature.name
            self.answers[read.id, name] = answer(feature, windows.values[name])
        return windows.facts

    def _entities(self, read: KeyedView) -> SpineKeys:
        schema = self._compiled.schemas[read.view.source.name]
        known = (*((key, column, schema.field(key).type) for key, column in read.columns.items()), self._digest)
        if known not in self._keys:
            self._keys[known] = spine_keys(self._spine, read, schema, asked_by=self._asked_by)
        return self._keys[known]


def _check_knowledge(knowledge: str) -> None:
    if knowledge not in get_args(Knowledge):
        raise InputError(f"`knowledge` must be 'served' or 'corrected', got {knowledge!r}")


def _ensure_sources(compiled: Compiled, lake: Lake, sources: Iterable[str]) -> None:
    for source in sources:
        lake.ensure_source(source, compiled.schemas[source])


def _check_complete(reading: LakeReading, views: Sequence[FeatureView], rows: Spine) -> None:
    first, last = int(rows.time_us.min()), int(rows.time_us.max())
    for view in views:
        if view.is_batch:
            check_materialized(reading.lake, view, last_us=last, snapshot=reading.snapshot)
        else:
            check_complete(reading.coverage(view.source.name), view, first_us=first, last_us=last)


def _names(resolved: Sequence[Resolved], spine: Spine) -> list[str]:
    """The columns of the features, in their order."""
    stored = iter(column_names([item for item in resolved if isinstance(item, FeatureRef)]))
    names = [next(stored) if isinstance(item, FeatureRef) else item.name for item in resolved]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"the feature column '{name}' was asked for twice")
        if name in spine.table.schema.names:
            raise InputError(f"spine column '{name}' has the name of a feature column; rename it")
    return names


def _served(item: Resolved, found: Answer, service: FeatureService | Sequence[object], *, default: Default) -> Answer:
    """One feature as the service serves it."""
    if not isinstance(service, FeatureService):
        return found
    return with_defaults(found, default=default, on_stale=service.on_stale, on_ahead=service.on_ahead, name=item.name)


def _at_snapshot(lake: Lake, views: Sequence[FeatureView], snapshot: int) -> _AtSnapshot:
    sources = sorted({view.source.name for view in views})
    stale = {
        view.id: [
            day.isoformat()
            for day in lake.builds.stale_days(rows_table(view), source=view.source.name, snapshot=snapshot)
        ]
        for view in views
        if view.is_batch
    }
    return _AtSnapshot(
        snapshot=snapshot,
        positions={name: lake.positions(name, snapshot=snapshot) for name in sources},
        stale_days=stale,
    )
