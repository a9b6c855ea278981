"""One value, taken apart: what is served, the windows' tiles, the events behind them, and the value of the lake beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from feature_store.declare.keyed import KeyedView
from feature_store.errors import InputError, OnlineStoreError, UnknownNameError
from feature_store.history.kept import check_window_kept, start_us
from feature_store.history.spine import read_spine, spine_keys
from feature_store.history.training import get_historical_features
from feature_store.log.protocol import unpack_offset
from feature_store.masked import masked, masked_keys
from feature_store.status import Status
from feature_store.time_rule import floor_us, from_us, tail_us, to_us
from feature_store.transforms.project import ARRIVED, ID, KEY, OFFSET, PARTITION, TIME, project_sql

if TYPE_CHECKING:
    from feature_store.declare.feature import Feature
    from feature_store.history.manifest import Knowledge
    from feature_store.lake import Lake
    from feature_store.reader import FeatureVector
    from feature_store.transforms.compiled import Compiled
    from feature_store.transforms.plan import ViewPlan

EVENTS_SHOWN, TILES_SHOWN = 20, 24
_TIME = "event_timestamp"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedValue:
    """What the reader says."""

    value: object
    status: Status
    as_of: datetime
    run: int
    n: int
    """The commit that wrote it; of a batch row its version and time in seconds."""
    shard: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownEvent:
    """One event of the window."""

    event_id: str
    event_time: datetime
    arrived_at: datetime | None
    """None: not recorded."""
    late_us: int | None
    """How long after it happened it arrived."""
    partition: int | None
    """None: loaded."""
    offset: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Where one value comes from."""

    feature: str
    entity: Mapping[str, object]
    as_of: datetime
    window: tuple[datetime | None, datetime]
    """The first time inside, None for a lifetime, and the first time after it."""
    online: ServedValue | None
    away: str
    """Why nothing is known of the online value; empty if it is."""
    offline: tuple[object, Status]
    """From the lake, with what was known at the time."""
    corrected: tuple[object, Status]
    """From the lake, with hindsight."""
    tiles: Sequence[tuple[datetime, int]]
    """Each hop of the window that has events, and how many; the newest ones."""
    events: Sequence[KnownEvent]
    """The newest ones."""
    event_count: int
    rejected: Mapping[str, int]
    """Kind of dead letter -> how many have the id of one of these events."""
    personal: bool = False
    """Whether its view holds personal data: values, keys and ids are masked where it is shown."""

    @property
    def equal(self) -> bool | None:
        """Whether the online value is that of the lake; None if there is none."""
        if self.online is None:
            return None
        return repr((self.online.value, self.online.status)) == repr(self.offline)

    def __repr__(self) -> str:
        entity = masked_keys(self.entity, personal=self.personal)
        lines = [f"{self.feature} of {_told(entity)} at {self.as_of.isoformat()}", f"window     {self._window()}"]
        if self.online is None:
            lines.append(f"online     unknown: {self.away}")
        else:
            by = f"shard {self.online.shard}, run {self.online.run}, commit {self.online.n}"
            lines.append(f"online     {self._shown(self.online.value)!r} {self.online.status.name}  ({by})")
        verdict = {None: "", True: "  equal", False: "  NOT EQUAL"}[self.equal]
        lines.append(f"offline    {self._shown(self.offline[0])!r} {self.offline[1].name}{verdict}")
        if self.corrected != self.offline:
            lines.append(f"hindsight  {self._shown(self.corrected[0])!r} {self.corrected[1].name}")
        lines.append(f"events     {self.event_count:,} in {len(self.tiles):,} tiles shown" + self._letters())
        lines += [f"  tile {start.isoformat()}  {count:,}" for start, count in self.tiles]
        lines += [f"  {_event(event, self._shown(event.event_id))}" for event in self.events]
        if self.event_count > len(self.events):
            lines.append(f"  ... and {self.event_count - len(self.events):,} older ones")
        return "\n".join(lines)

    def _shown(self, value: object) -> object:
        return masked(value, personal=self.personal)

    def _window(self) -> str:
        first, end = self.window
        return f"{'the beginning' if first is None else first.isoformat()} until before {end.isoformat()}"

    def _letters(self) -> str:
        return "".join(f", {count} {kind}" for kind, count in self.rejected.items())


def explain(
    compiled: Compiled,
    lake: Lake,
    read: Callable[[], FeatureVector],
    name: str,
    entity: Mapping[str, object],
    *,
    as_of_us: int,
) -> Explanation:
    """Take one feature of one entity apart.

    Args:
        compiled: the declarations.
        lake: the events.
        read: reads the feature online; what it raises when Redis is away is told.
        name: `view:feature` or `view@version:feature`.
        entity: the view's join keys.
        as_of_us: the time.

    Raises:
        InputError: a join key is missing, or null, or retention has removed events of the window.
        UnknownNameError: no such view or feature.
    """
    (ref,) = compiled.registry.resolve([name])[:1]
    plan = compiled.plan(compiled.registry.view(ref.refs[0].view_id))
    feature = next(one for one in plan.view.declared if one.name == ref.refs[0].feature)
    kept = lake.retention.kept_from(plan.view.source.name)
    check_window_kept(None if kept is None else start_us(kept), plan.view, first_us=as_of_us)
    lake.ensure_source(plan.view.source.name, compiled.schemas[plan.view.source.name])
    _check_keys(plan, entity)
    online, away = _online(read)
    at_us = as_of_us if online is None else to_us(online.as_of)
    spine = _spine(plan, entity, at_us)
    head_us = floor_us(at_us, plan.view.every_us) if plan.view.is_batch else at_us
    tail = tail_us(head_us, feature.window_us, feature.hop_us)
    rows = _events(compiled, plan, lake, spine, tail=tail, head=head_us)
    return Explanation(
        feature=f"{plan.view.id}:{feature.name}",
        entity=dict(entity),
        as_of=from_us(at_us),
        window=(None if feature.window_us is None else from_us(tail), from_us(head_us)),
        online=online,
        away=away,
        offline=_offline(compiled, lake, spine, name, "served"),
        corrected=_offline(compiled, lake, spine, name, "corrected"),
        tiles=_tiles(rows, feature),
        events=[_known(row) for row in rows.slice(0, EVENTS_SHOWN).to_pylist()],
        event_count=rows.num_rows,
        personal=plan.view.is_personal,
        rejected=_rejected(lake, plan.view.source.name, rows.column(ID).to_pylist()),
    )


def _online(read: Callable[[], FeatureVector]) -> tuple[ServedValue | None, str]:
    try:
        vector = read()
    except (OnlineStoreError, UnknownNameError) as error:
        return None, str(error)
    found, (source,) = vector[vector.names[0]], vector.provenance.values()
    served = ServedValue(
        value=found.value,
        status=found.status,
        as_of=from_us(source.as_of_us),
        run=source.run,
        n=source.n,
        shard=source.shard,
    )
    return served, ""


def _check_keys(plan: ViewPlan, entity: Mapping[str, object]) -> None:
    missing = [key for key in plan.view.entity.join_keys if entity.get(key) is None]
    if missing:
        listed = ", ".join(f"'{key}'" for key in missing)
        raise InputError(f"entity '{plan.view.entity.name}' of view '{plan.view.name}' needs the join key {listed}")


def _spine(plan: ViewPlan, entity: Mapping[str, object], at_us: int) -> pa.Table:
    columns = {key: pa.array([entity[key]]) for key in plan.view.entity.join_keys}
    return pa.table({**columns, _TIME: pa.array([at_us], pa.timestamp("us", "UTC"))})


def _offline(compiled: Compiled, lake: Lake, spine: pa.Table, name: str, knowledge: Knowledge) -> tuple[object, Status]:
    found = get_historical_features(
        compiled, lake, spine, [name], knowledge=knowledge, statuses=True, allow_incomplete=True
    )
    (column,) = found.feature_columns
    return found.table.column(column)[0].as_py(), Status(found.table.column(f"{column}__status")[0].as_py())


def _events(compiled: Compiled, plan: ViewPlan, lake: Lake, spine: pa.Table, *, tail: int, head: int) -> pa.Table:
    """The events of the entity in a window, newest first."""
    source = plan.view.source.name
    keys = spine_keys(read_spine(spine, lake=lake, time_column=_TIME), KeyedView(plan.view), compiled.schemas[source])
    columns = ", ".join([ID, TIME, ARRIVED, PARTITION, OFFSET])
    events = lake.events_sql(source, where=f"{TIME} >= {tail} AND {TIME} < {head}")
    projected = project_sql(plan, events, extra=[ARRIVED, PARTITION, OFFSET])
    with lake.reading() as cursor:
        return cursor.execute(
            f"SELECT {columns} FROM ({projected}) WHERE {KEY} = $key ORDER BY {TIME} DESC, {ID} DESC",
            {"key": keys.text[0].as_py()},
        ).to_arrow_table()


def _tiles(rows: pa.Table, feature: Feature) -> list[tuple[datetime, int]]:
    counts: dict[int, int] = {}
    for time in rows.column(TIME).to_pylist():
        tile = floor_us(time, feature.hop_us)
        counts[tile] = counts.get(tile, 0) + 1
    return [(from_us(tile), count) for tile, count in list(counts.items())[:TILES_SHOWN]]


def _known(row: Mapping[str, Any]) -> KnownEvent:
    arrived = row[ARRIVED]
    return KnownEvent(
        event_id=row[ID],
        event_time=from_us(row[TIME]),
        arrived_at=None if arrived is None else from_us(arrived),
        late_us=None if arrived is None else arrived - row[TIME],
        partition=row[PARTITION],
        offset=row[OFFSET],
    )


def _rejected(lake: Lake, source: str, ids: Sequence[str]) -> dict[str, int]:
    with lake.reading() as cursor:
        return dict(
            cursor.execute(
                f"SELECT kind, count(*) FROM {lake.table_sql('rejected_events')} "
                "WHERE source = ? AND event_id IN (SELECT unnest(?::VARCHAR[])) GROUP BY kind ORDER BY kind",
                [source, list(ids)],
            ).fetchall()
        )


def _told(entity: Mapping[str, object]) -> str:
    return " ".join(f"{key}={value}" for key, value in entity.items()) or "everything"


def _event(event: KnownEvent, event_id: object) -> str:
    place = (
        "loaded"
        if event.partition is None
        else f"partition {event.partition}, offset {'-'.join(map(str, unpack_offset(event.offset or 0)))}"
    )
    if event.late_us is None:
        return f"{event.event_time.isoformat()}  {event_id}  {place}, arrival not recorded"
    return f"{event.event_time.isoformat()}  {event_id}  {place}, arrived {event.late_us / 1_000_000:+g} s"
