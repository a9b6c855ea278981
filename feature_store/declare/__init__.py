"""The vocabulary of declarations: plain frozen values, no I/O."""

from feature_store.declare import agg
from feature_store.declare.dimension import dimension
from feature_store.declare.entity import Entity
from feature_store.declare.feature import Feature, FeatureRef, FeatureSpec, Ratio
from feature_store.declare.keyed import KeyedView
from feature_store.declare.label import Label
from feature_store.declare.log import kafka, redis_stream
from feature_store.declare.service import FeatureService, ratio
from feature_store.declare.source import EventSource
from feature_store.declare.view import FeatureView

__all__ = [
    "Entity",
    "EventSource",
    "Feature",
    "FeatureRef",
    "FeatureService",
    "FeatureSpec",
    "FeatureView",
    "KeyedView",
    "Label",
    "Ratio",
    "agg",
    "dimension",
    "kafka",
    "ratio",
    "redis_stream",
]
