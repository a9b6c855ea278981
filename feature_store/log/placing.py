"""In which partition an event belongs: a function of its id, so that all copies of an event meet in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.log.protocol import partition_of

if TYPE_CHECKING:
    from feature_store.declare.source import EventSource


def placing_columns(source: EventSource) -> Sequence[str]:
    """The columns that place an event: those of its id, without the time if there are others."""
    return [name for name in source.id_columns if name != source.event_time] or source.id_columns


def place_texts(source: EventSource, events: pa.Table) -> list[str]:
    """What `partition_of` takes for each event."""
    columns = [_texts(events.column(name)) for name in placing_columns(source)]
    return ["|".join(parts) for parts in zip(*columns, strict=True)]


def place_text(source: EventSource, schema: pa.Schema, row: Mapping[str, object]) -> str | None:
    """The same of a row on its way out; None where only its decoded payload tells, because a value has many spellings."""
    values = [row[name] for name in placing_columns(source)]
    kinds = [schema.field(name).type for name in placing_columns(source)]
    if all(_is_plain(value, kind) for value, kind in zip(values, kinds, strict=True)):
        return "|".join(map(str, values))
    return None


def misplaced(source: EventSource, events: pa.Table, partition: int, partitions: int) -> dict[int, str]:
    """Events (by index) that belong in another of the partitions, with the reason that says so."""
    if partitions == 1:
        return {}
    texts = place_texts(source, events)
    places = [partition_of(text, partitions) for text in texts]
    return {
        row: f"event id '{text}' belongs in partition {place} of {partitions} (its CRC-32), but came in {partition}, where "
        "a copy of it would not be found"
        for row, (text, place) in enumerate(zip(texts, places, strict=True))
        if place != partition
    }


def _texts(column: pa.ChunkedArray) -> list[str]:
    if pa.types.is_binary(column.type):
        return [value.hex() for value in column.to_pylist()]
    texts: list[str] = pc.cast(column, pa.string()).to_pylist()
    return texts


def _is_plain(value: object, kind: pa.DataType) -> bool:
    """Whether the text of a value is that of its column."""
    return (type(value) is str and pa.types.is_string(kind)) or (type(value) is int and pa.types.is_integer(kind))
