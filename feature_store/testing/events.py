"""What a test gives becomes typed rows, or an error that names source, event and column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.errors import InputError, UnknownNameError
from feature_store.long_keys import keys_of
from feature_store.testing.arrived import Arrived, Event
from feature_store.time_rule import moment_us

if TYPE_CHECKING:
    from feature_store.declare.source import EventSource
    from feature_store.long_keys import Keys
    from feature_store.transforms.compiled import Compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The events of one source, in the order given."""

    source: EventSource
    rows: pa.Table
    """The schema's columns."""
    keys: Keys
    """The entities that events name."""
    time_us: Sequence[int | None]
    arrived_us: Sequence[int]

    def in_log_order(self) -> list[int]:
        """The events' numbers in the order in which they arrived; of one moment in the order given."""
        return sorted(range(len(self.arrived_us)), key=lambda i: self.arrived_us[i])


def read_events(compiled: Compiled, events: Mapping[str, Sequence[Event | Arrived]]) -> dict[str, Given]:
    """The events of every source that is declared.

    Raises:
        UnknownNameError: an undeclared source or column is named.
        InputError: a column is missing, or a value does not fit its column.
    """
    for name in events:
        compiled.registry.source(name)
    return {
        name: _read_source(source, compiled.schemas[name], events.get(name, ()))
        for name, source in compiled.registry.sources.items()
    }


def _read_source(source: EventSource, schema: pa.Schema, events: Sequence[Event | Arrived]) -> Given:
    plain = [given.event if isinstance(given, Arrived) else given for given in events]
    for number, event in enumerate(plain):
        _check_columns(event, schema, f"source '{source.name}', event {number}")
    columns = {
        field.name: pa.array(
            [
                fit(event.get(field.name), field.type, f"source '{source.name}', event {number}: column '{field.name}'")
                for number, event in enumerate(plain)
            ],
            type=field.type,
        )
        for field in schema
    }
    rows = pa.table(columns, schema=pa.schema([field.with_nullable(True) for field in schema]))
    time_us = rows.column(source.event_time).cast(pa.int64()).to_pylist()
    default_us = time_us if source.arrival is None else _arrival_column(source, rows)
    arrived_us = [
        moment_us(given.at, f"source '{source.name}', event {number}: at") if isinstance(given, Arrived) else known
        for number, (given, known) in enumerate(zip(events, default_us, strict=True))
    ]
    known_us = [(time or 0) if at is None else at for at, time in zip(arrived_us, time_us, strict=True)]
    return Given(source=source, rows=rows, keys=keys_of(schema), time_us=time_us, arrived_us=known_us)


def _check_columns(event: object, schema: pa.Schema, where: str) -> None:
    if not isinstance(event, Mapping):
        raise InputError(f"{where} must be a mapping of column -> value, got {event!r}")
    for name in event:
        if name not in schema.names:
            raise UnknownNameError(f"column of {where}", str(name), schema.names)
    for field in schema:
        if not field.nullable and event.get(field.name) is None:
            raise InputError(
                f"{where}: column '{field.name}' " + ("must not be null" if field.name in event else "is missing")
            )


def _arrival_column(source: EventSource, rows: pa.Table) -> list[int | None]:
    if source.arrival not in rows.schema.names:
        return [None] * int(rows.num_rows)  # a column of the loaded files only
    found: list[int | None] = rows.column(source.arrival).cast(pa.int64()).to_pylist()
    return found


def fit(value: object, kind: pa.DataType, where: str) -> object:
    """A value as its column holds it.

    Raises:
        InputError: it does not fit.
    """
    if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124 - NaN
        return None
    if isinstance(value, float) and math.isinf(value):  # a JSON payload would make null of it
        raise InputError(f"{where} must be a finite number or null, got {value!r}")
    if pa.types.is_timestamp(kind):
        moment_us(value, where)
    try:
        return pa.array([_parsed(value, kind)], type=kind)[0].as_py()
    except (pa.ArrowException, TypeError, ValueError, OverflowError, InvalidOperation) as error:
        raise InputError(f"{where} must be {kind}, got {value!r}") from error


def _parsed(value: object, kind: pa.DataType) -> object:
    if pa.types.is_timestamp(kind) and isinstance(value, str):
        return datetime.fromisoformat(value)
    if pa.types.is_date(kind) and isinstance(value, str):
        return date.fromisoformat(value)
    if pa.types.is_decimal(kind) and not isinstance(value, bool | Decimal):
        return Decimal(str(value))
    return value
