"""The catalog over HTTP: what is declared, how it came to be so, and how fresh it is; to each caller, what concerns him."""

from __future__ import annotations

import asyncio
import hashlib
import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import msgspec
from starlette.responses import Response

from feature_store.catalog.document import DECLARED, Catalog, history_field, unpack_catalog, unpack_history
from feature_store.catalog.history import versions
from feature_store.errors import OnlineStoreError, UnknownNameError
from feature_store.online.keys import catalog_key, statistics_key
from feature_store.serving.described import Seen, is_seen, seen_by
from feature_store.serving.freshness import freshness_now
from feature_store.serving.media import JSON
from feature_store.serving.published import AGE_S
from feature_store.untrusted import decoded

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from feature_store.access.grants import Allowed
    from feature_store.catalog.history import Version
    from feature_store.clock import Clock
    from feature_store.serving.guard import Caller
    from feature_store.serving.published import Publication, Published

GROUPS = {"views": "view", "services": "service", "sources": "source"}
"""Part of a path -> kind of what has a history."""
_GZIP = zlib.MAX_WBITS | 16
_statistics = msgspec.json.Decoder(dict[str, Any]).decode
_REMEMBERED = 64
"""Callers for whom the answer is kept as it was written."""


@dataclass(frozen=True, slots=True)
class _Written:
    """An answer as it was written for somebody, and what it was written from."""

    catalog: Catalog
    found: Publication
    may: Allowed
    body: bytes
    etag: str


@dataclass(slots=True)
class CatalogApi:
    """Answers what people ask of an environment's declarations."""

    published: Published
    clock: Clock
    dagster_url: str | None
    """Where people reach Dagster's pages; None where nobody said."""
    _raw: bytes | None = None
    _catalog: Catalog = field(default_factory=Catalog)
    _until_s: float = 0.0
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _written: dict[str | None, _Written] = field(default_factory=dict)

    async def index(self, request: Request, caller: Caller) -> Response:
        """Everything that is declared and described to him."""
        catalog, found = await self.now(), await self.published.now()
        written = self._written.get(caller.id)
        if (
            written is None
            or written.catalog is not catalog
            or written.found is not found
            or written.may is not caller.may
        ):
            written = await self._write(catalog, found, caller)
            if len(self._written) >= _REMEMBERED:
                self._written.clear()
            self._written[caller.id] = written
        headers = {"ETag": written.etag, "Cache-Control": "no-cache, private", "Vary": "Accept-Encoding, Authorization"}
        if request.headers.get("if-none-match") == written.etag:
            return Response(status_code=304, headers=headers)
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(zlib.decompress(written.body, _GZIP), headers=headers, media_type=JSON)
        return Response(written.body, headers=headers | {"Content-Encoding": "gzip"}, media_type=JSON)

    async def entry(self, request: Request, caller: Caller) -> Response:
        """One view, service or source: how it was declared over time, and how the values of a view are distributed."""
        group, name = request.path_params["group"], request.path_params["name"]
        if group not in GROUPS:
            raise UnknownNameError("group", group, GROUPS)
        kind = GROUPS[group]
        caller.what = f"{kind} {name}"[:1_000]
        catalog = await self.now()
        seen = seen_by(catalog, caller)
        known = {each.name for each in getattr(seen.catalog, group)}
        may: Callable[[str], bool] = getattr(caller.may, kind)
        caller.needs(f"{kind}:{name}", has=name in known or caller.may.admin or may(name))
        if name not in known:
            for each in getattr(catalog, group):
                if each.name == name:  # he may read it, but for the personal data
                    caller.reads_personal(each.personal if kind == "service" else [name])
            raise UnknownNameError(kind, name, known)
        ids = [each.id for each in seen.catalog.views if each.name == name] if kind == "view" else []
        asked: list[tuple[Any, ...]] = [("HGET", catalog_key(self.published.env), history_field(kind, name))]
        asked += [("HMGET", statistics_key(self.published.env), *ids)] if ids else []
        history, *statistics = cast("list[Any]", await self.published.transport.exchange(asked))
        try:
            told: dict[str, object] = {"versions": [] if history is None else _told(history, name, kind, seen, caller)}
            if ids:
                told["statistics"] = {
                    view: seen.statistics(view, decoded(_statistics, raw))
                    for view, raw in zip(ids, statistics[0], strict=True)
                    if raw is not None
                }
        except (msgspec.DecodeError, LookupError, TypeError, ValueError) as error:
            raise OnlineStoreError(
                f"what Redis says of {kind} '{name}' in the catalog cannot be read: {error}"
            ) from error
        return _json(told)

    async def freshness(self, request: Request, caller: Caller) -> Response:  # noqa: ARG002
        """How fresh each view is that is served and described to him."""
        seen, found = await self._seen(caller), await self.published.now()
        views = {view.id: found.views[view.id] for view in seen.catalog.views if view.id in found.views}
        told = await freshness_now(views, self.published.transport, env=self.published.env, now_us=self.clock.now_us())
        return _json(told)

    async def _seen(self, caller: Caller) -> Seen:
        return seen_by(await self.now(), caller)

    async def _write(self, catalog: Catalog, found: Publication, caller: Caller) -> _Written:
        seen, mine = seen_by(catalog, caller), found.for_whom(caller)
        told = {
            "env": self.published.env,
            "dagster_url": self.dagster_url,
            "served": {name: shape.id for name, shape in mine.served.items()},
            "beside": {name: shape.id for name, shape in mine.beside.items()},
            **{group: getattr(seen.catalog, group) for group in Catalog.__struct_fields__},
        }
        body = await asyncio.to_thread(_compressed, msgspec.json.encode(told))  # while others are answered
        etag = f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        return _Written(catalog, found, caller.may, body, etag)

    async def now(self) -> Catalog:
        """The catalog, not older than a few seconds; older while Redis does not answer, or has lost it."""
        if time.monotonic() >= self._until_s:
            async with self._looking:
                if time.monotonic() >= self._until_s:
                    await self._look()
        return self._catalog

    async def _look(self) -> None:
        try:
            [raw] = await self.published.transport.exchange([("HGET", catalog_key(self.published.env), DECLARED)])
        except OnlineStoreError:
            if self._raw is None:
                raise
            self._until_s = time.monotonic() + 1
            return
        self._until_s = time.monotonic() + AGE_S
        if isinstance(raw, bytes) and raw != self._raw:
            try:
                self._catalog, self._raw = unpack_catalog(raw), raw
            except msgspec.DecodeError as error:
                self._until_s = 0.0  # and no empty catalog in its place
                raise OnlineStoreError(
                    f"the catalog in Redis cannot be read, `feature-store apply` writes it: {error}"
                ) from error


def _told(raw: bytes, name: str, kind: str, seen: Seen, caller: Caller) -> list[Version]:
    """The versions of something that are described to him, with what he may know of each change."""
    told = []
    for version in versions([each for each in unpack_history(raw) if is_seen(kind, name, each, caller)]):
        changes = [each for each in version.changes if kind != "view" or seen.may_know(name, each)]
        who = version.applied_by if caller.may.admin else None
        told.append(msgspec.structs.replace(version, changes=changes, applied_by=who))
    return told


def _compressed(text: bytes) -> bytes:
    packer = zlib.compressobj(5, wbits=_GZIP)
    return packer.compress(text) + packer.flush()


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type=JSON, headers={"Cache-Control": "no-store"})
