"""The application: which path is answered by whom, and what all answers have in common."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feature_store.access.audit import AuditLog
from feature_store.clock import SystemClock
from feature_store.reader import AsyncFeatureReader
from feature_store.reader.async_transport import transport_to
from feature_store.reader.given import Declared, functions_of
from feature_store.serving.about import About, State
from feature_store.serving.catalog import CatalogApi
from feature_store.serving.door import Door, Endpoint
from feature_store.serving.guard import Guard
from feature_store.serving.limits import Limits
from feature_store.serving.metrics import Metrics
from feature_store.serving.problem import Problem, answer
from feature_store.serving.published import Published
from feature_store.serving.reads import Reads
from feature_store.serving.site import Site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from feature_store.clock import Clock
    from feature_store.serving.publishing import Publishing

logger = logging.getLogger(__name__)


def build_app(
    url: str,
    *,
    env: str,
    clock: Clock | None = None,
    limits: Limits | None = None,
    state: State | None = None,
    publishing: Publishing | None = None,
    functions: Declared = (),
    keys_required: bool = False,
    audit: AuditLog | None = None,
    dagster_url: str | None = None,
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
        keys_required: whether a key is asked for even if nobody ever made one.
        audit: is told what was answered to whom.
        dagster_url: where people reach Dagster's pages, for links in the catalog.
    """
    state, metrics, limits = state or State(), Metrics(), limits or Limits()
    transport = transport_to(url, timeout_s=limits.store_s)
    published = Published(transport, env)
    now = clock or SystemClock()
    guard = Guard(transport, env, now, is_required=keys_required)
    may_run = functions_of(functions, watch=metrics.ran)
    reader = AsyncFeatureReader(url, env=env, clock=clock, timeout_s=limits.store_s, functions=may_run)
    reads = Reads(reader=reader, published=published, limits=limits, metrics=metrics)
    catalog, site = CatalogApi(published, now, dagster_url), Site()
    about = About(
        published=published, catalog=catalog, guard=guard, env=env, metrics=metrics, state=state, publishing=publishing
    )
    door = Door(guard=guard, metrics=metrics, audit=audit or AuditLog(None))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001
        yield
        if publishing is not None:
            publishing.close()
        door.audit.close()
        await reader.close()
        await published.transport.close()

    def route(path: str, method: str, endpoint: Endpoint, name: str) -> Route:
        return Route(path, door.closed(endpoint, name), methods=[method], name=name)

    def public(path: str, endpoint: Callable[[Request], Awaitable[Response]], name: str) -> Route:
        return Route(path, door.open(endpoint, name), methods=["GET"], name=name)

    taken = [] if publishing is None else [route("/v1/sources/{source}/events", "POST", publishing.events, "publish")]
    read, versioned = "/v1/services/{service}/features", "/v1/services/{service}/versions/{version}/features"
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
            route("/v1/catalog", "GET", catalog.index, "catalog"),
            route("/v1/catalog/freshness", "GET", catalog.freshness, "freshness"),
            route("/v1/catalog/{group}/{name}", "GET", catalog.entry, "catalog_entry"),
            route("/v1/key", "GET", about.key, "key"),
            route("/v1/keys", "GET", about.keys, "keys"),
            route("/metrics", "GET", about.counts, "metrics"),
            route("/openapi.json", "GET", about.openapi, "openapi"),
            public("/catalog", site.start, "page"),
            public("/catalog/{file}", site.file, "page_file"),
            public("/health", about.health, "health"),
            public("/ready", about.ready, "ready"),
            public("/problems/{kind}", about.problem, "problem"),
        ],
        exception_handlers={HTTPException: _unrouted, Exception: _failed},
        lifespan=lifespan,
    )
    app.state.reads, app.state.door = reads, door  # for those who serve them otherwise, too
    return app


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
