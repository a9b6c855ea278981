"""The application: which path is answered by whom, and what all answers have in common."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from feature_store.errors import FeatureStoreError
from feature_store.reader import AsyncFeatureReader
from feature_store.reader.async_transport import transport_to
from feature_store.reader.given import Declared, functions_of
from feature_store.serving.media import JSON
from feature_store.serving.metrics import CONTENT_TYPE, Metrics
from feature_store.serving.openapi import document
from feature_store.serving.problem import KINDS, Problem, answer, problem_of
from feature_store.serving.published import Published
from feature_store.serving.reads import Limits, Reads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from feature_store.clock import Clock
    from feature_store.serving.publishing import Publishing
    from feature_store.serving.shapes import ServiceShape

logger = logging.getLogger(__name__)

Endpoint = Callable[["Request"], Awaitable[Response]]


class State:
    """Whether a server takes requests still."""

    draining = False


def build_app(
    url: str,
    *,
    env: str,
    clock: Clock | None = None,
    limits: Limits | None = None,
    state: State | None = None,
    publishing: Publishing | None = None,
    functions: Declared = (),
) -> Starlette:
    """The API over one environment.

    Args:
        url: of Redis.
        env: the environment.
        clock: what `now` is.
        limits: what a request may ask for.
        state: told by the server when it is about to stop.
        publishing: takes events; none are taken without it.
        functions: on-demand features whose functions it may run, as for a reader.
    """
    state, metrics, limits = state or State(), Metrics(), limits or Limits()
    published = Published(transport_to(url, timeout_s=limits.store_s), env)
    may_run = functions_of(functions, watch=metrics.ran)
    reader = AsyncFeatureReader(url, env=env, clock=clock, timeout_s=limits.store_s, functions=may_run)
    reads = Reads(reader=reader, published=published, limits=limits, metrics=metrics)
    about = _About(published, env, metrics, state, publishing)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001
        yield
        await reader.close()
        await published.transport.close()

    def route(path: str, method: str, endpoint: Endpoint, name: str) -> Route:
        return Route(path, _answering(endpoint, name, metrics), methods=[method], name=name)

    taken = [] if publishing is None else [route("/v1/sources/{source}/events", "POST", publishing.events, "publish")]
    read, versioned = "/v1/services/{service}/features", "/v1/services/{service}/versions/{version:int}/features"
    app = Starlette(
        routes=[
            route(read, "POST", reads.one, "read"),
            route(f"{read}/batch", "POST", reads.many, "read_batch"),
            route(versioned, "POST", reads.one, "read_version"),
            route(f"{versioned}/batch", "POST", reads.many, "read_version_batch"),
            route("/v1/features", "POST", reads.listed, "read_features"),
            *taken,
            route("/v1/services", "GET", about.services, "services"),
            route("/v1/services/{service}", "GET", about.service, "service"),
            route("/health", "GET", about.health, "health"),
            route("/ready", "GET", about.ready, "ready"),
            route("/metrics", "GET", about.metrics, "metrics"),
            route("/openapi.json", "GET", about.openapi, "openapi"),
            route("/problems/{kind}", "GET", about.problem, "problem"),
        ],
        exception_handlers={HTTPException: _unrouted, Exception: _failed},
        lifespan=lifespan,
    )
    app.state.reads = reads  # for those who serve them otherwise, too
    return app


def _answering(endpoint: Endpoint, name: str, metrics: Metrics) -> Endpoint:
    """An endpoint whose problems are answers, and whose answers are counted."""

    async def call(request: Request) -> Response:
        try:
            response = await endpoint(request)
        except Problem as problem:
            response = answer(problem)
        except Exception:
            metrics.answered(name, 500)
            raise
        metrics.answered(name, response.status_code)
        return response

    return call


async def _unrouted(request: Request, error: Exception) -> Response:
    headers = getattr(error, "headers", None) or {}
    if getattr(error, "status_code", 404) == 405:
        allowed = headers.get("Allow", "another method")
        return answer(
            Problem("wrong-method", f"{request.url.path} takes {allowed}, got {request.method}", headers=headers)
        )
    return answer(Problem("no-such-path", f"there is nothing at {request.url.path}; /openapi.json lists what there is"))


async def _failed(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer(Problem("internal", "the server failed to answer; its log says why"))


class _About:
    """What the API says of itself and of what it serves."""

    def __init__(
        self, published: Published, env: str, metrics: Metrics, state: State, publishing: Publishing | None
    ) -> None:
        self._published, self._env, self._metrics, self._state = published, env, metrics, state
        self._events = {} if publishing is None else publishing.schemas()

    async def services(self, request: Request) -> Response:
        """All services, or those that have what is searched for in their name, keys or features."""
        wanted = request.query_params.get("q", "").lower()
        try:
            found = await self._published.now()
        except FeatureStoreError as error:
            raise problem_of(error) from error
        told = [
            _described(shape, [v.id for v in found.versions.values() if v.name == shape.name])
            for shape in found.served.values()
        ]
        return _json([each for each in told if wanted in msgspec.json.encode(each).decode().lower()])

    async def service(self, request: Request) -> Response:
        """One service."""
        name = request.path_params["service"]
        try:
            shape = await self._published.shape(name)
            found = await self._published.now()
        except FeatureStoreError as error:
            raise problem_of(error) from error
        return _json(_described(shape, [v.id for v in found.versions.values() if v.name == shape.name]))

    async def health(self, request: Request) -> Response:  # noqa: ARG002
        """The process runs."""
        return _json({"status": "ok"})

    async def ready(self, request: Request) -> Response:  # noqa: ARG002
        """Redis answers and something is published; not while the server is about to stop."""
        if self._state.draining:
            raise Problem("store-unavailable", "this server is about to stop", headers={"Retry-After": "1"})
        try:
            found = await self._published.now()
            await self._published.ask()
        except FeatureStoreError as error:
            raise problem_of(error) from error
        return _json({"status": "ready", "environment": self._env, "services": len(found.served)})

    async def metrics(self, request: Request) -> Response:  # noqa: ARG002
        """Prometheus' text format."""
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:  # noqa: ARG002
        """The document for what is published now."""
        try:
            found = await self._published.now()
        except FeatureStoreError as error:
            raise problem_of(error) from error
        return _json(document(found, version=version("feature-store"), env=self._env, events=self._events))

    async def problem(self, request: Request) -> Response:
        """What a type of problem means."""
        kind = request.path_params["kind"]
        if kind not in KINDS:
            raise Problem("unknown-name", f"there is no problem '{kind}'", {"name": kind, "known": sorted(KINDS)})
        return _json(KINDS[kind]._asdict())


def _described(shape: ServiceShape, versions: list[str]) -> dict[str, Any]:
    return {
        "name": shape.name,
        "id": shape.id,
        "versions": versions,
        "keys": shape.keys,
        "inputs": shape.inputs,
        "features": shape.features,
    }


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type=JSON)
