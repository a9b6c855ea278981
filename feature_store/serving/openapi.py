"""The OpenAPI document: a path for each feature service, with the types of its keys and of its features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from feature_store.serving.media import ARROW, JSON, MSGPACK
from feature_store.serving.problem import KINDS, MEDIA_TYPE
from feature_store.serving.shapes import Listed, ServiceShape, StatusName

if TYPE_CHECKING:
    from feature_store.serving.guard import Caller
    from feature_store.serving.published import Publication

Schemas = dict[str, Any]
_KEY = "key"
_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key. What an operation takes of its grants is listed beside it.",
}
_SEARCH = {"name": "q", "in": "query", "description": "A text that a service must have somewhere"}
_SERVICE = {"name": "service", "in": "path", "required": True}
_GROUP = {"name": "group", "in": "path", "required": True, "description": "views, services or sources"}
_NAME = {"name": "name", "in": "path", "required": True}
_FILE = {"name": "file", "in": "path", "required": True}
_KIND = {"name": "kind", "in": "path", "required": True}
_REFS = "#/components/schemas/{name}"
_READ_PROBLEMS = (
    "malformed",
    "not-acceptable",
    "value-refused",
    "too-large",
    "unsupported-media-type",
    "invalid",
    "store-unavailable",
    "deadline",
)


class Row(msgspec.Struct, kw_only=True):
    """One row of an answer; `features` of the answer names the values of its service."""

    service: str
    values: list[Any]
    statuses: list[StatusName]
    event_times: list[str | None] | msgspec.UnsetType = msgspec.UNSET


class Batch(msgspec.Struct, kw_only=True):
    """The rows of a read, in the order in which they were asked for."""

    features: Annotated[
        dict[str, list[str]],
        msgspec.Meta(description="`name@version` of what was served -> its features, in the order of `values`"),
    ]
    rows: list[Row]


class ProblemDetails(msgspec.Struct, kw_only=True):
    """RFC 9457; the type is a path of this server that explains it."""

    type: str
    title: str
    status: int
    detail: str


class Place(msgspec.Struct, kw_only=True):
    """Where an event stands in the log."""

    partition: int
    offset: str


class Published(msgspec.Struct, kw_only=True):
    """The places of events, in their order."""

    positions: list[Place]


def document(found: Publication, *, version: str, env: str, events: Mapping[str, Schemas], caller: Caller) -> Schemas:
    """The document for what is published now, as far as it is described to somebody.

    Args:
        found: services and views.
        version: of this software.
        env: the environment that is served.
        events: source -> schema of its events, of those that are taken.
        caller: who asks.
    """
    shapes = [*found.versions.values()]
    types: list[Any] = [Listed, Batch, ProblemDetails, *([Published] if events else [])]
    for shape in shapes:
        types += [shape.one.type, shape.many.type, shape.values, shape.statuses]
    _, components = msgspec.json.schema_components(types, ref_template=_REFS)
    for shape in shapes:
        components[_vector_name(shape)] = _vector(shape)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Feature store",
            "version": version,
            "description": f"Features of the environment '{env}'. Each feature service is a path with its own types.",
        },
        "paths": {
            path: {method: _guarded(operation, caller) for method, operation in operations.items()}
            for path, operations in (*_paths(found, caller), *_publishes(events))
        },
        "components": {"schemas": components, "securitySchemes": {_KEY: _SCHEME}},
    }


def _guarded(operation: Schemas, caller: Caller) -> Schemas:
    """An operation with what it takes: `needs`, the grants of a key; without that, it is for everybody."""
    grants = operation.pop("needs", None)
    if grants is None:
        return operation | {"security": []}
    nobody: list[Schemas] = [{}] if caller.key is None else []
    responses = dict(sorted((operation["responses"] | _problems("unauthenticated", "forbidden")).items()))
    return operation | {"security": [*nobody, {_KEY: grants}], "responses": responses}


def _publishes(events: Mapping[str, Schemas]) -> Iterator[tuple[str, Schemas]]:
    for name, event in events.items():
        yield f"/v1/sources/{name}/events", _publish(name, event)


def _paths(found: Publication, caller: Caller) -> Iterator[tuple[str, Schemas]]:
    for name, served in found.served.items():
        shapes = [served, *([found.beside[name]] if name in found.beside else [])]
        yield f"/v1/services/{name}/features", _post(f"read_{name}", served, shapes, many=False)
        yield f"/v1/services/{name}/features/batch", _post(f"read_{name}_batch", served, shapes, many=True)
    for shape in found.versions.values():
        number = shape.id.partition("@")[2]
        path, operation = f"/v1/services/{shape.name}/versions/{number}/features", f"read_{shape.name}_v{number}"
        yield path, _post(operation, shape, [shape], many=False)
        yield f"{path}/batch", _post(f"{operation}_batch", shape, [shape], many=True)
    yield (
        "/v1/features",
        {
            "post": {
                "operationId": "read_features",
                "summary": "Read any features of many rows",
                "tags": ["features"],
                "requestBody": _body(_ref("Listed")),
                "responses": {"200": _batch(), **_problems("unknown-name", *_READ_PROBLEMS)},
                "needs": [],
            }
        },
    )
    for path, described in _about(caller):
        yield path, {"get": described}


def _about(caller: Caller) -> list[tuple[str, Schemas]]:
    """What is asked for with GET: path and operation."""
    return [
        (
            "/v1/services",
            _get("list_services", "The feature services, with their keys and features", [_SEARCH], needs=[]),
        ),
        (
            "/v1/services/{service}",
            _get("describe_service", "One feature service", [_SERVICE], "unknown-name", needs=[]),
        ),
        ("/v1/catalog", _get("catalog", "Everything that is declared: views, services, sources, entities", needs=[])),
        ("/v1/catalog/freshness", _get("freshness", "How fresh each view is now", needs=[])),
        (
            "/v1/catalog/{group}/{name}",
            _get(
                "catalog_entry",
                "How a view, service or source was declared over time, and how the values of a view are distributed",
                [_GROUP, _NAME],
                "unknown-name",
                needs=[],
            ),
        ),
        ("/v1/key", _get("describe_key", "The key that is sent: what it may do, and until when", needs=[])),
        ("/openapi.json", _get("describe_api", "This document", needs=[])),
        *([("/v1/keys", _get("list_keys", "Who has which key", needs=["admin"]))] if caller.may.admin else []),
        *(
            [("/metrics", _get("metrics", "Counts for Prometheus", needs=["metrics"], content="text/plain"))]
            if caller.may.metrics
            else []
        ),
        ("/catalog", _get("page", "The catalog as a web page", content="text/html")),
        (
            "/catalog/{file}",
            _get("page_file", "A script or a style of that page", [_FILE], "no-such-path", content="text/javascript"),
        ),
        ("/health", _get("health", "Whether this process runs")),
        ("/ready", _get("ready", "Whether it can serve: the online store answers, and something is published")),
        ("/problems/{kind}", _get("describe_problem", "What a type of problem means", [_KIND], "unknown-name")),
    ]


def _post(operation: str, asked: ServiceShape, answered: Sequence[ServiceShape], *, many: bool) -> Schemas:
    vectors = [_ref(_vector_name(shape)) for shape in answered]
    personal = sorted({view for shape in answered for view in shape.personal})
    one = {"description": "The vector", "content": _content(vectors[0] if len(vectors) == 1 else {"oneOf": vectors})}
    return {
        "post": {
            "operationId": operation,
            "summary": f"Read {asked.id} for {'many rows' if many else 'one row'}",
            "tags": [asked.name],
            "requestBody": _body(_ref((asked.many if many else asked.one).type.__name__)),
            "responses": {"200": _batch() if many else one, **_problems("unknown-name", *_READ_PROBLEMS)},
            "needs": [f"service:{asked.name}", *(f"personal:{view}" for view in personal)],
        }
    }


def _publish(source: str, event: Schemas) -> Schemas:
    body = {
        "type": "object",
        "properties": {"events": {"type": "array", "minItems": 1, "items": event}},
        "required": ["events"],
    }
    problems = _problems(
        "malformed", "unknown-name", "too-large", "unsupported-media-type", "invalid", "log-full", "store-unavailable"
    )
    return {
        "post": {
            "operationId": f"publish_{source}",
            "summary": f"Publish events of {source}: all of them, or none",
            "tags": [source],
            "requestBody": _body(body),
            "responses": {
                "200": {"description": "They are in the log", "content": _content(_ref("Published"))},
                **problems,
            },
            "needs": [f"source:{source}"],
        }
    }


def _get(
    operation: str,
    summary: str,
    parameters: Sequence[Schemas] = (),
    *problems: str,
    needs: Sequence[str] | None = None,
    content: str = JSON,
) -> Schemas:
    return {
        "operationId": operation,
        "summary": summary,
        "tags": ["about"],
        "parameters": [parameter | {"schema": {"type": "string"}} for parameter in parameters],
        "responses": {
            "200": {"description": "The answer", "content": {content: {"schema": {}}}},
            **_problems(*problems, "store-unavailable"),
        },
        "needs": needs,
    }


def _vector(shape: ServiceShape) -> Schemas:
    times = {"type": "object", "additionalProperties": {"type": ["string", "null"], "format": "date-time"}}
    return {
        "title": _vector_name(shape),
        "type": "object",
        "properties": {
            "service": {"const": shape.id},
            "values": _ref(shape.values.__name__),
            "statuses": _ref(shape.statuses.__name__),
            "event_times": times,
        },
        "required": ["service", "values", "statuses"],
    }


def _vector_name(shape: ServiceShape) -> str:
    return shape.values.__name__.removesuffix("Values") + "Vector"


def _body(schema: Schemas) -> Schemas:
    return {"required": True, "content": _content(schema)}


def _batch() -> Schemas:
    arrow = {ARROW: {"schema": {"type": "string", "contentMediaType": ARROW}}}
    return {
        "description": "The rows; as Arrow, a column for each feature and one for its status",
        "content": _content(_ref("Batch")) | arrow,
    }


def _content(schema: Schemas) -> Schemas:
    return {JSON: {"schema": schema}, MSGPACK: {"schema": schema}}


def _problems(*kinds: str) -> Schemas:
    by_status: dict[str, list[str]] = {}
    for kind in kinds:
        by_status.setdefault(str(KINDS[kind].status), []).append(KINDS[kind].title)
    content = {MEDIA_TYPE: {"schema": _ref("ProblemDetails")}}
    return {
        status: {"description": "; ".join(titles), "content": content} for status, titles in sorted(by_status.items())
    }


def _ref(name: str) -> Schemas:
    return {"$ref": _REFS.format(name=name)}
