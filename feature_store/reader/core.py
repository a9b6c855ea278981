"""Everything about a read except the waiting: a generator that asks for round trips and is sent their replies.

So the blocking and the asyncio reader share all code but one loop.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import cast

from feature_store.clock import Clock
from feature_store.computed.functions import Functions
from feature_store.declare.service import FeatureService
from feature_store.errors import InputError, OnlineStoreError, shown
from feature_store.online.keys import generation_key, layouts_key, ready_key, services_key
from feature_store.online.layout import layouts_in_use
from feature_store.online.rollout import rollout_field
from feature_store.reader.commands import Command, Lookups, commands_of
from feature_store.reader.decode import UnknownLayout, decode_vectors
from feature_store.reader.listed import list_service, named, refusal
from feature_store.reader.places import RowRefused
from feature_store.reader.plan import plan_read
from feature_store.reader.readiness import NOTHING, Progress, Readiness, parse_readiness
from feature_store.reader.route import Part, Route, find_route, parts_of
from feature_store.reader.sample import ServedSample, chosen, may_choose
from feature_store.reader.servers import Servers
from feature_store.reader.transport import Reply, as_hash
from feature_store.reader.vector import FeatureVector
from feature_store.reader.worth import Moment
from feature_store.time_rule import EARLIEST_US, LATEST_US, to_us

AsOf = datetime | int | None
Features = str | Sequence[str] | FeatureService
Row = Mapping[str, object]
Read = Generator[Sequence[Command], list[Reply], list[FeatureVector]]
Packed = Sequence[bytes | None]


ROWS_AT_ONCE = 50
"""From twice as many rows on, so many are asked for before the next are."""
PACKED_AT_ONCE = 8
"""From so many keys on: packing fewer command by command takes less."""
LISTS = 256
"""So many lists of features a reader remembers; services are as many as there are."""


class ReaderCore:
    """What a reader remembers: what is read for a service, and how far the shards had read a moment ago."""

    def __init__(
        self,
        env: str,
        clock: Clock,
        sample: ServedSample | None = None,
        functions: Functions | None = None,
        *,
        servers: Servers = Servers.ONE,
    ) -> None:
        self._env, self._clock, self._sample = env, clock, sample
        self.functions = functions or Functions()
        self._servers = servers
        self._routes: dict[str | tuple[str, ...], Route] = {}
        self._followed: dict[str, tuple[Reply, Reply]] = {}
        """Services asked for by their bare names -> what Redis said of the version served and of the rollout."""
        self._readiness = NOTHING
        self._progress = Progress()

    def connection_lost(self) -> None:
        """Ask anew what the shards vouch for, and doubt it: the server that answers next may have lost something."""
        self._progress.connection_lost()
        self._readiness = NOTHING

    def reads(self, features: Features, rows: Sequence[Row], as_of: Sequence[int | None]) -> list[Read]:
        """As `read`, apart for some rows after others where there are many, so that they can be under way at once.

        When something else than values is to be asked, it is one read.
        """
        parts = len(rows) // ROWS_AT_ONCE
        if parts < 2 or self._servers is not Servers.ONE:
            return [self.read(features, rows, as_of)]
        route = self._routes.get(features if isinstance(features, str) else named(features))
        if (
            route is None
            or route.beside is not None
            or not route.plan.divisible
            or self._readiness.is_old(self._clock.now_us(), time.perf_counter())
        ):
            return [self.read(features, rows, as_of)]
        bounds = [len(rows) * part // parts for part in range(parts + 1)]
        return [self.read(features, rows[begin:end], as_of[begin:end], first=begin) for begin, end in pairwise(bounds)]

    def read(self, features: Features, rows: Sequence[Row], as_of: Sequence[int | None], *, first: int = 0) -> Read:
        """The vectors of some rows: yields commands for one round trip.

        One more for a service not seen before, and two more when it is found to be rolled out otherwise than before.
        Of a cluster one more each second. `first`: which row of the request the first of these is.
        """
        name = features if isinstance(features, str) else named(features)
        generation, doubted = ("GET", generation_key(self._env)), self._servers is Servers.REPLICAS
        while True:
            route = self._routes.get(name)
            if route is None:
                route = yield from self._load(name)
            try:
                parts = parts_of(route, rows, recorded=self._sample is not None)
            except (RowRefused, TypeError) as error:
                raise refusal(error, rows, first=first) from None
            now_us, now_s = self._clock.now_us(), time.perf_counter()
            valued, ends = _asked(parts, generation)
            # Before they are sent: Redis may be at work on the part before.
            logged = [self._logged(part, len(rows), now_us) for part in parts]
            readiness = self._readiness  # another thread may put a younger one there while we wait
            refresh = doubted or readiness.is_old(now_us, now_s)
            followed = list(self._followed) if refresh else []
            # What vouches comes before the values: what was missing when they were read had been missing at the beat.
            vouching = self._refreshing(followed) if refresh else []
            if vouching and self._servers is Servers.CLUSTER:  # its nodes answer in no order
                replies = yield vouching
                replies = [*replies, *((yield valued) if valued else [])]
            else:
                replies = yield [*vouching, *valued] if vouching else valued
            if refresh:
                readiness = self._refresh(replies[:2], route, name, now_us=now_us, now_s=now_s)
                if name in self._changed(followed, replies[2 : len(vouching)]):
                    continue
                replies = replies[len(vouching) :]
            # The store was emptied or the connection lost meanwhile: all of it once more.
            doubted = bool(valued) and (self._readiness is NOTHING or replies.pop() != readiness.generation)
            if not doubted:
                packed, moment = cast("list[Packed]", replies), Moment(now_us, False, readiness)
                return (yield from self._answer(parts, ends, packed, logged, rows=rows, as_of=as_of, moment=moment))

    def _logged(self, part: Part, rows: int, now_us: int) -> Sequence[int]:
        """Which rows of a part are logged: of a shadow, which is read to be logged, all."""
        count = rows if part.rows is None else len(part.rows)
        if self._sample is None or not (part.shadow or may_choose(part.plan.log_below, part.keys)):
            return ()
        return range(count) if part.shadow else chosen(part.plan, part.keys, count, now_us=now_us)

    def _answer(
        self,
        parts: Sequence[Part],
        ends: Sequence[int],
        packed: list[Packed],
        logged: Sequence[Sequence[int]],
        *,
        rows: Sequence[Row],
        as_of: Sequence[int | None],
        moment: Moment,
    ) -> Read:
        """The vectors that are served, in the order of the rows; the replies to each part stand before its end.

        Of each part the rows that are logged, among its own, are given, too.
        """
        whole: list[FeatureVector] = []
        served: dict[int, FeatureVector] = {}
        begin = 0
        for part, end, kept in zip(parts, ends, logged, strict=True):
            mine = range(len(rows)) if part.rows is None else part.rows
            times = as_of if part.rows is None else [as_of[i] for i in mine]
            some = packed if len(parts) == 1 else packed[begin:end]
            begin = end
            try:
                vectors = yield from self._decode(part, some, as_of=times, moment=moment)
            except OnlineStoreError:
                if part.shadow:
                    continue  # what is not served fails nobody
                raise
            if self._sample is not None and kept:
                self._sample.note(
                    part.plan,
                    rows if part.rows is None else [rows[i] for i in mine],
                    kept,
                    requests=part.requests,
                    as_of=times,
                    now_us=moment.at_us,
                    vectors=vectors,
                )
            if part.rows is None:
                whole = vectors
            elif not part.shadow:
                served.update(zip(mine, vectors, strict=True))
        return whole if not served else [served[i] for i in range(len(rows))]

    def _decode(self, part: Part, packed: list[Packed], *, as_of: Sequence[int | None], moment: Moment) -> Read:
        """The vectors; fetches layouts that rows still have from before a feature was added."""
        while True:
            try:
                return decode_vectors(
                    part.plan,
                    part.keys,
                    replies=iter(packed),
                    moment=moment,
                    as_of=as_of,
                    requests=part.requests,
                    functions=self.functions,
                )
            except UnknownLayout as unknown:
                [found] = yield [("HGET", layouts_key(self._env), str(unknown))]
                unknown.view.learn(unknown.layout_id, found if isinstance(found, bytes) else None)

    def _refreshing(self, followed: Sequence[str]) -> list[Command]:
        """What is asked once a second: how far the shards have read, and how services are rolled out."""
        commands: list[Command] = [("GET", generation_key(self._env)), ("HGETALL", ready_key(self._env))]
        if followed:
            fields = [field for name in followed for field in (name, rollout_field(name))]
            commands.append(("HMGET", services_key(self._env), *fields))
        return commands

    def _refresh(
        self, replies: list[Reply], route: Route, name: str | tuple[str, ...], *, now_us: int, now_s: float
    ) -> Readiness:
        generation = cast("bytes | None", replies[0])
        # Another replica may be behind: its record says how far.
        progress = Progress() if self._servers is Servers.REPLICAS else self._progress
        readiness = parse_readiness(generation, as_hash(replies[1]), progress=progress, now_us=now_us, now_s=now_s)
        if self._servers is Servers.CLUSTER:
            readiness = readiness.of_some_node()
        self._readiness = readiness
        in_use = [pair for plan in route.plans for pair in plan.layouts.items()]
        records = readiness.records.values()
        if any(record.views.get(view, layout) != layout for record in records for view, layout in in_use):
            self._routes.pop(name, None)  # a feature was added: the next read takes the new layout
        return readiness

    def _changed(self, followed: Sequence[str], replies: Sequence[Reply]) -> set[str]:
        """The services that are rolled out otherwise than before; they are looked up again."""
        if not replies:
            return set()
        flat = iter(cast("list[Reply]", replies[0]))
        said = dict(zip(followed, zip(flat, flat, strict=True), strict=True))
        # A store that has lost what was published says nothing: what is known of the service stays.
        changed = {name for name, pair in said.items() if pair[0] is not None and pair != self._followed[name]}
        for name in changed:
            self._routes.pop(name, None)
        return changed

    def requested(self, name: str | tuple[str, ...]) -> Generator[Sequence[Command], list[Reply], dict[str, str]]:
        """The columns that the functions of a service take from a request, and what each is."""
        route = self._routes.get(name)
        if route is None:
            route = yield from self._load(name)
        return {each.column: each.kind for each in route.plan.requests}

    def _load(self, name: str | tuple[str, ...]) -> Generator[Sequence[Command], list[Reply], Route]:
        """What is read for a service or a list of features, from what `apply` has published."""
        services, layouts = yield [("HGETALL", services_key(self._env)), ("HGETALL", layouts_key(self._env))]
        views = layouts_in_use(as_hash(layouts))
        if not views:
            raise OnlineStoreError(
                f"nothing is published in the environment '{self._env}'; run `feature-store apply`, or name another"
            )
        if isinstance(name, tuple):
            route = Route(plan=plan_read(self._env, list_service(name, views), views))
        else:
            fields = as_hash(services)
            route = find_route(self._env, name, fields, views)
            if "@" not in name:
                self._followed[name] = (fields[name.encode()], fields.get(rollout_field(name).encode()))
        if isinstance(name, tuple):
            lists = [each for each in tuple(self._routes) if isinstance(each, tuple)]
            if len(lists) >= LISTS:  # the oldest goes: whoever asks for it again has one more round trip
                self._routes.pop(lists[0], None)
        self._routes[name] = route
        return route


def _asked(parts: Sequence[Part], last: Command) -> tuple[Sequence[Command], Sequence[int]]:
    """The commands of parts, and where those of each end; `last` comes behind all, unless there are none."""
    if len(parts) == 1 and len(keys := parts[0].keys) >= PACKED_AT_ONCE and None not in keys:
        lookups = Lookups(parts[0].plan, cast("list[str]", keys), last)
        return lookups, (len(lookups) - 1,)
    commands: list[Command] = []
    ends: list[int] = []
    for part in parts:
        commands += commands_of(part.plan, part.keys)
        ends.append(len(commands))
    return ([*commands, last] if commands else []), ends


def as_of_us(as_of: object) -> int | None:
    """A time asked, in microseconds.

    Raises:
        InputError: for anything but an aware datetime, whole microseconds or None.
    """
    if as_of is None:
        return None
    if isinstance(as_of, int) and not isinstance(as_of, bool):
        return _within(as_of, as_of)
    if not isinstance(as_of, datetime):
        raise InputError(f"`as_of` must be a datetime with a time zone or whole microseconds, got {shown(as_of)}")
    try:
        return _within(to_us(as_of, name="as_of"), as_of)
    except ValueError as error:
        raise InputError(str(error)) from None


def _within(time_us: int, as_of: object) -> int:
    """A time that a row may have, too: in another zone it may lie in the year 0."""
    if not EARLIEST_US <= time_us <= LATEST_US:
        raise InputError(f"`as_of` must lie in the years 1 to 9999, UTC, got {shown(as_of)}")
    return time_us


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
