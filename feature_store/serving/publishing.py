"""Events over HTTP: checked as the stream will check them, all of a request or none, acknowledged with their places in the log."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pyarrow as pa
from redis.exceptions import RedisError
from starlette.responses import Response

from feature_store.errors import FeatureStoreError, LogFull, UnknownNameError
from feature_store.incoming import Incoming
from feature_store.log.binding import open_log
from feature_store.log.protocol import unpack_offset
from feature_store.log.publish import publish_events
from feature_store.online.refusal import worded
from feature_store.serving.bodies import body_of
from feature_store.serving.log_writer import LogWriter
from feature_store.serving.media import answer_type, body_type, encode
from feature_store.serving.problem import Problem, problem_of
from feature_store.serving.shapes import Body

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis
    from starlette.requests import Request

    from feature_store.clock import Clock
    from feature_store.declare.source import EventSource
    from feature_store.log.protocol import Position
    from feature_store.serving.guard import Caller
    from feature_store.serving.limits import Limits
    from feature_store.transforms.compiled import Compiled

SHOWN = 20
"""Events that are named with what is wrong; the others are counted."""
SHOWN_NAME = 1_000
"""Characters of a source's name that the audit log has."""


class Events(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Events of one source, each an object with the columns of its schema."""

    events: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)]


_EVENTS = Body(Events)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """Takes events for the declared sources that have a log."""

    compiled: Compiled
    client: redis.Redis
    env: str
    clock: Clock
    limits: Limits
    _writers: dict[str, LogWriter] = field(default_factory=dict, init=False)

    async def events(self, request: Request, caller: Caller) -> Response:
        """Publish events. One whose id was published before is dropped by all who read the log, so a request may be repeated."""
        written = answer_type(request.headers.get("accept"))
        source = self._source(request.path_params["source"], caller)
        body = await body_of(request, self.limits)
        given = _EVENTS.decode(body, body_type(request.headers.get("content-type"), default="")).events
        caller.rows = len(given)
        if len(given) > self.limits.rows:
            limit = self.limits.rows
            raise Problem("too-large", f"`events` may be {limit} at most, got {len(given)}", {"limit": limit})
        try:
            rows = await asyncio.to_thread(self._rows, source, given)
            positions = await self._publish(source, rows)
        except LogFull as error:
            raise Problem("log-full", str(error), headers={"Retry-After": "1"}) from error
        except FeatureStoreError as error:
            raise problem_of(error) from error
        except (RedisError, OSError) as error:
            raise Problem("store-unavailable", worded(error), headers={"Retry-After": "1"}) from error
        told = [
            {"partition": each.partition, "offset": "{}-{}".format(*unpack_offset(each.offset))} for each in positions
        ]
        return Response(encode[written]({"positions": told}), media_type=written)

    def schemas(self, caller: Caller) -> dict[str, dict[str, Any]]:
        """Source -> JSON schema of its events, of those that take events of who asks; of all to who administers."""
        return {name: _schema(self.compiled.schemas[name]) for name in self._seen(caller)}

    def _seen(self, caller: Caller) -> list[str]:
        sources = self.compiled.registry.sources.items()
        return [name for name, source in sources if source.log is not None and caller.sees_source(name)]

    def _source(self, name: str, caller: Caller) -> EventSource:
        caller.what = name[:SHOWN_NAME]
        caller.needs(f"source:{name}", has=caller.may.source(name))
        found = self.compiled.registry.sources.get(name)
        if found is None or found.log is None:
            raise UnknownNameError("source with a log", name, self._seen(caller))
        return found

    def _rows(self, source: EventSource, given: Sequence[dict[str, Any]]) -> pa.Table:
        """The events as rows of the source's schema."""
        incoming = Incoming(source=source, schema=self.compiled.schemas[source.name], unit="event")
        payloads = {number: msgspec.json.encode(event) for number, event in enumerate(given)}
        rows = incoming.check(payloads, now_us=self.clock.now_us())
        problems = incoming.problems
        if problems:
            named = [{"event": number, "reason": why} for number, why in sorted(problems.items())[:SHOWN]]
            said = f"{len(problems)} of {len(given)} events do not fit; nothing was published"
            raise Problem("invalid", said, {"events": named})
        return rows

    async def _publish(self, source: EventSource, rows: pa.Table) -> Sequence[Position]:
        writer = self._writers.get(source.name)
        if writer is None:
            writer = LogWriter(source.name, partial(open_log, self.client, self.env, source))
            self._writers[source.name] = writer
        return await writer.run(
            lambda log: publish_events(source, log, rows, clock=self.clock), within_s=self.limits.publish_s
        )

    def close(self) -> None:
        """Let the logs go."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


def _schema(columns: pa.Schema) -> dict[str, Any]:
    """The JSON schema of an event."""
    return {
        "type": "object",
        "properties": {field.name: _type(field) for field in columns},
        "required": [field.name for field in columns if not field.nullable],
        "additionalProperties": False,
    }


def _type(field: pa.Field) -> dict[str, Any]:
    kind = field.type
    tests = (
        (pa.types.is_boolean, {"type": "boolean"}),
        (pa.types.is_integer, {"type": "integer"}),
        (pa.types.is_floating, {"type": "number"}),
        (pa.types.is_decimal, {"type": ["string", "number"]}),
        (pa.types.is_timestamp, {"type": "string", "format": "date-time"}),
        (pa.types.is_date, {"type": "string", "format": "date"}),
        (pa.types.is_binary, {"type": "string", "contentEncoding": "base64"}),
        (pa.types.is_string, {"type": "string"}),
    )
    found: dict[str, Any] = next((schema for test, schema in tests if test(kind)), {})
    return {"anyOf": [found, {"type": "null"}]} if field.nullable and found else found
