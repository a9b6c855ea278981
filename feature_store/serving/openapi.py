"""The OpenAPI document: a path for each feature service, with the types of its keys and of its features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from feature_store.serving.media import ARROW, JSON, MSGPACK
from feature_store.serving.problem import KINDS, MEDIA_TYPE
from feature_store.serving.schemas import Schemas, components, list_of, ref, rows_of, vector_of
from feature_store.serving.shapes import ServiceShape, title

if TYPE_CHECKING:
    from feature_store.serving.guard import Caller
    from feature_store.serving.published import Publication

_KEY = "key"
_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key. What an operation takes of its grants is listed beside it.",
}
_TIMES = "Times are text of ISO 8601 in JSON, and MessagePack's timestamp extension in answers of MessagePack."
_SEARCH = {
    "name": "q",
    "in": "query",
    "description": "A text that a service must have in its name, owner, description, keys, inputs or features",
}
_SERVICE = {"name": "service", "in": "path", "required": True}
_GROUP = {"name": "group", "in": "path", "required": True, "description": "views, services or sources"}
_NAME = {"name": "name", "in": "path", "required": True}
_FILE = {"name": "file", "in": "path", "required": True}
_KIND = {"name": "kind", "in": "path", "required": True}
_READ_PROBLEMS = (
    "malformed",
    "too-slow",
    "not-acceptable",
    "value-refused",
    "too-large",
    "unsupported-media-type",
    "invalid",
    "store-unavailable",
    "deadline",
)


def document(found: Publication, *, version: str, env: str, events: Mapping[str, Schemas], caller: Caller) -> Schemas:
    """The document for what is published now, as far as it is described to somebody.

    Args:
        found: services and views.
        version: of this software.
        env: the environment that is served.
        events: source -> schema of its events, of those that are taken.
        caller: who asks.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Feature store",
            "version": version,
            "description": f"Features of the environment '{env}'. Each feature service is a path with its own types. {_TIMES}",
        },
        "paths": {
            path: {method: _guarded(operation, caller) for method, operation in operations.items()}
            for path, operations in (*_paths(found, caller), *_publishes(events))
        },
        "components": {"schemas": components(found, events), "securitySchemes": {_KEY: _SCHEME}},
    }


def _guarded(operation: Schemas, caller: Caller) -> Schemas:
    """An operation with what it takes: `needs`, the grants of a key; without that, it is for everybody."""
    grants = operation.pop("needs", None)
    if grants is None:
        return operation | {"security": []}
    nobody: list[Schemas] = [{}] if caller.key is None else []
    responses = dict(sorted((operation["responses"] | _problems("unauthenticated", "forbidden", "not-local")).items()))
    return operation | {"security": [*nobody, {_KEY: grants}], "responses": responses}


def _publishes(events: Mapping[str, Schemas]) -> Iterator[tuple[str, Schemas]]:
    for name in events:
        yield f"/v1/sources/{name}/events", _publish(name)


def _paths(found: Publication, caller: Caller) -> Iterator[tuple[str, Schemas]]:
    for name, served in found.served.items():
        shapes = [served, *([found.beside[name]] if name in found.beside else [])]
        yield f"/v1/services/{name}/features", _post(f"read_{name}", served, shapes, many=False)
        yield f"/v1/services/{name}/features/batch", _post(f"read_{name}.batch", served, shapes, many=True)
    for shape in found.versions.values():
        number = shape.id.partition("@")[2]
        path, operation = f"/v1/services/{shape.name}/versions/{number}/features", f"read_{shape.name}.v{number}"
        yield path, _post(operation, shape, [shape], many=False)
        yield f"{path}/batch", _post(f"{operation}.batch", shape, [shape], many=True)
    yield (
        "/v1/features",
        {
            "post": {
                "operationId": "get_online_features",
                "summary": "Read any features of many rows",
                "tags": ["features"],
                "requestBody": _body(ref("Listed")),
                "responses": {"200": _batch(ref("Batch")), **_problems("unknown-name", *_READ_PROBLEMS)},
                "needs": [],
            }
        },
    )
    for path, described in _about(caller):
        yield path, {"get": described}


def _about(caller: Caller) -> list[tuple[str, Schemas]]:
    """What is asked for with GET: path and operation."""
    anything, text = {"type": "object"}, {"type": "string"}
    key = {"anyOf": [ref("Key"), ref("NoKey")]}
    freshness = {"type": "object", "additionalProperties": ref("Freshness")}
    return [
        ("/v1/services", _get("list_services", "The feature services", [_SEARCH], tells=list_of("Service"), needs=[])),
        (
            "/v1/services/{service}",
            _get("describe_service", "One feature service", [_SERVICE], "unknown-name", tells=ref("Service"), needs=[]),
        ),
        (
            "/v1/catalog",
            _get(
                "catalog", "Everything that is declared: views, services, sources, entities", tells=anything, needs=[]
            ),
        ),
        ("/v1/catalog/freshness", _get("freshness", "How fresh each view is now", tells=freshness, needs=[])),
        (
            "/v1/catalog/{group}/{name}",
            _get(
                "catalog_entry",
                "How a view, service or source was declared over time, and how the values of a view are distributed",
                [_GROUP, _NAME],
                "unknown-name",
                tells=anything,
                needs=[],
            ),
        ),
        ("/v1/key", _get("describe_key", "The key that is sent: what it may do, and until when", tells=key, needs=[])),
        ("/openapi.json", _get("describe_api", "This document", tells=anything, needs=[])),
        *(
            [("/v1/keys", _get("list_keys", "Who has which key", tells=list_of("Key"), needs=["admin"]))]
            if caller.may.admin
            else []
        ),
        *(
            [
                (
                    "/metrics",
                    _get("metrics", "Counts for Prometheus", tells=text, needs=["metrics"], content="text/plain"),
                )
            ]
            if caller.may.metrics
            else []
        ),
        ("/catalog", _get("page", "The catalog as a web page", tells=text, content="text/html")),
        (
            "/catalog/{file}",
            _get(
                "page_file",
                "A script or a style of that page",
                [_FILE],
                "no-such-path",
                tells=text,
                content="text/javascript",
            ),
        ),
        ("/health", _get("health", "Whether this process runs", tells=ref("Health"))),
        (
            "/ready",
            _get(
                "ready",
                "Whether it can serve: the online store answers, and something is published",
                [],
                "stopping",
                tells=ref("Readiness"),
            ),
        ),
        (
            "/problems/{kind}",
            _get("describe_problem", "What a type of problem means", [_KIND], "unknown-name", tells=ref("ProblemKind")),
        ),
    ]


def _post(operation: str, asked: ServiceShape, answered: Sequence[ServiceShape], *, many: bool) -> Schemas:
    personal = sorted({view for shape in answered for view in shape.personal})
    return {
        "post": {
            "operationId": operation,
            "summary": f"Read {asked.id} for {'many rows' if many else 'one row'}",
            "tags": [asked.name],
            "requestBody": _body(ref((asked.many if many else asked.one).type.__name__)),
            "responses": {
                "200": _batch(rows_of(answered))
                if many
                else {"description": "The vector", "content": _content(vector_of(answered))},
                **_problems("unknown-name", *_READ_PROBLEMS),
            },
            "needs": [f"service:{asked.name}", *(f"personal:{view}" for view in personal)],
        }
    }


def _publish(source: str) -> Schemas:
    problems = _problems(
        "malformed",
        "too-slow",
        "not-acceptable",
        "unknown-name",
        "too-large",
        "unsupported-media-type",
        "invalid",
        "log-full",
        "store-unavailable",
        "log-unavailable",
    )
    return {
        "post": {
            "operationId": f"publish_{source}",
            "summary": f"Publish events of {source}: all of them, or none",
            "tags": [source],
            "requestBody": _body(ref(f"{title(source)}Events")),
            "responses": {
                "200": {"description": "They are in the log", "content": _content(ref("Published"))},
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
    tells: Schemas,
    needs: Sequence[str] | None = None,
    content: str = JSON,
) -> Schemas:
    return {
        "operationId": operation,
        "summary": summary,
        "tags": ["about"],
        "parameters": [parameter | {"schema": {"type": "string"}} for parameter in parameters],
        "responses": {
            "200": {"description": "The answer", "content": {content: {"schema": tells}}},
            **_problems(*problems, "store-unavailable"),
        },
        "needs": needs,
    }


def _body(schema: Schemas) -> Schemas:
    return {"required": True, "content": _content(schema)}


def _batch(rows: Schemas) -> Schemas:
    arrow = {ARROW: {"schema": {"type": "string", "contentMediaType": ARROW}}}
    return {
        "description": "The rows; as Arrow, what was served, and a column for each feature, its status and, if asked for, its event time",
        "content": _content(rows) | arrow,
    }


def _content(schema: Schemas) -> Schemas:
    return {JSON: {"schema": schema}, MSGPACK: {"schema": schema}}


def _problems(*kinds: str) -> Schemas:
    """Answers that are none; that the server failed may be said everywhere."""
    by_status: dict[str, list[str]] = {}
    for kind in (*kinds, "internal"):
        by_status.setdefault(str(KINDS[kind].status), []).append(KINDS[kind].title)
    content = {MEDIA_TYPE: {"schema": ref("ProblemDetails")}}
    return {
        status: {"description": "; ".join(titles), "content": content} for status, titles in sorted(by_status.items())
    }
