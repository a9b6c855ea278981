"""Log records become accepted events: decoded, checked, in time, in place, each id once. The rest has a reason."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.decoders import Decoder, json
from feature_store.decoders.protocol import UNKNOWN
from feature_store.fold.batch_query import BatchQuery
from feature_store.fold.id_hashes import hash_sql
from feature_store.fold.known_ids import KnownIds, Seen
from feature_store.log.placing import misplaced
from feature_store.log.protocol import LogRecord
from feature_store.long_keys import keys_of
from feature_store.schema import check_rows, with_defaults
from feature_store.time_rule import format_duration
from feature_store.transforms.project import ARRIVED, DAY, ID, LATE, OFFSET, PARTITION, TIME, event_id_sql, late_marks

if TYPE_CHECKING:
    from feature_store.declare.source import EventSource

_ROW, _DIGEST, _HASH = "_row", "_digest", "_hash"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that is not an event, or not a new one: kept with its reason, never dropped silently."""

    partition: int
    offset: int
    arrived_us: int
    kind: str
    """'rejected', 'duplicate' or 'conflict'."""
    reason: str
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What became of some records of one partition."""

    partition: int
    start: int
    end: int
    """The offset of the next record to read."""
    events: pa.Table
    """The source's columns and the system columns, in the order of the log."""
    rejected: Sequence[Rejected]


class Intake:
    """Decides about the records of one partition of a source. Decisions depend on the records alone, never on a clock."""

    def __init__(
        self,
        source: EventSource,
        schema: pa.Schema,
        *,
        known: KnownIds,
        partitions: int = 1,
        lateness_us: int | None = None,
    ) -> None:
        """Begin with the ids known.

        Args:
            source: whose records come.
            schema: of its events.
            known: the ids seen before.
            partitions: over how many partitions event ids are dealt out; 1: whatever comes belongs here.
            lateness_us: what arrives later than that after it happened is marked; see `Compiled.lateness_us`.
        """
        self._source = source
        self._schema = schema
        self._known = known
        self._keys = keys_of(schema)
        self._partitions = partitions
        self._lateness_us = lateness_us
        self._decode: Decoder = source.decode or json()
        self._system = BatchQuery(f"SELECT {_system_select(source, schema)} FROM batch")

    @property
    def known(self) -> KnownIds:
        """The event ids seen so far."""
        return self._known

    def accept(self, partition: int, records: Sequence[LogRecord], *, start: int) -> Accepted:
        """Decide about the next records of a partition, which begin at `start`."""
        decoded = self._decode.decode([record.payload for record in records], self._schema)
        reasons: dict[int, tuple[str, str]] = {row: ("rejected", why) for row, why in decoded.rejected}
        table = with_defaults(self._schema, decoded.table)
        rows = table.column(_ROW)
        checked = check_rows(self._source.schema, table.select(self._schema.names), keys=self._keys)
        if checked.rejected:
            reasons |= {rows[row].as_py(): ("rejected", why) for row, why in checked.rejected}
        events = self._with_system_columns(_without(table, reasons), partition, records)
        reasons |= self._problems(events, partition, records, start=start)
        events = _without(events, reasons)
        return Accepted(
            partition=partition,
            start=start,
            end=_end(records, start),
            events=events.drop_columns([_ROW, _DIGEST, _HASH]),
            rejected=[_rejected(partition, records[row], *reasons[row]) for row in sorted(reasons)],
        )

    def unseen(self, events: pa.Table, *, span: tuple[int, int]) -> pa.Table:
        """Of events that were accepted elsewhere, out of a span of offsets, those with ids that were not seen before."""
        system = self._system.run(events)
        ids, times, digests = (system.column(name).to_pylist() for name in (ID, TIME, _DIGEST))
        found = self._known.check(ids, times, digests, hashes=system.column(_HASH).to_numpy(), span=span)
        return events.filter(pa.array([seen is Seen.NEW for seen in found], type=pa.bool_()))

    def _with_system_columns(self, table: pa.Table, partition: int, records: Sequence[LogRecord]) -> pa.Table:
        rows = table.column(_ROW).to_pylist()
        system = self._system.run(table)
        columns = {name: table.column(name) for name in self._schema.names}
        columns |= {name: system.column(name) for name in (ID, TIME)}
        columns[ARRIVED] = pa.array([records[row].arrived_us for row in rows], type=pa.int64())
        columns[PARTITION] = pa.array([partition] * len(rows), type=pa.int32())
        columns[OFFSET] = pa.array([records[row].offset for row in rows], type=pa.int64())
        columns[LATE] = late_marks(columns[TIME], columns[ARRIVED], self._lateness_us)
        columns |= {name: system.column(name) for name in (DAY, _DIGEST, _HASH)}
        if UNKNOWN in table.column_names:
            columns[UNKNOWN] = table.column(UNKNOWN)
        return pa.table(columns | {_ROW: table.column(_ROW)})

    def _problems(
        self, events: pa.Table, partition: int, records: Sequence[LogRecord], *, start: int
    ) -> dict[int, tuple[str, str]]:
        """Events that are none (row -> (kind, reason)): no time or id, from the future, misplaced, or seen before."""
        problems = {row: ("rejected", why) for row, why in self._untimely(events).items()}
        events = _without(events, problems)
        wrong = misplaced(self._source, events, partition, self._partitions)
        if wrong:
            rows = events.column(_ROW).to_pylist()
            problems |= {rows[at]: ("rejected", why) for at, why in wrong.items()}
            events = _without(events, problems)
        return problems | self._seen(events, (start, _end(records, start)))

    def _seen(self, events: pa.Table, span: tuple[int, int]) -> dict[int, tuple[str, str]]:
        """Events whose id was seen before."""
        ids, times, digests = (events.column(name).to_pylist() for name in (ID, TIME, _DIGEST))
        found = self._known.check(ids, times, digests, hashes=events.column(_HASH).to_numpy(), span=span)
        if found.count(Seen.NEW) == len(found):
            return {}
        problems: dict[int, tuple[str, str]] = {}
        for row, event_id, seen in zip(events.column(_ROW).to_pylist(), ids, found, strict=True):
            if seen is Seen.DUPLICATE:
                problems[row] = ("duplicate", f"event id '{event_id}' was seen before with the same payload")
            elif seen is Seen.CONFLICT:
                problems[row] = ("conflict", f"event id '{event_id}' was seen before with another payload")
        return problems

    def _untimely(self, events: pa.Table) -> dict[int, str]:
        """Rows of events without an id or a time, from the future or too old, with the reason."""
        if self._all_in_time(events):
            return {}
        columns = (events.column(name).to_pylist() for name in (_ROW, ID, TIME, ARRIVED))
        reasons = {row: self._why_untimely(*event) for row, *event in zip(*columns, strict=True)}
        return {row: reason for row, reason in reasons.items() if reason is not None}

    def _all_in_time(self, events: pa.Table) -> bool:
        """Whether every event has an id and a time that is neither in the future nor older than what is kept."""
        if events.column(ID).null_count or events.column(TIME).null_count:
            return False
        bounds = pc.min_max(pc.subtract(events.column(TIME), events.column(ARRIVED))).as_py()
        if bounds["max"] is None:
            return True
        retention = self._source.retention_us
        return bounds["max"] <= self._source.future_tolerance_us and (retention is None or -bounds["min"] <= retention)

    def _why_untimely(self, event_id: str | None, time_us: int | None, arrived_us: int) -> str | None:
        """Why an event without an id or a time, from the future or too old, is none."""
        if event_id is None or time_us is None:
            names = self._source.id_columns if event_id is None else (self._source.event_time,)
            return f"column {' or '.join(repr(name) for name in names)}: must not be null"
        tolerance, retention = self._source.future_tolerance_us, self._source.retention_us
        if retention is not None and arrived_us - time_us > retention:
            kept = format_duration(retention)
            return f"column '{self._source.event_time}': it arrived more than {kept} later, and no event is kept for longer"
        if time_us - arrived_us <= tolerance:
            return None
        ahead, limit = (time_us - arrived_us) / 1_000_000, format_duration(tolerance)
        reason = f"{ahead:.3f} s later than its arrival, more than the tolerance of {limit}"
        return f"column '{self._source.event_time}': {reason}"


def no_events(source: EventSource, schema: pa.Schema) -> pa.Table:
    """Accepted events, of which there are none."""
    return Intake(source, schema, known=KnownIds()).accept(0, [], start=0).events


def _system_select(source: EventSource, schema: pa.Schema) -> str:
    """SELECT list of what an event's columns say about it: id, time, day, a digest of the payload and a hash of the id."""
    time, event_id = f'epoch_us("{source.event_time}")', event_id_sql(source, schema)
    return (
        f"{event_id} AS {ID}, {time} AS {TIME}, make_timestamp({time})::DATE AS {DAY}, "
        f"{digest_sql(schema)} AS {_DIGEST}, {hash_sql(event_id)} AS {_HASH}"
    )


def digest_sql(schema: pa.Schema) -> str:
    """A digest of a row's payload, equal within one version of DuckDB; kept in memory only."""
    return "hash(" + ", ".join(f'"{name}"' for name in schema.names) + ")"


def _without(events: pa.Table, rows: Collection[int]) -> pa.Table:
    if not rows:
        return events
    return events.filter(pc.invert(pc.is_in(events.column(_ROW), pa.array(list(rows), type=pa.int64()))))


def _end(records: Sequence[LogRecord], start: int) -> int:
    """The offset of the record after these, which begin at `start`."""
    return records[-1].offset + 1 if records else start


def _rejected(partition: int, record: LogRecord, kind: str, reason: str) -> Rejected:
    return Rejected(partition, record.offset, record.arrived_us, kind, reason, record.payload)
