"""A table of what holds since when: customers and their plans, merchants and their categories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

from feature_store.declare.source import EventSource
from feature_store.errors import InputError

if TYPE_CHECKING:
    import pandera.pandas as pa_pandas
    import pyarrow as pa

    from feature_store.declare.check import Checks
    from feature_store.declare.log import LogBinding
    from feature_store.declare.source import Loader
    from feature_store.decoders import Decoder


def dimension(
    name: str,
    *,
    schema: type[pa_pandas.DataFrameModel],
    key: str | Sequence[str],
    valid_from: str | None = None,
    load: Loader | Callable[[datetime, datetime], pa.Table] | None = None,
    log: LogBinding | None = None,
    decode: Decoder | None = None,
    timezone: str = "UTC",
    history_start: date | None = None,
    checks: Checks | None = None,
    owner: str | None = None,
    description: str = "",
) -> EventSource:
    """The source of a slowly changing table: each row is the event that its values hold from `valid_from` on.

    A row is identified by key and `valid_from`, so a snapshot may repeat the rows of the one before; one that says
    something else for the same key and moment is a conflict, and is reported. Features are `agg.latest(column)`.

    Args:
        name: of the source.
        schema: Pandera model of the rows.
        key: the columns that identify a thing of the table.
        valid_from: the column of the time from which a row holds, a time stamp with zone in the schema.
        load: the table, by `parquet`, `csv`, `sql` or a function; each day takes the rows that begin on it.
        log: where changes come in, if they do.
        decode: how a record of the log becomes a row.
        timezone: the zone of naive times in loaded rows.
        history_start: the day of the earliest `valid_from`.
        checks: as of a source.
        owner: who answers for it.
        description: what it is.

    Raises:
        InputError: there is no `valid_from`.
    """
    if not valid_from:
        raise InputError(
            f"dimension '{name}' needs `valid_from`, the column that says since when a row holds: without it a training "
            "row of last year would see the values of today"
        )
    keys = (key,) if isinstance(key, str) else tuple(key)
    return EventSource(
        name,
        schema=schema,
        event_time=valid_from,
        event_id=(*keys, valid_from),
        load=load,
        log=log,
        decode=decode,
        timezone=timezone,
        history_start=history_start,
        checks=checks or {},
        owner=owner,
        description=description,
    )
