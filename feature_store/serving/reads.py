"""The reads: a body becomes a call of the reader, and what it returns becomes the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from feature_store.declare.feature import FeatureRef
from feature_store.errors import FeatureStoreError, UnknownNameError
from feature_store.serving.bodies import body_of
from feature_store.serving.limits import Limits
from feature_store.serving.media import ARROW, WRITTEN, answer_type, arrow_stream, body_type, encode
from feature_store.serving.problem import Problem, problem_of
from feature_store.serving.shapes import LISTED, Body, ServiceShape, status_names

if TYPE_CHECKING:
    from starlette.requests import Request

    from feature_store.reader import AsyncFeatureReader, FeatureBatch, FeatureVector
    from feature_store.reader.core import AsOf, Row
    from feature_store.serving.guard import Caller
    from feature_store.serving.metrics import Metrics
    from feature_store.serving.published import Published


SHOWN = 1_000
"""Characters of what was asked for that the audit log has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """Answers reads of one environment."""

    reader: AsyncFeatureReader
    published: Published
    limits: Limits
    metrics: Metrics

    async def one(self, request: Request, caller: Caller) -> Response:
        """The vector of one row of a service."""
        written = answer_type(request.headers.get("accept"))
        shape = await self.service(_name(request), caller)
        asked = await self._body(request, shape.one)
        [vector] = await self.vectors(caller, _name(request), [shape.plain(asked)], as_of=asked.as_of)
        return Response(encode[written](told(vector, event_times=asked.event_times)), media_type=written)

    async def many(self, request: Request, caller: Caller) -> Response:
        """The vectors of many rows of a service."""
        written = answer_type(request.headers.get("accept"), (*WRITTEN, ARROW))
        shape = await self.service(_name(request), caller)
        asked = await self._body(request, shape.many)
        return await self._many(written, _name(request), shape.rows(asked), asked, caller)

    async def listed(self, request: Request, caller: Caller) -> Response:
        """Any features, of many rows."""
        written = answer_type(request.headers.get("accept"), (*WRITTEN, ARROW))
        asked = await self._body(request, LISTED)
        await self.check_views(asked.features, caller)
        return await self._many(written, asked.features, asked.rows, asked, caller)

    async def service(self, name: str, caller: Caller) -> ServiceShape:
        """The shape of a service, by name or by `name@version`, for who may read it.

        Raises:
            NotGranted: he may not, or not the personal data that it reads.
            UnknownNameError: it is not published.
        """
        caller.what = name[:SHOWN]
        caller.reads_service(name.partition("@")[0])
        try:
            shape = await self.published.shape(name)
        except UnknownNameError as error:
            raise await self._visibly(error, caller) from None
        caller.reads_personal(shape.personal)
        caller.what = shape.id
        return shape

    async def _visibly(self, error: UnknownNameError, caller: Caller) -> UnknownNameError:
        """An error that lists of what there is only what is described to who asks."""
        seen = (await self.published.now()).for_whom(caller)
        names = {*seen.served, *seen.versions, *seen.views, *(view.view for view in seen.views.values())}
        names |= {feature.name for view in seen.views.values() for feature in view.features}
        return UnknownNameError(error.kind, error.name, names.intersection(error.known))

    async def check_views(self, features: Sequence[str], caller: Caller) -> None:
        """Refuse a list of features unless somebody may read their views.

        Raises:
            InputError: one is no `view:feature`.
            NotGranted: he may not, or not the personal data that they hold.
            Problem: too many features.
            UnknownNameError: there is no such view.
        """
        caller.what = ",".join(features)[:SHOWN]
        self._check_size("features", len(features), self.limits.features)
        views = dict.fromkeys(_view(name) for name in features)
        for view in views:
            caller.reads_view(view)
        for view in views:
            try:
                is_personal = await self.published.personal(view)
            except UnknownNameError as error:
                raise await self._visibly(error, caller) from None
            caller.reads_personal([view] if is_personal else [])

    async def _body(self, request: Request, wanted: Body) -> Any:
        media_type = body_type(request.headers.get("content-type"))
        return wanted.decode(await body_of(request, self.limits), media_type)

    async def vectors(
        self, caller: Caller, name: str | Sequence[str], rows: Sequence[Row], *, as_of: AsOf
    ) -> FeatureBatch:
        """What the reader says, within the limits: every read, over HTTP or gRPC, passes here.

        Args:
            caller: who asks. What he may read of it was looked at before; what was read decides about personal data.
            name: a service, or a list of features.
            rows: join keys, and what on-demand features take.
            as_of: the time asked.

        Raises:
            NotGranted: it holds personal data that he may not read.
            Problem: too many rows, or whatever keeps the reader from answering in time.
            UnknownNameError: a feature that there is not; lists those that he may see.
        """
        caller.rows = len(rows)
        self._check_size("rows", len(rows), self.limits.rows)
        try:
            with self.metrics.reading():
                async with asyncio.timeout(self.limits.deadline_s):
                    batch = await self.reader.get_online_features_batch(name, rows, as_of=as_of)
        except UnknownNameError as error:
            raise await self._visibly(error, caller) from None
        except FeatureStoreError as error:
            raise problem_of(error) from error
        except TimeoutError:
            raise Problem("deadline", f"the read did not end within {self.limits.deadline_s:g} s") from None
        for views in {vector.personal_views for vector in batch}:  # another version than was known may have been read
            caller.reads_personal(views)
        if isinstance(name, str) and len(batch):
            caller.what = ",".join(sorted({vector.service for vector in batch}))
        return batch

    @staticmethod
    def _check_size(name: str, size: int, limit: int) -> None:
        if size > limit:
            raise Problem("too-large", f"`{name}` may be {limit} at most, got {size}", {"limit": limit})

    async def _many(
        self, written: str, name: str | Sequence[str], rows: Sequence[Row], asked: Any, caller: Caller
    ) -> Response:
        batch = await self.vectors(caller, name, rows, as_of=asked.as_of)
        if written != ARROW:
            return Response(encode[written](told_batch(batch, event_times=asked.event_times)), media_type=written)
        from feature_store.serving.columns import table_of

        try:
            published = await self.published.now()
            declared = {} if len(batch) and not isinstance(name, str) else published.kinds(name, caller)
            table = table_of(batch, declared, event_times=asked.event_times)
        except FeatureStoreError as error:
            raise problem_of(error) from error
        return Response(arrow_stream(table), media_type=ARROW)


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
    features, rows = {}, []
    for vector in batch:
        service = vector.service
        row = {"service": service, "values": vector.values, "statuses": status_names(vector.statuses)}
        if event_times:
            row["event_times"] = [vector[name].event_time for name in vector.names]
        features[service] = vector.names
        rows.append(row)
    return {"features": features, "rows": rows}


def _view(feature: str) -> str:
    """The view of `view:feature` or `view@2:feature`.

    Raises:
        InputError: it is neither.
    """
    return FeatureRef.parse(feature).view


def _name(request: Request) -> str:
    """Of the service: bare, or with the version that the path names."""
    given = request.path_params
    return f"{given['service']}@{given['version']}" if "version" in given else str(given["service"])
