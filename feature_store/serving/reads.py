"""The reads: a body becomes a call of the reader, and what it returns becomes the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from feature_store.errors import FeatureStoreError
from feature_store.serving.bodies import body_of
from feature_store.serving.media import ARROW, WRITTEN, answer_type, arrow_stream, body_type, encode
from feature_store.serving.problem import Problem, problem_of
from feature_store.serving.shapes import LISTED, Asked, Body, ServiceShape, status_names

if TYPE_CHECKING:
    from starlette.requests import Request

    from feature_store.reader import AsyncFeatureReader, FeatureBatch, FeatureVector
    from feature_store.reader.core import AsOf, Row
    from feature_store.serving.metrics import Metrics
    from feature_store.serving.published import Published


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may ask for."""

    rows: int = 1_000
    """Of one request."""
    body_bytes: int = 1 << 20
    deadline_s: float = 2.0
    """In which a read must have ended."""
    store_s: float = 1.0
    """In which Redis must answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """Answers reads of one environment."""

    reader: AsyncFeatureReader
    published: Published
    limits: Limits
    metrics: Metrics

    async def one(self, request: Request) -> Response:
        """The vector of one row of a service."""
        written = answer_type(request.headers.get("accept"))
        shape = await self._shape(request)
        asked = await self._body(request, shape.one)
        [vector] = await self._read(_name(request), [shape.plain(asked)], asked)
        return Response(encode[written](told(vector, event_times=asked.event_times)), media_type=written)

    async def many(self, request: Request) -> Response:
        """The vectors of many rows of a service."""
        written = answer_type(request.headers.get("accept"), (*WRITTEN, ARROW))
        shape = await self._shape(request)
        asked = await self._body(request, shape.many)
        return self._batch(
            written, await self._read(_name(request), [shape.plain_row(row) for row in asked.rows], asked), asked
        )

    async def listed(self, request: Request) -> Response:
        """Any features, of many rows."""
        written = answer_type(request.headers.get("accept"), (*WRITTEN, ARROW))
        asked = await self._body(request, LISTED)
        return self._batch(written, await self._read(asked.features, asked.rows, asked), asked)

    async def _shape(self, request: Request) -> ServiceShape:
        try:
            return await self.published.shape(_name(request))
        except FeatureStoreError as error:
            raise problem_of(error) from error

    async def _body(self, request: Request, wanted: Body) -> Any:
        media_type = body_type(request.headers.get("content-type"))
        return wanted.decode(await body_of(request, limit=self.limits.body_bytes), media_type)

    async def _read(self, name: str | Sequence[str], rows: list[dict[str, object]], asked: Asked) -> FeatureBatch:
        return await self.vectors(name, rows, as_of=asked.as_of)

    async def vectors(self, name: str | Sequence[str], rows: Sequence[Row], *, as_of: AsOf) -> FeatureBatch:
        """What the reader says, within the limits.

        Raises:
            Problem: too many rows, or whatever keeps the reader from answering in time.
        """
        if len(rows) > self.limits.rows:
            raise Problem(
                "too-large", f"`rows` may be {self.limits.rows} at most, got {len(rows)}", {"limit": self.limits.rows}
            )
        try:
            with self.metrics.reading():
                async with asyncio.timeout(self.limits.deadline_s):
                    return await self.reader.get_online_features_batch(name, rows, as_of=as_of)
        except FeatureStoreError as error:
            raise problem_of(error) from error
        except TimeoutError:
            raise Problem("deadline", f"the read did not end within {self.limits.deadline_s:g} s") from None

    def _batch(self, written: str, batch: FeatureBatch, asked: Asked) -> Response:
        if written == ARROW:
            try:
                return Response(arrow_stream(batch), media_type=ARROW)
            except FeatureStoreError as error:
                raise problem_of(error) from error
        return Response(encode[written](told_batch(batch, event_times=asked.event_times)), media_type=written)


def told(vector: FeatureVector, *, event_times: bool = False) -> dict[str, object]:
    """A vector as a client gets it."""
    names = vector.names
    answer: dict[str, object] = {
        "service": vector.service,
        "values": dict(zip(names, vector.values, strict=True)),
        "statuses": dict(zip(names, status_names(vector.statuses), strict=True)),
    }
    if event_times:
        answer["event_times"] = {name: vector[name].event_time for name in names}
    return answer


def told_batch(batch: FeatureBatch, *, event_times: bool = False) -> dict[str, object]:
    """Vectors as a client gets them: the names once for each version that was served, then the rows."""
    rows = []
    for vector in batch:
        row = {"service": vector.service, "values": vector.values, "statuses": status_names(vector.statuses)}
        if event_times:
            row["event_times"] = [vector[name].event_time for name in vector.names]
        rows.append(row)
    return {"features": {vector.service: vector.names for vector in batch}, "rows": rows}


def _name(request: Request) -> str:
    """Of the service: bare, or with the version that the path names."""
    given = request.path_params
    return f"{given['service']}@{given['version']}" if "version" in given else str(given["service"])
