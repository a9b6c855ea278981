"""Events that somebody hands in, checked as the stream will check them: all of them are events, or none is published."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from feature_store.decoders import json
from feature_store.errors import unknown_name
from feature_store.long_keys import keys_of
from feature_store.schema import check_rows
from feature_store.time_rule import format_duration, to_us

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

    from feature_store.declare.source import EventSource

Row = Mapping[str, object]

_AT = re.compile(r"(.*) - at `\$\.(.*)`")


@dataclass(slots=True, kw_only=True)
class Incoming:
    """What was handed in for one source."""

    source: EventSource
    schema: pa.Schema
    unit: str
    """What errors call an event: line, row, event."""
    problems: dict[int, str] = field(default_factory=dict)
    """Number of an event -> why it is none."""

    def check(self, payloads: Mapping[int, bytes], *, now_us: int) -> list[Row]:
        """The events with the types of their columns, in order; what is wrong with others is in `problems`.

        Args:
            payloads: number -> JSON object.
            now_us: when they arrive.
        """
        numbers = [number for number, payload in payloads.items() if self._is_object(number, payload)]
        decoded = json().decode([payloads[number] for number in numbers], self.schema)
        self.problems |= {numbers[row]: _reworded(reason) for row, reason in decoded.rejected}
        left = [numbers[row] for row in decoded.table.column("_row").to_pylist()]
        table = decoded.table.select(self.schema.names)
        checked = check_rows(self.source.schema, table, keys=keys_of(self.schema))
        refused = dict(checked.rejected)
        self.problems |= {left[row]: why for row, why in refused.items()}
        rows: list[Row] = checked.good.to_pylist()
        kept = [number for row, number in enumerate(left) if row not in refused]
        self._check_times_and_ids(dict(zip(kept, rows, strict=True)), now_us)
        return rows

    def _is_object(self, number: int, payload: bytes) -> bool:
        """Whether it is an object without columns that the source does not have."""
        try:
            unknown = [name for name in msgspec.json.decode(payload, type=Row) if name not in self.schema.names]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.problems[number] = f"no JSON object: {error}"
            return False
        if unknown:
            self.problems[number] = unknown_name("column", unknown[0], self.schema.names)
        return not unknown

    def _check_times_and_ids(self, rows: Mapping[int, Row], now_us: int) -> None:
        source, seen = self.source, dict[str, tuple[int, Row]]()
        for number, row in rows.items():
            time: datetime | None = row[source.event_time]  # type: ignore[assignment]
            identity = "|".join(str(row[name]) for name in source.id_columns)
            for name in (source.event_time, *source.id_columns):
                if row[name] is None:
                    self.problems.setdefault(number, f"column '{name}': must not be null")
            if time is not None and to_us(time) - now_us > source.future_tolerance_us:
                limit = format_duration(source.future_tolerance_us)
                reason = f"column '{source.event_time}': {time.isoformat()} is more than {limit} in the future"
                self.problems.setdefault(number, reason)
            retention = source.retention_us
            if time is not None and retention is not None and now_us - to_us(time) > retention:
                limit = format_duration(retention)
                reason = f"column '{source.event_time}': {time.isoformat()} is more than {limit} ago, and no event is kept for longer"
                self.problems.setdefault(number, reason)
            first, before = seen.setdefault(identity, (number, row))
            if before != row:
                reason = f"event id '{identity}' stands in {self.unit} {first} with other values"
                self.problems.setdefault(number, reason)


def _reworded(reason: str) -> str:
    """A decoder's reason, with the column first."""
    found = _AT.fullmatch(reason)
    if found is None:
        return reason
    rule, column = found.groups()
    if rule.endswith("got `null`"):
        return f"column '{column}': must not be null"
    if "timezone" in rule:
        return f"column '{column}': must be a time with a zone, such as 2013-12-24T08:00:00Z"
    return f"column '{column}': {rule[:1].lower()}{rule[1:]}"
