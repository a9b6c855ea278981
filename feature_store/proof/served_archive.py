"""Brings what readers have logged from Redis to the lake, each vector once.

Where to begin follows from what the lake holds, and a vector that it holds is never appended again; so any number of
archivers may take turns, and one that is killed between reading and writing has done nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec
import pyarrow as pa

from feature_store.errors import InputError, UnknownNameError
from feature_store.online.keys import served_key
from feature_store.proof.layout import ServedLayout, conform, served_layout
from feature_store.proof.served_log import ENTRY, SERVICE, ServedLog
from feature_store.proof.served_table import SERVED_TABLE, append_served
from feature_store.reader.sample import FIELD, ServedRecord
from feature_store.reader.vector import FeatureVector, Names, feature_column
from feature_store.status import Status
from feature_store.untrusted import decoded

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled

logger = logging.getLogger(__name__)

BEGINNING = "0-0"


class _Logged(NamedTuple):
    entry: str
    record: ServedRecord


class ServedArchiver:
    """Appends the sample of served vectors to the lake's table `served_vectors`."""

    def __init__(self, compiled: Compiled, lake: Lake, client: Redis, env: str) -> None:
        self._compiled, self._lake, self._client = compiled, lake, client
        self._streams = [served_key(env), served_key(env, personal=True)]
        self._after: dict[str, str] = {}
        self._told: set[str] = set()
        self.skipped = 0
        """Entries that were left in the stream: of services that are not declared here, or no vectors of theirs."""

    def step(self, *, max_records: int = 5_000) -> int:
        """Append what the lake does not hold yet, at most `max_records` of each stream; returns how many it read.

        Vectors of a service that is not declared here stay in the stream, for whoever begins with newer declarations.

        Raises:
            LakeError: the lake could not be written; the next step tries again.
        """
        if not self._after:
            self._after = dict.fromkeys(self._streams, self._beginning())
        return sum(self._take(stream, max_records) for stream in self._streams)

    def _take(self, stream: str, count: int) -> int:
        entries = cast(
            "list[tuple[bytes, dict[bytes, bytes]]]",
            self._client.xrange(stream, min=f"({self._after[stream]}", count=count),
        )
        if not entries:
            return 0
        for alike in _alike(self._decoded(entries)):
            self._append(alike)
        self._after[stream] = entries[-1][0].decode()
        return len(entries)

    def _decoded(self, entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> Iterable[_Logged]:
        decode = msgspec.msgpack.Decoder(ServedRecord).decode
        for entry, fields in entries:
            try:
                yield _Logged(entry.decode(), decoded(decode, fields[FIELD.encode()]))
            except (KeyError, msgspec.DecodeError) as error:
                self._skip(1, "entries", f"no served vector: {error}")

    def _append(self, alike: Sequence[_Logged]) -> None:
        service = alike[0].record.service
        try:
            layout = served_layout(self._compiled, service)
            table = self._readable(layout, alike)
            if table is not None:
                append_served(self._compiled, self._lake, table)
        except (InputError, UnknownNameError) as error:
            self._skip(len(alike), service, str(error))

    def _readable(self, layout: ServedLayout, alike: Sequence[_Logged]) -> pa.Table | None:
        """The record of the vectors that are some. Whoever may read a service may log, so anything may stand there."""
        try:
            return conform(layout, _table(layout, alike))
        except _MISFITS as error:
            if len(alike) == 1:
                why = str(error) if isinstance(error, InputError) else f"no served vector ({type(error).__name__})"
                self._skip(1, alike[0].record.service, why)
                return None
        tables = [table for each in alike if (table := self._readable(layout, [each])) is not None]
        return pa.concat_tables(tables) if tables else None

    def _skip(self, count: int, what: str, why: str) -> None:
        self.skipped += count
        if what not in self._told and len(self._told) < _TOLD:
            self._told.add(what)
            logger.warning("served vectors of %s are not archived: %s", what, why)

    def _beginning(self) -> str:
        """The oldest of the newest entries of each declared service: from there on something may be missing."""
        services = [service.id for service in self._compiled.registry.services]
        newest = newest_entries(self._lake)
        return min((newest.get(service, BEGINNING) for service in services), key=_order, default=BEGINNING)


_TOLD = 100
_MISFITS = (ArithmeticError, InputError, LookupError, TypeError, ValueError)
"""What building the record of a vector raises that has other values than its service."""


def newest_entries(lake: Lake) -> dict[str, str]:
    """`name@version` of a service -> the newest entry of the stream that the lake holds of it."""
    if not lake.exists(SERVED_TABLE):
        return {}
    order = f"split_part({ENTRY}, '-', 1)::BIGINT, split_part({ENTRY}, '-', 2)::BIGINT"
    with lake.reading() as cursor:
        return dict(
            cursor.execute(
                f"SELECT {SERVICE}, arg_max({ENTRY}, ({order})) FROM {lake.table_sql(SERVED_TABLE)} "
                f"WHERE {ENTRY} IS NOT NULL GROUP BY ALL"
            ).fetchall()
        )


def _order(entry: str) -> tuple[int, int]:
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds), int(number)


def _alike(logged: Iterable[_Logged]) -> list[list[_Logged]]:
    """Vectors of one service with the same features together."""
    groups: dict[tuple[object, ...], list[_Logged]] = defaultdict(list)
    for each in logged:
        groups[each.record.service, each.record.features, each.record.views].append(each)
    return list(groups.values())


def _table(layout: ServedLayout, alike: Sequence[_Logged]) -> pa.Table:
    """The record of vectors, with nulls for what they did not have when they were served."""
    first, log = alike[0].record, ServedLog(layout.service.id)
    names = Names(layout.service.name, first.features, {}, first.views, ())
    days = {feature.name for feature in layout.features if _is_date(feature.type)}
    dated = [i for i, name in enumerate(first.features) if name in days]
    for entry, record in alike:
        values = list(record.values)
        for i in dated:
            values[i] = _as_days(values[i])
        vector = FeatureVector(values, [Status(status) for status in record.statuses], names, record.sources)
        log.add(
            record.request,
            vector,
            as_of_us=record.requested_us,
            vector_id=record.id,
            served_us=record.served_us,
            entry=entry,
        )
    table = log.table()
    for feature in layout.features:
        if feature_column(feature.name) not in table.schema.names:
            table = table.append_column(feature.column, pa.nulls(table.num_rows, feature.type))
            table = table.append_column(feature.status, pa.nulls(table.num_rows, pa.int8()))
    return table


def _is_date(kind: pa.DataType) -> bool:
    return bool(pa.types.is_date(kind.value_type if pa.types.is_list(kind) else kind))


def _as_days(value: object) -> object:
    """MessagePack has no dates: they travel as their text."""
    if isinstance(value, list):
        return [_as_days(item) for item in value]
    return date.fromisoformat(value) if isinstance(value, str) else value
