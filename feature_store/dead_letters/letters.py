"""Dead letters: records that were no events, with the reason; looked at, and published again once the cause is mended."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.errors import InputError, UnknownNameError
from feature_store.fold.intake import Intake
from feature_store.fold.known_ids import KnownIds
from feature_store.log.placing import place_texts
from feature_store.log.protocol import LogRecord, Record, pack_offset, unpack_offset
from feature_store.transforms.project import OFFSET

if TYPE_CHECKING:
    from feature_store.clock import Clock
    from feature_store.lake import Lake
    from feature_store.log.protocol import EventLog
    from feature_store.transforms.compiled import Compiled

LETTERS, REPLAYED = "rejected_events", "replayed_letters"
KINDS = ("rejected", "duplicate", "conflict")
PORTION = 1000
"""Letters that are published, and then marked, at a time."""

_MARK = pa.schema(
    [("source", pa.string()), ("partition", pa.int32()), ("offset", pa.int64()), ("replayed_us", pa.int64())]
)
_PLACE = re.compile(r"(\d+):(\d+)-(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which letters: those that meet every condition that is given."""

    source: str | None = None
    kind: str | None = None
    """'rejected', 'duplicate' or 'conflict'."""
    reason: str | None = None
    """A part of the reason."""
    since_us: int | None = None
    """Arrived then or later."""
    until_us: int | None = None
    """Arrived before."""
    place: tuple[int, int] | None = None
    """Partition and offset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterCount:
    """Letters of one source, kind and reason."""

    source: str
    kind: str
    reason: str
    letters: int
    replayed: int
    first_us: int | None
    """When the first one arrived; None for rows of loaded history that do not say."""
    last_us: int | None
    example: str | None
    """The place of the newest one; None for rows of loaded history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One dead letter that came over a log."""

    source: str
    partition: int
    offset: int
    arrived_us: int
    kind: str
    reason: str
    payload: bytes
    replayed_us: int | None
    """When it was published again; None if it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a replay did."""

    published: int
    unfit: Mapping[str, int]
    """Reason -> letters that are no events even now, and stay as they are."""


def place_name(partition: int, offset: int) -> str:
    """A place in a log as commands show and take it: `0:3-1200` is record 1200 of epoch 3 in partition 0."""
    epoch, n = unpack_offset(offset)
    return f"{partition}:{epoch}-{n}"


def place_of(name: str) -> tuple[int, int]:
    """Partition and offset of such a name.

    Raises:
        InputError: it is none.
    """
    found = _PLACE.fullmatch(name)
    if found is None:
        raise InputError(f"a place in a log must be written as partition:epoch-number, such as 0:3-1200, got '{name}'")
    partition, epoch, n = map(int, found.groups())
    return partition, pack_offset(epoch, n)


def count_letters(lake: Lake, wanted: Wanted) -> list[LetterCount]:
    """The letters by source, kind and reason, the most frequent first."""
    condition, values = _condition(wanted)
    sql = f"""
        SELECT source, kind, reason, count(*), count(replayed_us), min(arrived_us), max(arrived_us),
            arg_max(struct_pack(p := "partition", o := "offset"), arrived_us) FILTER ("partition" IS NOT NULL)
        FROM ({_letters_sql(lake)}) WHERE {condition} GROUP BY ALL ORDER BY count(*) DESC, source, kind, reason"""
    with lake.reading() as cursor:
        rows = cursor.execute(sql, values).fetchall()
    return [
        LetterCount(
            source=source, kind=kind, reason=reason, letters=letters, replayed=replayed, first_us=first, last_us=last,
            example=None if place is None else place_name(place["p"], place["o"]),
        )
        for source, kind, reason, letters, replayed, first, last, place in rows
    ]  # fmt: skip


def find_letter(lake: Lake, source: str, place: tuple[int, int]) -> Letter:
    """The letter at a place.

    Raises:
        InputError: there is none.
    """
    for letter in _letters(lake, Wanted(source=source, place=place)):
        return letter
    raise InputError(f"source '{source}' has no dead letter at {place_name(*place)}; `dead-letters list` names some")


def replay(compiled: Compiled, lake: Lake, log: EventLog, wanted: Wanted, *, clock: Clock) -> Replayed:
    """Publish rejected records again that are events by the declarations of now, and mark them.

    Each arrives now, which decides about lateness and visibility; its event time is what it always was. It is marked after it
    was published: what a crash leaves between the two is published twice and counted once. A record that is rejected again
    becomes a new letter, at its new place.

    Args:
        compiled: the declarations after the fix; flow and archiver must run with them as well.
        lake: where the letters are.
        log: of the source.
        wanted: which letters; its source must be given. Duplicates, conflicts and letters replayed before are left alone.
        clock: stamps the arrival.

    Raises:
        InputError: there is nothing to replay.
        LogError: the log does not take them; what was published before is marked.
    """
    source = wanted.source or ""
    if source not in compiled.registry.sources:
        raise UnknownNameError("source", source, compiled.registry.sources)
    published, unfit, found = 0, Counter[str](), False
    for letters in _portions(_letters(lake, wanted, replayable=True)):
        found = True
        fit, reasons = _judge(compiled, source, letters, now_us=clock.now_us())
        unfit.update(reasons)
        if fit:
            now_us = clock.now_us()
            log.publish([Record(place, letter.payload, now_us) for place, letter in fit])
            lake.append(REPLAYED, _marks([letter for _, letter in fit], now_us))
        published += len(fit)
    if not found:
        raise InputError(
            f"source '{source}' has no rejected record of its log to replay (duplicates and conflicts are not replayed, rows of "
            "loaded history are loaded again); see `feature-store dead-letters list`"
        )
    return Replayed(published=published, unfit=dict(unfit))


def _judge(
    compiled: Compiled, source: str, letters: Sequence[Letter], *, now_us: int
) -> tuple[list[tuple[str, Letter]], list[str]]:
    """Those that would be events if they arrived now, with what places them; why the others would not."""
    declared, schema = compiled.registry.source(source), compiled.schemas[source]
    records = [LogRecord(number, now_us, letter.payload) for number, letter in enumerate(letters)]
    accepted = Intake(declared, schema, known=KnownIds()).accept(0, records, start=0)
    numbers: list[int] = accepted.events.column(OFFSET).to_pylist()
    places = place_texts(declared, accepted.events)
    fit = [(place, letters[number]) for place, number in zip(places, numbers, strict=True)]
    return fit, [rejected.reason for rejected in accepted.rejected]


def _letters_sql(lake: Lake) -> str:
    """All letters, with the time at which each was published again."""
    letters = lake.table_sql(LETTERS)
    if not lake.exists(REPLAYED):
        return f"SELECT *, NULL::BIGINT AS replayed_us FROM {letters}"
    marks = f'SELECT source, "partition", "offset", max(replayed_us) AS replayed_us FROM {lake.table_sql(REPLAYED)} GROUP BY ALL'
    return f'SELECT * FROM {letters} LEFT JOIN ({marks}) USING (source, "partition", "offset")'


def _condition(wanted: Wanted) -> tuple[str, dict[str, object]]:
    """SQL and its parameters."""
    partition, offset = wanted.place or (None, None)
    given: dict[str, object] = {
        "source = $source": wanted.source,
        "kind = $kind": wanted.kind,
        "contains(reason, $reason)": wanted.reason,
        "arrived_us >= $since": wanted.since_us,
        "arrived_us < $until": wanted.until_us,
        '"partition" = $partition': partition,
        '"offset" = $offset': offset,
    }
    given = {sql: value for sql, value in given.items() if value is not None}
    values = {sql[sql.index("$") + 1 :].rstrip(")"): value for sql, value in given.items()}
    return " AND ".join(given) or "TRUE", values


def _letters(lake: Lake, wanted: Wanted, *, replayable: bool = False) -> Iterator[Letter]:
    """Letters that came over a log, in the order of each partition."""
    condition, values = _condition(wanted)
    if replayable:
        condition += " AND kind = 'rejected' AND replayed_us IS NULL"
    sql = f"""SELECT source, "partition", "offset", arrived_us, kind, reason, payload, replayed_us
        FROM ({_letters_sql(lake)}) WHERE "partition" IS NOT NULL AND {condition} ORDER BY 1, 2, 3"""
    with lake.cursor() as cursor:
        found = cursor.execute(sql, values)
        while rows := found.fetchmany(PORTION):
            for source, partition, offset, arrived_us, kind, reason, payload, replayed_us in rows:
                yield Letter(
                    source=source, partition=partition, offset=offset, arrived_us=arrived_us, kind=kind, reason=reason,
                    payload=payload, replayed_us=replayed_us,
                )  # fmt: skip


def _portions(letters: Iterator[Letter]) -> Iterator[list[Letter]]:
    portion: list[Letter] = []
    for letter in letters:
        portion.append(letter)
        if len(portion) == PORTION:
            yield portion
            portion = []
    if portion:
        yield portion


def _marks(letters: Sequence[Letter], now_us: int) -> pa.Table:
    rows = [(letter.source, letter.partition, letter.offset, now_us) for letter in letters]
    return pa.table([list(column) for column in zip(*rows, strict=True)], schema=_MARK)
