"""Assets of served vectors: what readers have logged, brought to the lake, a service each."""

from typing import Any

import dagster as dg
from feature_store_deploy.assets.declared import owners, service_version
from feature_store_deploy.assets.keys import online_key, served_vectors_key
from feature_store_deploy.assets.results import preview

from feature_store.declare import FeatureService
from feature_store.proof.served_archive import ServedArchiver
from feature_store.proof.served_log import SERVED, SERVICE
from feature_store.proof.served_table import SERVED_TABLE
from feature_store.registry import Registry
from feature_store.store import FeatureStore
from feature_store.time_rule import from_us


def build_served_asset(service: FeatureService, registry: Registry, *, env: str) -> dg.AssetsDefinition:
    """The asset of a service's served vectors."""
    views = {read.view.id: read.view for read in registry.reads(registry.resolve(service))}

    @dg.asset(
        key=served_vectors_key(env, service),
        deps=[online_key(env, view) for _, view in sorted(views.items())],
        group_name="services",
        owners=owners(service.owner),
        kinds={"redis", "ducklake"},
        description=f"A sample of what readers of '{service.id}' served: of {service.log_rate:.1%} of the entities",
        code_version=service_version(service, registry),
    )
    def served_vectors(feature_store: dg.ResourceParam[FeatureStore]) -> dg.MaterializeResult:
        archive_served(feature_store)
        return dg.MaterializeResult(
            metadata=_told(feature_store, service, personal=any(view.is_personal for view in views.values()))
        )

    return served_vectors


def archive_served(store: FeatureStore) -> None:
    """Append what readers have logged, of all services, and merge the small files that this leaves."""
    archiver = ServedArchiver(store.compiled, store.lake, store.redis, store.settings.environment)
    while archiver.step():
        pass
    if store.lake.exists(SERVED_TABLE):
        store.lake.upkeep.compact(SERVED_TABLE)


def _told(store: FeatureStore, service: FeatureService, *, personal: bool) -> dict[str, Any]:
    if not store.lake.exists(SERVED_TABLE):
        return {"vectors": 0}
    mine = f"{store.lake.table_sql(SERVED_TABLE)} WHERE {SERVICE} = '{service.id}'"
    cursor = store.lake.cursor()
    try:
        row = cursor.execute(f"SELECT count(*), max({SERVED}) FROM {mine}").fetchone()
    finally:
        cursor.close()
    count, newest_us = row or (0, None)
    told: dict[str, object] = {"vectors": count, "dagster/row_count": count, "snapshot_id": store.lake.snapshot()}
    if newest_us is not None:
        told["newest"] = from_us(newest_us).isoformat()
        told["preview"] = preview(store, f"SELECT * FROM {mine} ORDER BY {SERVED} DESC", personal=personal)
    return told
