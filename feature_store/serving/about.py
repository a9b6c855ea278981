"""What the API says of itself and of what it serves: to each caller, what concerns him."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from feature_store.errors import OnlineStoreError
from feature_store.serving.answers import Health, Key, ProblemKind, Readiness, Service
from feature_store.serving.error_rate import ErrorRate
from feature_store.serving.freshness import freshness_now
from feature_store.serving.media import JSON
from feature_store.serving.metrics import CONTENT_TYPE, Metrics, freshness_text
from feature_store.serving.openapi import document
from feature_store.serving.problem import KINDS, Problem
from feature_store.time_rule import from_us

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from feature_store.access.keys import ApiKey
    from feature_store.catalog.document import ServiceEntry
    from feature_store.serving.catalog import CatalogApi
    from feature_store.serving.guard import Caller, Guard
    from feature_store.serving.published import Publication, Published
    from feature_store.serving.publishing import Publishing
    from feature_store.serving.shapes import ServiceShape


class State:
    """Whether a server takes requests still."""

    draining = False


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the API says of itself and of what it serves."""

    published: Published
    catalog: CatalogApi
    guard: Guard
    env: str
    metrics: Metrics
    state: State
    publishing: Publishing | None
    errors: ErrorRate = field(default_factory=ErrorRate)

    async def services(self, request: Request, caller: Caller) -> Response:
        """All services that he may know, or those that have a text in their name, owner, description or one of their columns."""
        wanted = request.query_params.get("q", "").lower()
        found, declared = (await self.published.now()).for_whom(caller), await self._declared()
        told = [_described(shape, found, declared) for shape in found.served.values()]
        return _json([each for each in told if any(wanted in text.lower() for text in _texts(each))])

    async def service(self, request: Request, caller: Caller) -> Response:
        """One service."""
        caller.what = name = request.path_params["service"]
        return _json(_described(*await self.published.described(name, caller), await self._declared()))

    async def _declared(self) -> dict[str, ServiceEntry]:
        """What the catalog says of services, by `name@version`."""
        return {each.id: each for each in (await self.catalog.now()).services}

    async def key(self, request: Request, caller: Caller) -> Response:  # noqa: ARG002
        """The key that was sent, without its secret."""
        return _json({} if caller.key is None else self._told(caller.key))

    async def keys(self, request: Request, caller: Caller) -> Response:  # noqa: ARG002
        """All keys that are not revoked, without their secrets."""
        caller.needs("admin", has=caller.may.admin)
        keyring = await self.guard.keyring()
        return _json([self._told(key) for key in sorted(keyring.keys.values(), key=lambda key: key.created_us)])

    async def counts(self, request: Request, caller: Caller) -> Response:  # noqa: ARG002
        """Prometheus' text format."""
        caller.needs("metrics", has=caller.may.metrics)
        counted = self.metrics.text()
        failed = self.errors.text(counted, at_s=time.monotonic())
        return Response(counted + failed + await self._freshness(), media_type=CONTENT_TYPE)

    async def _freshness(self) -> bytes:
        """How fresh all views are, which no process counts; nothing of them while Redis does not answer."""
        try:
            views = (await self.published.now()).views
            found = await freshness_now(views, self.published.transport, env=self.env, now_us=self.guard.clock.now_us())
        except OnlineStoreError:
            return b""
        return freshness_text(found)

    async def openapi(self, request: Request, caller: Caller) -> Response:  # noqa: ARG002
        """The document for what is published now, as far as it concerns him."""
        found = (await self.published.now()).for_whom(caller)
        events = {} if self.publishing is None else self.publishing.schemas(caller)
        return _json(document(found, version=version("feature-store"), env=self.env, events=events, caller=caller))

    async def health(self, request: Request) -> Response:  # noqa: ARG002
        """The process runs."""
        return _json(Health(status="ok"))

    async def ready(self, request: Request) -> Response:  # noqa: ARG002
        """Redis answers, something is published and keys are known; not while the server is about to stop."""
        if self.state.draining:
            raise Problem("stopping", "this server is about to stop", headers={"Retry-After": "1"})
        await self.published.now()
        await self.guard.keyring()
        await self.published.ask()
        return _json(Readiness(status="ready", environment=self.env))

    async def problem(self, request: Request) -> Response:
        """What a type of problem means."""
        kind = request.path_params["kind"]
        if kind not in KINDS:
            raise Problem("unknown-name", f"there is no problem '{kind}'", {"name": kind, "known": sorted(KINDS)})
        return _json(ProblemKind(**KINDS[kind]._asdict()))

    def _told(self, key: ApiKey) -> Key:
        return Key(
            id=key.id,
            name=key.name,
            grants=key.grants,
            state=key.state(self.guard.clock.now_us()),
            created=from_us(key.created_us),
            expires=None if key.expires_us is None else from_us(key.expires_us),
        )


def _described(shape: ServiceShape, found: Publication, declared: Mapping[str, ServiceEntry]) -> Service:
    entry, layout = declared.get(shape.id), shape.layout
    return Service(
        name=shape.name,
        id=shape.id,
        versions=found.versions_of(shape.name),
        owner=None if entry is None else entry.owner,
        description="" if entry is None else entry.description,
        keys=dict(shape.keys),
        inputs=dict(shape.inputs),
        features=dict(shape.features),
        defaults=layout.defaults,
        on_stale=layout.on_stale,
        on_ahead=layout.on_ahead,
    )


def _texts(told: Service) -> list[str]:
    """What a service is found by."""
    return [*told.versions, told.owner or "", told.description, *told.keys, *told.inputs, *told.features]


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type=JSON)
