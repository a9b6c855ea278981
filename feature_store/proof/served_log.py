"""The record of served vectors: collected beside the reader, kept as Arrow, in Parquet files or in the lake.

A row per vector: its id, the service, the time asked for, when it was served, its entry in the stream that the reader
logged it to, the request's own columns; per view what its values rest on
(`<view>_v<n>__as_of_us`, `run`, `n`, `shard`, `event_us`); per feature a value and a status (`<view>__<feature>` and
`<view>__<feature>__status`).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.declare.key import KeyKind, key_text
from feature_store.errors import InputError
from feature_store.reader.vector import feature_column, status_column
from feature_store.status import Status

if TYPE_CHECKING:
    from pathlib import Path

    from feature_store.reader import FeatureVector

VECTOR, SERVICE, REQUESTED, SERVED, ENTRY = "vector_id", "service", "requested_us", "served_us", "entry"

PER_VIEW = ("as_of_us", "run", "n", "shard", "event_us")
"""What is kept of a view's provenance: effective time, commit, shard (null: batch view, or null key), newest event."""

Row = Mapping[str, object]


class ServedLog:
    """Collects the vectors of one service; a collected vector costs an append to a list. One thread at a time."""

    def __init__(self, service: str | None = None) -> None:
        """An empty record; `service` says which version was served (`name@version`), by default the newest."""
        self._service = service
        self._rows: list[tuple[str, int | None, int, str | None, Row, FeatureVector]] = []
        self._prefix, self._count = secrets.token_hex(6), 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self,
        row: Row,
        vector: FeatureVector,
        *,
        as_of_us: int | None = None,
        vector_id: str | None = None,
        served_us: int | None = None,
        entry: str | None = None,
    ) -> None:
        """Remember one served vector.

        Args:
            row: the request: at least the join keys.
            vector: what the reader returned for it.
            as_of_us: the time that was asked for; None if the read was for now.
            vector_id: names it in reports; made up by default.
            served_us: when it was served; by default the time for which it was given.
            entry: its place in the stream to which the reader logged it, if it did.
        """
        self._count += 1
        if served_us is None:
            given = [each.as_of_us for each in vector.provenance.values()]
            served_us = as_of_us if as_of_us is not None else max(given, default=0)
        self._rows.append((vector_id or f"{self._prefix}-{self._count}", as_of_us, served_us, entry, row, vector))

    def clear(self) -> None:
        """Forget what was collected."""
        self._rows = []

    def table(self) -> pa.Table:
        """All collected vectors.

        Raises:
            InputError: they are not of one service, or two columns would have one name.
        """
        if not self._rows:
            return pa.table({})
        ids, asked, served, entries, rows, vectors = (list(part) for part in zip(*self._rows, strict=True))
        first = vectors[0]
        if any(vector.names != first.names for vector in vectors):
            raise InputError("`vector` must be of the same service as those before it, got one with other features")
        service = self._service or first.service
        columns: list[tuple[str, pa.Array]] = [
            (VECTOR, pa.array(ids, type=pa.string())),
            (SERVICE, pa.array([service] * len(ids), type=pa.string())),
            (REQUESTED, pa.array(asked, type=pa.int64())),
            (SERVED, pa.array(served, type=pa.int64())),
            (ENTRY, pa.array(entries, type=pa.string())),
            *((name, _request_column(name, [row.get(name) for row in rows])) for name in rows[0]),
            *_view_columns(vectors),
            *_feature_columns(vectors),
        ]
        names = [name for name, _ in columns]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"served vectors would have two columns '{name}'; rename the one in the request")
        return pa.table(dict(columns))

    def write(self, path: Path) -> int:
        """Write all collected vectors to a Parquet file; returns how many."""
        import pyarrow.parquet as pq

        table = self.table()
        pq.write_table(table, path)
        return int(table.num_rows)


def view_column(view_id: str, name: str) -> str:
    """The column of something that is kept per view (`PER_VIEW`)."""
    return f"{view_id.replace('@', '_v')}__{name}"


def _request_column(name: str, values: list[object]) -> pa.Array:
    plain = [None if value != value else value for value in values]  # noqa: PLR0124 - NaN is null
    kinds = {type(value) for value in plain if value is not None}
    try:
        if str in kinds and len(kinds) > 1:  # Arrow would take text for bytes, if there are bytes
            return _texts(plain)
        return pa.array(plain)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        try:
            return _texts(plain)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(f"column '{name}' of the requests cannot be recorded: {error}") from error


def _texts(values: list[object]) -> pa.Array:
    return pa.array([None if value is None else _spelled(value) for value in values], type=pa.string())


def _spelled(value: object) -> str:
    """A value among others of another type, as text: a join key as it stands in a key."""
    kinds: list[KeyKind] = ["str", "int", "bytes"]
    for kind in kinds:
        try:
            return key_text(value, kind) or ""
        except InputError:
            continue
    return str(value)


def _view_columns(vectors: Sequence[FeatureVector]) -> list[tuple[str, pa.Array]]:
    known = [vector.provenance for vector in vectors]
    return [
        (
            view_column(view, name),
            pa.array([getattr(provenance[view], name) for provenance in known], type=pa.int64()),
        )
        for view in known[0]
        for name in PER_VIEW
    ]


def _feature_columns(vectors: Sequence[FeatureVector]) -> list[tuple[str, pa.Array]]:
    columns = []
    for i, name in enumerate(vectors[0].names):
        statuses = [int(vector.statuses[i]) for vector in vectors]
        columns.append((feature_column(name), _values([vector.values[i] for vector in vectors], statuses)))
        columns.append((status_column(name), pa.array(statuses, type=pa.int8())))
    return columns


_DEFAULTED = (Status.UNKNOWN, Status.STALE, Status.AHEAD)


def _values(values: list[object], statuses: Sequence[int]) -> pa.Array:
    """One feature's values as they came.

    Where types are mixed, those of another type than most become null, which no proof takes for equal. A default, which
    stands for what is not known, may be a whole number beside floats.
    """
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) > 1:
        served = [type(v) for v, s in zip(values, statuses, strict=True) if v is not None and s not in _DEFAULTED]
        usual = max(set(served), key=served.count) if served else float
        values = [_as_usual(value, status, usual) for value, status in zip(values, statuses, strict=True)]
    return pa.array(values)


def _as_usual(value: object, status: int, usual: type) -> object:
    if value is None or type(value) is usual:
        return value
    return float(value) if usual is float and type(value) is int and status in _DEFAULTED else None
