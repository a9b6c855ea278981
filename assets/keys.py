"""What things are called in Dagster: the environment stands before every key, so environments never meet."""

import dagster as dg

from feature_store.catalog import names
from feature_store.declare import EventSource, FeatureService, FeatureView


def source_key(env: str, source: EventSource) -> dg.AssetKey:
    """Where the history of a source is."""
    return dg.AssetKey([env, *names.source_path(source)])


def service_key(env: str, service: FeatureService) -> dg.AssetKey:
    """What a model asks for."""
    return dg.AssetKey([env, *names.service_path(service)])


def events_key(env: str, source: EventSource) -> dg.AssetKey:
    """The events of a source in the lake."""
    return dg.AssetKey([env, *names.events_path(source)])


def history_key(env: str, view: FeatureView) -> dg.AssetKey:
    """What a view keeps in the lake: rows of a batch view, tiles of any other."""
    return dg.AssetKey([env, *names.history_path(view)])


def online_key(env: str, view: FeatureView) -> dg.AssetKey:
    """A view's values in Redis."""
    return dg.AssetKey([env, *names.online_path(view)])


def training_key(env: str, service: FeatureService) -> dg.AssetKey:
    """The training set of a service."""
    return dg.AssetKey([env, *names.training_path(service)])


def served_vectors_key(env: str, service: FeatureService) -> dg.AssetKey:
    """What readers of a service were served."""
    return dg.AssetKey([env, *names.served_vectors_path(service)])


def stream_key(env: str, source: EventSource) -> dg.AssetKey:
    """The live events of a source, on their way to the online values."""
    return dg.AssetKey([env, "stream", source.name])


def maintenance_key(env: str) -> dg.AssetKey:
    """The lake, kept small."""
    return dg.AssetKey([env, "lake", "maintenance"])


def housekeeping_key(env: str, task: str) -> dg.AssetKey:
    """A task of housekeeping."""
    return dg.AssetKey([env, "housekeeping", task])


def costs_key(env: str) -> dg.AssetKey:
    """What features take up, and who reads them."""
    return dg.AssetKey([env, "housekeeping", "costs"])


def statistics_key(env: str) -> dg.AssetKey:
    """What the catalog tells of values."""
    return dg.AssetKey([env, "catalog", "statistics"])


def op_name(key: dg.AssetKey) -> str:
    """A key as the name of a step or a schedule."""
    return "__".join(key.path)
