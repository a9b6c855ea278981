"""`online_parity`: what readers get now is, bit for bit, what the kernel makes of the events that it could know."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import dagster as dg
import pyarrow as pa
from feature_store_deploy.assets.keys import online_key
from feature_store_deploy.assets.markdown import table
from feature_store_deploy.checks.declared import missing, outcome, stated
from feature_store_deploy.checks.policy import as_declared, check_of, spec_of
from feature_store_deploy.checks.samples import newest_day
from feature_store_deploy.checks.steps import Checks, Step
from feature_store_deploy.checks.window import Days

from feature_store.declare import FeatureService, FeatureView
from feature_store.errors import OnlineStoreError, UnknownNameError
from feature_store.long_keys import askable_sql
from feature_store.masked import masked
from feature_store.online.ready import read_ready
from feature_store.proof.compare import ProofReport, compare
from feature_store.proof.layout import served_layout
from feature_store.proof.recompute import provable, recompute
from feature_store.proof.served_log import ServedLog
from feature_store.reader.vector import feature_column, status_column
from feature_store.registry import Registry
from feature_store.store import FeatureStore
from feature_store.transforms.compiled import Compiled
from feature_store.transforms.project import TIME

ENTITIES = 200
"""How many entities are compared: those with the newest events."""
LOOKED_DAYS = 30
"""How many days back from the newest event entities are looked for."""
SHOWN = 20
PATIENCE_S = 20.0
"""How long to wait for the lake to receive what the online values know."""


def build_parity_check(view: FeatureView, *, env: str) -> Checks | None:
    """The check of a view's online values; None if the declaration wants none."""
    check = check_of(view, "online_parity")
    if check is None:
        return None
    described = f"What readers of '{view.id}' get equals what is recomputed from the lake, to the last bit"
    spec = spec_of(online_key(env, view), "online_parity", check, description=described, owner=view.owner)

    def online_parity(step: Step) -> dg.AssetCheckResult:
        return as_declared(_judge(view, step.store), "online_parity", check)

    return Checks.of_one(spec, online_parity)


def online_report(store: FeatureStore, view: FeatureView, rows: Sequence[Mapping[str, object]]) -> ProofReport:
    """What readers get for some entities, compared with its recomputation.

    Raises:
        OnlineStoreError: Redis does not answer, or nothing is published.
    """
    service = FeatureService(f"parity_of_{view.name}_v{view.version}", features=[view])
    compiled = _with_service(store.compiled, service)
    served, log = [f"{view.id}:{feature.name}" for feature in view.declared], ServedLog(service.id)
    with store.reader() as reader:
        for row, vector in zip(rows, reader.get_online_features_batch(served, rows), strict=True):
            log.add(row, vector)
    layout = served_layout(compiled, service.id)
    table = _named_by_view(log.table(), view)
    deadline = time.perf_counter() + (0 if view.is_batch else PATIENCE_S)
    while True:
        snapshot = store.lake.snapshot()
        record = provable(compiled, store.lake, layout, table, snapshot=snapshot)
        report = compare(
            layout, record, recompute(compiled, store.lake, layout, record, snapshot=snapshot), shown=SHOWN
        )
        if report.unequal == 0 or not _lags(store, view, report) or not _moves_on(store, snapshot, deadline):
            return report


def _lags(store: FeatureStore, view: FeatureView, report: ProofReport) -> bool:
    """Whether the lake does not have yet what the online values know; it follows the stream by some seconds."""
    if any(each.recomputed_status == "UNPROVABLE" for each in report.differences):
        return True
    source, archived = view.source.name, store.lake.positions(view.source.name)
    records = read_ready(store.redis, store.settings.environment).values()
    reached = [each for record in records for each in record.positions.get(source, {}).items()]
    return any(archived.get(partition, 0) < position for partition, position in reached)


def _moves_on(store: FeatureStore, snapshot: int, deadline: float) -> bool:
    """Wait until the lake has a newer snapshot; False if the time is up."""
    while time.perf_counter() < deadline:
        if store.lake.snapshot() != snapshot:
            return True
        time.sleep(0.2)
    return False


def _judge(view: FeatureView, store: FeatureStore) -> dg.AssetCheckResult:
    rows = newest_entities(store, view)
    if not rows:
        return outcome(passed=True, description="there are no events yet", owner=view.owner)
    try:
        report = online_report(store, view, rows)
    except OnlineStoreError as error:
        return outcome(passed=False, description=str(error), owner=view.owner, metadata=missing("unreadable_views"))
    except UnknownNameError:
        return outcome(passed=True, description="the view is not published yet", owner=view.owner)
    return outcome(
        passed=report.unequal == 0,
        description=f"{report.unequal} of {report.values} values are unequal",
        owner=view.owner,
        metadata=_told(report, personal=view.is_personal),
    )


def _told(report: ProofReport, *, personal: bool) -> dict[str, object]:
    told: dict[str, object] = {
        **stated(
            reference="what the kernel makes of the lake",
            sample_size=report.vectors,
            method="equality of bits, of the entities with the newest events",
            figure=report.unequal,
            limit=0,
        ),
        "entities": report.vectors,
        "compared": report.values,
        "unequal": report.unequal,
        "unknown": report.unknown,
        "stale_unequal": report.stale_unequal,
    }
    if report.differences:
        columns = ("feature", "served", "served_status", "recomputed", "recomputed_status", "run", "n")
        hidden = ("served", "recomputed")
        rows = [
            [masked(getattr(each, column), personal=personal and column in hidden) for column in columns]
            for each in report.differences
        ]
        told["differences"] = dg.MetadataValue.md(table(columns, rows))
    return told


def newest_entities(store: FeatureStore, view: FeatureView) -> list[dict[str, object]]:
    """The join keys of the entities with the newest events, of those that can be asked for."""
    newest = newest_day(store, view.source.name)
    if newest is None:
        return []
    days = Days.up_to(newest.last, LOOKED_DAYS)
    if not view.entity.join_keys:
        return [{}]
    keys = ", ".join(f'"{key}"' for key in view.entity.join_keys)
    known = [f'"{key}" IS NOT NULL' for key in view.entity.join_keys]
    known.append(askable_sql(store.compiled.schemas[view.source.name], [view.entity.join_keys]))
    events = store.lake.events_sql(view.source.name, days=(days.first, days.last), where=" AND ".join(known))
    with store.lake.cursor() as cursor:
        found = cursor.execute(
            f"SELECT {keys} FROM ({events}) GROUP BY {keys} ORDER BY max({TIME}) DESC, {keys} LIMIT {ENTITIES}"
        ).to_arrow_table()
    rows: list[dict[str, object]] = found.to_pylist()
    return rows


def _with_service(compiled: Compiled, service: FeatureService) -> Compiled:
    registry = compiled.registry
    return replace(compiled, registry=Registry(views=registry.views, services=[*registry.services, service]))


def _named_by_view(record: pa.Table, view: FeatureView) -> pa.Table:
    """Features read by `view@version:feature` under the names that a service gives them."""
    names: dict[str, str] = {}
    for feature in view.declared:
        asked, served = f"{view.id}:{feature.name}", f"{view.name}:{feature.name}"
        names |= {of(asked): of(served) for of in (feature_column, status_column)}
    return record.rename_columns([names.get(name, name) for name in record.column_names])
