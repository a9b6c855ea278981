"""The calls: a message becomes a call of the reader, and what it returns becomes the answer."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from feature_store.errors import InputError
from feature_store.serving.grpc.v1 import features_pb2 as pb
from feature_store.serving.grpc.v1 import features_pb2_grpc as rpc
from feature_store.serving.grpc.values import column_of, put_value, python_column, python_value
from feature_store.serving.grpc.visit import visit
from feature_store.serving.reads import SHOWN
from feature_store.status import Status
from feature_store.time_rule import from_us, to_us

if TYPE_CHECKING:
    from feature_store.reader import FeatureVector
    from feature_store.serving.door import Door
    from feature_store.serving.guard import Caller
    from feature_store.serving.published import Publication
    from feature_store.serving.reads import Reads
    from feature_store.serving.shapes import ServiceShape

Request = TypeVar("Request")
Answer = TypeVar("Answer")
Plain = Callable[["FeatureStoreServicer", Request, "grpc.aio.ServicerContext"], Awaitable[Answer]]
Call = Callable[["FeatureStoreServicer", Request, "Caller"], Awaitable[Answer]]

_STATUSES = [pb.Status.Value(f"STATUS_{status.name}") for status in Status]
"""Of the messages, for each of the library."""


def answering(call: Call[Request, Answer]) -> Plain[Request, Answer]:
    """A call whose caller is known and whose problems are statuses with details. Every call passes here."""
    name = call.__name__

    @functools.wraps(call)
    async def answer(self: FeatureStoreServicer, request: Request, context: grpc.aio.ServicerContext) -> Answer:
        async with visit(self.door, name, context) as caller:
            return await call(self, request, caller)

    return answer


class FeatureStoreServicer(rpc.FeatureStoreServicer):
    """Answers the calls of `feature_store.v1.FeatureStore` with what the HTTP API would say."""

    def __init__(self, reads: Reads, door: Door) -> None:
        self.reads, self.door = reads, door

    @answering
    async def GetFeatures(self, request: pb.GetFeaturesRequest, caller: Caller) -> pb.GetFeaturesResponse:
        """The vector of one row."""
        row = {name: python_value(value) for name, value in request.keys.items()}
        [vector] = await self._read(request, [row], caller)
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
    async def GetFeaturesBatch(
        self, request: pb.GetFeaturesBatchRequest, caller: Caller
    ) -> pb.GetFeaturesBatchResponse:
        """The vectors of many rows, as columns for each version that was served."""
        limit = self.reads.limits.rows
        vectors = await self._read(request, _rows(request, limit=limit), caller)
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
    async def ListServices(self, request: pb.ListServicesRequest, caller: Caller) -> pb.ListServicesResponse:
        """All services that he may know, or those that have what is searched for in their names, keys or features."""
        found = (await self.reads.published.now()).for_whom(caller)
        told = [_described(shape, found) for shape in found.served.values()]
        wanted = request.query.lower()
        return pb.ListServicesResponse(services=[each for each in told if wanted in str(each).lower()])

    @answering
    async def GetService(self, request: pb.GetServiceRequest, caller: Caller) -> pb.Service:
        """One service."""
        caller.what = request.service[:SHOWN]
        return _described(*await self.reads.published.described(request.service, caller))

    async def _read(
        self,
        request: pb.GetFeaturesRequest | pb.GetFeaturesBatchRequest,
        rows: Sequence[Mapping[str, object]],
        caller: Caller,
    ) -> Sequence[FeatureVector]:
        """The vectors; gRPC itself ends a call whose own deadline has passed."""
        what = _what(request)
        if isinstance(what, str):
            (await self.reads.service(what, caller)).check_columns(request.keys)
        else:
            await self.reads.check_views(what, caller)
        return await self.reads.vectors(caller, what, rows, as_of=_as_of(request))


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


def _described(shape: ServiceShape, found: Publication) -> pb.Service:
    return pb.Service(
        name=shape.name,
        id=shape.id,
        versions=found.versions_of(shape.name),
        keys=[pb.Field(name=name, kind=kind) for name, kind in shape.keys.items()],
        inputs=[pb.Field(name=name, kind=kind) for name, kind in shape.inputs.items()],
        features=[pb.Field(name=name, kind=kind) for name, kind in shape.features.items()],
    )
