"""The schemas of the OpenAPI document: of what every request and answer may be, and of each service and source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from feature_store.serving.answers import (
    Batch,
    Health,
    Key,
    ProblemDetails,
    ProblemKind,
    Published,
    Readiness,
    Service,
    StatusName,
)
from feature_store.serving.freshness import Freshness
from feature_store.serving.shapes import Listed, ServiceShape, title

if TYPE_CHECKING:
    from feature_store.serving.published import Publication

Schemas = dict[str, Any]
_REFS = "#/components/schemas/{name}"
_TIME = {"type": ["string", "null"], "format": "date-time"}
_SHARED = {
    "EventTimes": {
        "title": "EventTimes",
        "description": "Feature -> when the newest event happened that its value knows",
        "type": "object",
        "additionalProperties": _TIME,
    },
    "FeatureNames": {
        "title": "FeatureNames",
        "description": "`name@version` of what was served -> its features, in the order of `values`",
        "type": "object",
        "additionalProperties": {"type": "array", "items": {"type": "string"}},
    },
    "NoKey": {"title": "NoKey", "description": "None is asked for", "type": "object", "maxProperties": 0},
}


def components(found: Publication, events: Mapping[str, Schemas]) -> Schemas:
    """All types by their names.

    Args:
        found: services and views.
        events: source -> schema of its events, of those that are taken.
    """
    types: list[Any] = [
        Listed,
        Batch,
        StatusName,
        ProblemDetails,
        ProblemKind,
        Service,
        Key,
        Health,
        Readiness,
        Freshness,
    ]
    types += [Published] if events else []
    for shape in found.versions.values():
        types += [shape.one.type, shape.many.type, shape.values, shape.statuses]
    _, schemas = msgspec.json.schema_components(types, ref_template=_REFS)
    for shape in found.versions.values():
        schemas |= _answers(shape, list(schemas[shape.values.__name__]["properties"].values()))
    for name, shape in found.beside.items():
        schemas[f"{title(name)}Batch"] = _batch_of(f"{title(name)}Batch", [found.served[name], shape])
    for name, event in events.items():
        schemas |= _events(title(name), event)
    return schemas | _SHARED


def _answers(shape: ServiceShape, columns: Sequence[Schemas]) -> Schemas:
    """The types of what a version of a service answers: a vector; rows, whose values stand in the order of the features."""
    called, service, count = _called(shape), {"const": shape.id}, len(columns)
    size = {"minItems": count, "maxItems": count}
    vector = {
        "service": service,
        "values": ref(shape.values.__name__),
        "statuses": ref(shape.statuses.__name__),
        "event_times": ref("EventTimes"),
    }
    row = {
        "service": service,
        "values": {"type": "array", "prefixItems": columns, **size},
        "statuses": {"type": "array", "items": ref(StatusName.__name__), **size},
        "event_times": {"type": "array", "items": _TIME, **size},
    }
    return {
        f"{called}Vector": _object(f"{called}Vector", vector, optional=["event_times"]),
        f"{called}BatchRow": _object(f"{called}BatchRow", row, optional=["event_times"]),
        f"{called}Batch": _batch_of(f"{called}Batch", [shape]),
    }


def _batch_of(name: str, answered: Sequence[ServiceShape]) -> Schemas:
    """Rows of a version or, while a service is split, of either."""
    rows = _one_of([ref(f"{_called(shape)}BatchRow") for shape in answered])
    return _object(name, {"features": ref("FeatureNames"), "rows": {"type": "array", "items": rows}})


def rows_of(answered: Sequence[ServiceShape]) -> Schemas:
    """The answer for many rows of a version or, while a service is split, of two."""
    return ref(f"{_called(answered[0]) if len(answered) == 1 else title(answered[0].name)}Batch")


def vector_of(answered: Sequence[ServiceShape]) -> Schemas:
    """The answer for one row."""
    return _one_of([ref(f"{_called(shape)}Vector") for shape in answered])


def _events(called: str, event: Schemas) -> Schemas:
    """The types of a source's events."""
    some = {"type": "array", "minItems": 1, "items": ref(f"{called}Event")}
    return {
        f"{called}Event": {"title": f"{called}Event", **event},
        f"{called}Events": _object(f"{called}Events", {"events": some}) | {"additionalProperties": False},
    }


def _called(shape: ServiceShape) -> str:
    return title(shape.name, shape.id.partition("@")[2])


def _object(name: str, properties: Schemas, *, optional: Sequence[str] = ()) -> Schemas:
    required = [each for each in properties if each not in optional]
    return {"title": name, "type": "object", "properties": properties, "required": required}


def _one_of(schemas: Sequence[Schemas]) -> Schemas:
    return schemas[0] if len(schemas) == 1 else {"oneOf": list(schemas)}


def list_of(name: str) -> Schemas:
    """Many of a named type."""
    return {"type": "array", "items": ref(name)}


def ref(name: str) -> Schemas:
    """A named type."""
    return {"$ref": _REFS.format(name=name)}
