"""Rows on their way out: encoded, placed and appended to a source's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import pyarrow as pa

from feature_store.decoders import json
from feature_store.errors import InputError
from feature_store.log.placing import place_text, place_texts
from feature_store.log.protocol import Record
from feature_store.schema import arrow_schema

if TYPE_CHECKING:
    import pandas as pd

    from feature_store.clock import Clock
    from feature_store.declare.source import EventSource
    from feature_store.log.protocol import EventLog, Position


def publish_events(
    source: EventSource,
    log: EventLog,
    rows: Sequence[Mapping[str, object]] | pa.Table | pd.DataFrame,
    *,
    clock: Clock,
) -> Sequence[Position]:
    """Append rows to a source's log; each arrives now, and goes to the partition of its event id.

    Raises:
        InputError: a row has no event id, or no form in the log; nothing was published.
        LogFull: the log has no room.
    """
    events = _plain_rows(rows)
    for number, row in enumerate(events):
        for name in source.id_columns:
            if row.get(name) is None:
                raise InputError(f"row {number}: the event id `{name}` is missing")
    payloads = (source.decode or json()).encode(events)
    now_us, schema = clock.now_us(), arrow_schema(source)
    return log.publish(
        [
            Record(place_text(source, schema, row) or _decoded_place(source, schema, payload), payload, now_us)
            for row, payload in zip(events, payloads, strict=True)
        ]
    )


def _decoded_place(source: EventSource, schema: pa.Schema, payload: bytes) -> str:
    """What places a payload; one that is no event is rejected wherever it goes."""
    decoded = (source.decode or json()).decode([payload], schema).table
    return place_texts(source, decoded)[0] if decoded.num_rows else ""


def _plain_rows(rows: Sequence[Mapping[str, object]] | pa.Table | pd.DataFrame) -> Sequence[Mapping[str, object]]:
    """Rows as mappings. A frame goes through Arrow, which knows a missing integer from NaN."""
    if isinstance(rows, pa.Table):
        return cast("list[dict[str, object]]", rows.to_pylist())
    if hasattr(rows, "columns") and hasattr(rows, "index"):
        return cast("list[dict[str, object]]", pa.Table.from_pandas(rows, preserve_index=False).to_pylist())
    return cast("Sequence[Mapping[str, object]]", rows)
