"""Reads feature vectors: needs Redis, an environment and a service's name, and nothing heavier."""

from feature_store.reader.aio import AsyncFeatureReader
from feature_store.reader.batch import FeatureBatch
from feature_store.reader.sync import FeatureReader
from feature_store.reader.vector import FeatureValue, FeatureVector, Provenance
from feature_store.status import Status

__all__ = [
    "AsyncFeatureReader",
    "FeatureBatch",
    "FeatureReader",
    "FeatureValue",
    "FeatureVector",
    "Provenance",
    "Status",
]
