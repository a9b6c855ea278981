"""The vocabulary of declarations: plain frozen values, no I/O."""

from feature_store.declare import agg, encode
from feature_store.declare.check import Check
from feature_store.declare.computed import Computed, OnDemand, asked_time, filled, on_demand, request
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
    "Check",
    "Computed",
    "Entity",
    "EventSource",
    "Feature",
    "FeatureRef",
    "FeatureService",
    "FeatureSpec",
    "FeatureView",
    "KeyedView",
    "Label",
    "OnDemand",
    "Ratio",
    "agg",
    "asked_time",
    "dimension",
    "encode",
    "filled",
    "kafka",
    "on_demand",
    "ratio",
    "redis_stream",
    "request",
]
