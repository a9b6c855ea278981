"""Everything about a read except the waiting: a generator that asks for round trips and is sent their replies.

So the blocking and the asyncio reader share all code but one loop.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import cast

import msgspec

from feature_store.clock import Clock
from feature_store.errors import InputError, OnlineStoreError, UnknownNameError
from feature_store.online.keys import generation_key, layouts_key, ready_key, services_key
from feature_store.online.layout import ServiceLayout, parse_layout, parse_service
from feature_store.reader.decode import UnknownLayout, decode_vector
from feature_store.reader.listed import list_service
from feature_store.reader.plan import ReadPlan, commands_of, keys_of, plan_read
from feature_store.reader.readiness import NOTHING, Progress, Readiness, parse_readiness
from feature_store.reader.transport import Command, Reply
from feature_store.reader.vector import FeatureVector
from feature_store.reader.worth import Moment
from feature_store.time_rule import to_us

AsOf = datetime | int | None
Features = str | Sequence[str]
Row = Mapping[str, object]
Read = Generator[list[Command], list[Reply], list[FeatureVector]]
Packed = Sequence[bytes | None]


class ReaderCore:
    """What a reader remembers: the plans of services, and how far the shards had read a moment ago."""

    def __init__(self, env: str, clock: Clock) -> None:
        self._env, self._clock = env, clock
        self._plans: dict[str | tuple[str, ...], ReadPlan] = {}
        self._readiness = NOTHING
        self._progress = Progress()

    def connection_lost(self) -> None:
        """Ask anew what the shards vouch for, and doubt it: the server that answers next may have lost something."""
        self._progress.connection_lost()
        self._readiness = NOTHING

    def read(self, features: Features, rows: Sequence[Row], as_of: Sequence[int | None]) -> Read:
        """The vectors of some rows: yields commands for one round trip (one more for a service not seen before)."""
        name = features if isinstance(features, str) else tuple(features)
        plan = self._plans.get(name)
        if plan is None:
            plan = yield from self._load(name)
        keys = keys_of(plan, rows)
        now_us, now_s = self._clock.now_us(), time.perf_counter()
        packed, readiness = yield from self._fetch(commands_of(plan, keys), plan, name, now_us=now_us, now_s=now_s)
        return (yield from self._decode(plan, keys, packed, as_of=as_of, now_us=now_us, readiness=readiness))

    def _fetch(
        self, commands: list[Command], plan: ReadPlan, name: str | tuple[str, ...], *, now_us: int, now_s: float
    ) -> Generator[list[Command], list[Reply], tuple[list[Packed], Readiness]]:
        """The rows, and what vouches for them: both again if the store was emptied or the connection lost meanwhile."""
        readiness = self._readiness  # another thread may put a younger one there while we wait
        refresh = readiness.is_old(now_us, now_s)
        generation = ("GET", generation_key(self._env))
        while True:
            # What vouches comes before the values: what was missing when they were read had been missing at the beat.
            vouching: list[Command] = [generation, ("HGETALL", ready_key(self._env))] if refresh else []
            asked = [*vouching, *commands, generation] if commands else vouching
            replies = (yield asked) if asked else []
            if refresh:
                readiness = self._refresh(replies[:2], plan, name, now_us=now_us, now_s=now_s)
                replies = replies[2:]
            lost = self._readiness is NOTHING and bool(asked)
            if not commands or (not lost and replies.pop() == readiness.generation):
                return cast("list[Packed]", replies), readiness
            refresh = True

    def _decode(
        self,
        plan: ReadPlan,
        keys: list[str | None],
        packed: list[Packed],
        *,
        as_of: Sequence[int | None],
        now_us: int,
        readiness: Readiness,
    ) -> Read:
        """The vectors; fetches layouts that rows still have from before a feature was added."""
        width = len(plan.entities)
        while True:
            replies = iter(packed)
            try:
                return [
                    decode_vector(
                        plan,
                        keys[i * width : i * width + width],
                        replies=replies,
                        moment=Moment(now_us if at_us is None else at_us, at_us is not None, readiness),
                    )
                    for i, at_us in enumerate(as_of)
                ]
            except UnknownLayout as unknown:
                [found] = yield [("HGET", layouts_key(self._env), str(unknown))]
                if isinstance(found, bytes):
                    unknown.view.learn(parse_layout(found))
                else:
                    unknown.view.layouts[unknown.layout_id] = ()  # nobody knows it: its values stay UNKNOWN

    def _refresh(
        self, replies: list[Reply], plan: ReadPlan, name: str | tuple[str, ...], *, now_us: int, now_s: float
    ) -> Readiness:
        generation = cast("bytes | None", replies[0])
        readiness = parse_readiness(generation, _hash(replies[1]), progress=self._progress, now_us=now_us, now_s=now_s)
        self._readiness = readiness
        records = readiness.records.values()
        if any(record.views.get(view, layout) != layout for record in records for view, layout in plan.layouts.items()):
            self._plans.pop(name, None)  # a feature was added: the next read takes the new layout
        return readiness

    def _load(self, name: str | tuple[str, ...]) -> Generator[list[Command], list[Reply], ReadPlan]:
        """The plan of a service or of a list of features, from what `apply` has published."""
        services, layouts = yield [("HGETALL", services_key(self._env)), ("HGETALL", layouts_key(self._env))]
        views = {field.decode(): parse_layout(value) for field, value in _hash(layouts).items() if b"#" not in field}
        if not views:
            raise OnlineStoreError(
                f"nothing is published in the environment '{self._env}'; run `feature-store apply`, or name another"
            )
        service = _find_service(name, _hash(services)) if isinstance(name, str) else list_service(name, views)
        plan = plan_read(self._env, service, views)
        self._plans[name] = plan
        return plan


def as_of_us(as_of: object) -> int | None:
    """A time asked, in microseconds.

    Raises:
        InputError: for anything but an aware datetime, whole microseconds or None.
    """
    if as_of is None:
        return None
    if isinstance(as_of, int) and not isinstance(as_of, bool):
        return as_of
    if not isinstance(as_of, datetime):
        raise InputError(f"`as_of` must be a datetime with a time zone or whole microseconds, got {as_of!r}")
    try:
        return to_us(as_of, name="as_of")
    except ValueError as error:
        raise InputError(str(error)) from None


def as_of_each(as_of: object, rows: int) -> list[int | None]:
    """One time for every row: the same for all, or each its own.

    Raises:
        InputError: if there are more or fewer times than rows.
    """
    if not isinstance(as_of, Sequence) or isinstance(as_of, str):
        return [as_of_us(as_of)] * rows
    if len(as_of) != rows:
        raise InputError(f"`as_of` must be one time or one for each of the {rows} rows, got {len(as_of)}")
    return [as_of_us(moment) for moment in as_of]


def _find_service(name: str, fields: Mapping[bytes, bytes]) -> ServiceLayout:
    """A service by `name` (its newest version, from now on) or `name@version`."""
    newest = fields.get(name.encode()) if "@" not in name else None
    found = fields.get(name.encode() if newest is None else b"%b@%b" % (name.encode(), newest))
    if found is None:
        known = [field.decode() for field in fields if (b"@" in field) == ("@" in name)]
        raise UnknownNameError("service", name, known)
    try:
        return parse_service(found)
    except msgspec.DecodeError as error:
        raise OnlineStoreError(f"service '{name}' was published by another version of this library: {error}") from error


def _hash(reply: Reply) -> dict[bytes, bytes]:
    """A hash, whichever way the protocol spells it."""
    if isinstance(reply, dict):
        return reply
    flat = iter(cast("list[bytes]", reply))
    return dict(zip(flat, flat, strict=True))
