"""The calls: a message becomes a call of the reader, and what it returns becomes the answer."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from feature_store.errors import FeatureStoreError, InputError
from feature_store.serving.grpc.refusal import code_of, refuse
from feature_store.serving.grpc.v1 import features_pb2 as pb
from feature_store.serving.grpc.v1 import features_pb2_grpc as rpc
from feature_store.serving.grpc.values import column_of, put_value, python_column, python_value
from feature_store.serving.problem import Problem, problem_of
from feature_store.status import Status
from feature_store.time_rule import from_us, to_us

if TYPE_CHECKING:
    from feature_store.reader import FeatureVector
    from feature_store.serving.published import Publication
    from feature_store.serving.reads import Reads
    from feature_store.serving.shapes import ServiceShape

logger = logging.getLogger(__name__)

Request = TypeVar("Request")
Answer = TypeVar("Answer")
Call = Callable[["FeatureStoreServicer", Request, "grpc.aio.ServicerContext"], Awaitable[Answer]]
"""As gRPC makes it."""

_STATUSES = [pb.Status.Value(f"STATUS_{status.name}") for status in Status]
"""Of the messages, for each of the library."""


def answering(call: Callable[[FeatureStoreServicer, Request], Awaitable[Answer]]) -> Call[Request, Answer]:
    """A call whose problems are statuses with details, and whose answers are counted. Every call passes here."""
    name = call.__name__

    @functools.wraps(call)
    async def answer(self: FeatureStoreServicer, request: Request, context: grpc.aio.ServicerContext) -> Answer:
        try:
            found = await call(self, request)
        except Problem as error:
            problem = error
        except FeatureStoreError as error:
            problem = problem_of(error)
        except asyncio.CancelledError:  # its caller waits no longer
            self.reads.metrics.called(name, grpc.StatusCode.CANCELLED.name)
            raise
        except Exception:
            logger.exception("%s failed", name)
            problem = Problem("internal", "the server failed to answer; its log says why")
        else:
            self.reads.metrics.called(name, "OK")
            return found
        self.reads.metrics.called(name, code_of(problem).name)
        return await refuse(context, problem)

    return answer


class FeatureStoreServicer(rpc.FeatureStoreServicer):
    """Answers the calls of `feature_store.v1.FeatureStore` with what the HTTP API would say."""

    def __init__(self, reads: Reads) -> None:
        self.reads = reads

    @answering
    async def GetFeatures(self, request: pb.GetFeaturesRequest) -> pb.GetFeaturesResponse:
        """The vector of one row."""
        row = {name: python_value(value) for name, value in request.keys.items()}
        [vector] = await self._read(request, [row])
        answer = pb.GetFeaturesResponse(service=vector.service)
        add = answer.features.add
        for name, value, status in zip(vector.names, vector.values, vector.statuses, strict=True):
            feature = add()
            feature.name, feature.status = name, _STATUSES[status]
            put_value(feature.value, value)
        if request.event_times:
            for feature, name in zip(answer.features, vector.names, strict=True):
                if (at := vector[name].event_time) is not None:
                    feature.event_time_us = to_us(at)
        return answer

    @answering
    async def GetFeaturesBatch(self, request: pb.GetFeaturesBatchRequest) -> pb.GetFeaturesBatchResponse:
        """The vectors of many rows, as columns for each version that was served."""
        limit = self.reads.limits.rows
        vectors = await self._read(request, _rows(request, limit=limit))
        parts: dict[str, list[int]] = {}
        for position, vector in enumerate(vectors):
            parts.setdefault(vector.service, []).append(position)
        return pb.GetFeaturesBatchResponse(
            served=[
                pb.ServedRows(
                    service=service,
                    rows=positions if len(parts) > 1 else (),
                    columns=_columns([vectors[i] for i in positions], event_times=request.event_times),
                )
                for service, positions in parts.items()
            ]
        )

    @answering
    async def ListServices(self, request: pb.ListServicesRequest) -> pb.ListServicesResponse:
        """All services, or those that have what is searched for in their names, keys or features."""
        found = await self.reads.published.now()
        told = [_described(found, shape) for shape in found.served.values()]
        wanted = request.query.lower()
        return pb.ListServicesResponse(services=[each for each in told if wanted in str(each).lower()])

    @answering
    async def GetService(self, request: pb.GetServiceRequest) -> pb.Service:
        """One service."""
        shape = await self.reads.published.shape(request.service)
        return _described(await self.reads.published.now(), shape)

    async def _read(
        self, request: pb.GetFeaturesRequest | pb.GetFeaturesBatchRequest, rows: Sequence[Mapping[str, object]]
    ) -> Sequence[FeatureVector]:
        """The vectors; gRPC itself ends a call whose own deadline has passed."""
        what, as_of = _what(request), _as_of(request)
        if isinstance(what, str):
            await self.reads.published.shape(what)  # an unknown name never reaches the store
        return await self.reads.vectors(what, rows, as_of=as_of)


def _what(request: pb.GetFeaturesRequest | pb.GetFeaturesBatchRequest) -> str | list[str]:
    if bool(request.service) == bool(request.features):
        given = "both" if request.service else "neither"
        raise InputError(f"a request must have either `service` or `features`, got {given}")
    return request.service or list(request.features)


def _as_of(request: pb.GetFeaturesRequest | pb.GetFeaturesBatchRequest) -> int | None:
    if not request.HasField("as_of_us"):
        return None
    try:
        from_us(request.as_of_us)
    except OverflowError:
        raise InputError(f"`as_of_us` must lie in the years 1 to 9999, got {request.as_of_us}") from None
    return request.as_of_us


def _rows(request: pb.GetFeaturesBatchRequest, *, limit: int) -> list[dict[str, object]]:
    """The rows of a request, from its columns.

    Raises:
        InputError: the columns differ in length, or one cannot be read.
    """
    columns = {name: _column(name, values) for name, values in request.keys.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if request.HasField("rows"):
        lengths["rows"] = min(request.rows, limit + 1)  # of more it is said that they are too many
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"`{name}` has {length}" for name, length in sorted(lengths.items()))
        raise InputError(f"all columns of `keys` must have the same length, which `rows` may say: {told}")
    if not columns:
        return [{} for _ in range(lengths.get("rows", 0))]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _column(name: str, values: pb.Values) -> list[object]:
    try:
        return python_column(values)
    except InputError as error:
        raise InputError(f"`keys.{name}`: {error}") from None


def _columns(vectors: Sequence[FeatureVector], *, event_times: bool) -> Iterable[pb.Column]:
    """The columns of rows that were served by one version."""
    for position, (name, kind) in enumerate(vectors[0].kinds.items()):
        column = pb.Column(
            name=name,
            values=column_of(name, kind, [vector.values[position] for vector in vectors]),
            statuses=[_STATUSES[vector.statuses[position]] for vector in vectors],
        )
        if event_times:
            times: list[Any] = [vector[name].event_time for vector in vectors]
            column.event_times.CopyFrom(column_of(name, "timestamp", times))
        yield column


def _described(found: Publication, shape: ServiceShape) -> pb.Service:
    return pb.Service(
        name=shape.name,
        id=shape.id,
        versions=[each.id for each in found.versions.values() if each.name == shape.name],
        keys=[pb.Field(name=name, kind=kind) for name, kind in shape.keys.items()],
        features=[pb.Field(name=name, kind=kind) for name, kind in shape.features.items()],
        inputs=[pb.Field(name=name, kind=kind) for name, kind in shape.inputs.items()],
    )
