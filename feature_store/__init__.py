"""A real-time feature store: declare a feature once, train and serve on the same numbers.

Names are imported when they are first used, so a model service that only reads loads no NumPy, pandas or DuckDB.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

# Importing Pandera sets this to "1" if it is unset, for Spark's sake, and from then on PyArrow takes 10:00-05:00 for
# 10:00 UTC. Empty is set and yet not true.
os.environ["PYARROW_IGNORE_TIMEZONE"] = ""

if TYPE_CHECKING:
    from feature_store.clock import Clock, ManualClock, ReplayClock, SystemClock
    from feature_store.declare import agg, encode
    from feature_store.declare.check import Check
    from feature_store.declare.computed import OnDemand, asked_time, filled, on_demand, request
    from feature_store.declare.dimension import dimension
    from feature_store.declare.entity import Entity
    from feature_store.declare.feature import Feature, FeatureRef
    from feature_store.declare.label import Label
    from feature_store.declare.log import kafka, redis_stream
    from feature_store.declare.service import FeatureService, ratio
    from feature_store.declare.source import EventSource
    from feature_store.declare.view import FeatureView
    from feature_store.decoders import json
    from feature_store.errors import (
        DeclarationError,
        FeatureStoreError,
        FunctionFailed,
        InputError,
        LakeError,
        LogError,
        OnlineStoreError,
        SettingsError,
        UnknownNameError,
    )
    from feature_store.history.loading import LoadResult
    from feature_store.history.manifest import Manifest
    from feature_store.history.training import TrainingSet
    from feature_store.lake.store import Lake
    from feature_store.loaders import csv, parquet
    from feature_store.notebook import Distribution, Draft, OverTime
    from feature_store.reader.aio import AsyncFeatureReader
    from feature_store.reader.batch import FeatureBatch
    from feature_store.reader.sync import FeatureReader
    from feature_store.reader.vector import FeatureValue, FeatureVector
    from feature_store.registry import Registry
    from feature_store.settings import Settings
    from feature_store.status import Status
    from feature_store.store import FeatureStore

_MODULES = {
    "feature_store.clock": ("Clock", "ManualClock", "ReplayClock", "SystemClock"),
    "feature_store.declare": ("agg", "encode"),
    "feature_store.declare.check": ("Check",),
    "feature_store.declare.computed": ("OnDemand", "asked_time", "filled", "on_demand", "request"),
    "feature_store.declare.dimension": ("dimension",),
    "feature_store.declare.entity": ("Entity",),
    "feature_store.declare.feature": ("Feature", "FeatureRef"),
    "feature_store.declare.label": ("Label",),
    "feature_store.declare.log": ("kafka", "redis_stream"),
    "feature_store.declare.service": ("FeatureService", "ratio"),
    "feature_store.declare.source": ("EventSource",),
    "feature_store.declare.view": ("FeatureView",),
    "feature_store.decoders": ("json",),
    "feature_store.errors": (
        "DeclarationError",
        "FeatureStoreError",
        "FunctionFailed",
        "InputError",
        "LakeError",
        "LogError",
        "OnlineStoreError",
        "SettingsError",
        "UnknownNameError",
    ),
    "feature_store.history.loading": ("LoadResult",),
    "feature_store.history.manifest": ("Manifest",),
    "feature_store.history.training": ("TrainingSet",),
    "feature_store.lake.store": ("Lake",),
    "feature_store.loaders": ("csv", "parquet"),
    "feature_store.notebook": ("Distribution", "Draft", "OverTime"),
    "feature_store.reader.aio": ("AsyncFeatureReader",),
    "feature_store.reader.batch": ("FeatureBatch",),
    "feature_store.reader.sync": ("FeatureReader",),
    "feature_store.reader.vector": ("FeatureValue", "FeatureVector"),
    "feature_store.registry": ("Registry",),
    "feature_store.settings": ("Settings",),
    "feature_store.status": ("Status",),
    "feature_store.store": ("FeatureStore",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AsyncFeatureReader",
    "Check",
    "Clock",
    "DeclarationError",
    "Distribution",
    "Draft",
    "Entity",
    "EventSource",
    "Feature",
    "FeatureBatch",
    "FeatureReader",
    "FeatureRef",
    "FeatureService",
    "FeatureStore",
    "FeatureStoreError",
    "FeatureValue",
    "FeatureVector",
    "FeatureView",
    "FunctionFailed",
    "InputError",
    "Label",
    "Lake",
    "LakeError",
    "LoadResult",
    "LogError",
    "Manifest",
    "ManualClock",
    "OnDemand",
    "OnlineStoreError",
    "OverTime",
    "Registry",
    "ReplayClock",
    "Settings",
    "SettingsError",
    "Status",
    "SystemClock",
    "TrainingSet",
    "UnknownNameError",
    "agg",
    "asked_time",
    "csv",
    "dimension",
    "encode",
    "filled",
    "json",
    "kafka",
    "on_demand",
    "parquet",
    "ratio",
    "redis_stream",
    "request",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'feature_store' has no attribute '{name}'")
    try:
        module = importlib.import_module(_HOME[name])
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("feature_store"):
            raise
        raise ImportError(f"`{name}` needs more than reading does ({error}): install feature-store[lake]") from error
    found: object = getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
