"""What the parts of a deployment are called among Dagster's assets, without the environment that stands before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feature_store.declare.service import FeatureService
    from feature_store.declare.source import EventSource
    from feature_store.declare.view import FeatureView

Path = tuple[str, ...]


def source_path(source: EventSource) -> Path:
    """Where the history of a source is."""
    return "sources", source.name


def service_path(service: FeatureService) -> Path:
    """What a model asks for."""
    return "services", versioned(service.name, service.version)


def events_path(source: EventSource) -> Path:
    """The events of a source in the lake."""
    return "events", source.name


def history_path(view: FeatureView) -> Path:
    """What a view keeps in the lake: rows of a batch view, tiles of any other."""
    return "rows" if view.is_batch else "tiles", versioned(view.name, view.version)


def online_path(view: FeatureView) -> Path:
    """A view's values in Redis."""
    return "online", versioned(view.name, view.version)


def training_path(service: FeatureService) -> Path:
    """The training set of a service."""
    return "training", versioned(service.name, service.version)


def served_vectors_path(service: FeatureService) -> Path:
    """What readers of a service were served."""
    return "served", versioned(service.name, service.version)


def versioned(name: str, version: int) -> str:
    """The name of a version: the first one is called by the bare name, for ever."""
    return name if version == 1 else f"{name}_v{version}"
