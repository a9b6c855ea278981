"""A second opinion: windows by SQL joins written from the declaration alone, sharing no code with `transforms`.

For each served vector its entity's events are joined by a condition on their time, and aggregated where they lie in a
feature's window and were known. Integer sums come back exact and are finished in plain Python. Slow, so for a sample.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.declare.computed import Computed
from feature_store.declare.feature import FeatureRef, Ratio
from feature_store.errors import SnapshotGone
from feature_store.lake.books.stream import STREAM_COMMITS
from feature_store.lake.view_tables import rows_table
from feature_store.proof.layout import ServedFeature, ServedLayout
from feature_store.proof.operands import Operand, operand
from feature_store.proof.runs import Runs, at_state
from feature_store.proof.served_log import view_column
from feature_store.status import Status
from feature_store.time_rule import from_us, parse_duration

if TYPE_CHECKING:
    import duckdb

    from feature_store.declare.feature import Feature
    from feature_store.declare.keyed import KeyedView
    from feature_store.declare.view import FeatureView
    from feature_store.lake import Lake

Answer = tuple[object, Status] | None
"""A value and its status; None where the lake does not say what was known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleReport:
    """What the second opinion was."""

    vectors: int
    values: int
    unequal: int
    by_feature: Mapping[str, int]
    differences: Sequence[tuple[str, int, object, object]]
    """(feature, row of the record, served, oracle's), the first of them."""


def consult(lake: Lake, layout: ServedLayout, record: pa.Table, *, snapshot: int) -> OracleReport:
    """Compare the values of a record (conformed) with what SQL says.

    Values that are STALE, or UNKNOWN, or replaced by a policy, promise nothing and are left out.
    """
    answers: dict[tuple[str, str], list[Answer]] = {}
    record_rows = record.append_column("_i", pa.array(range(record.num_rows), type=pa.int64()))
    for each in layout.reads.values():
        answers |= _view_answers(lake, each.read, record_rows, snapshot)
    values, by_feature, differences = 0, {}, []
    for feature in layout.features:
        if isinstance(feature.item, Computed):
            continue  # SQL has no second opinion of a Python function
        compared = _compared(layout, feature, record)
        wrong = [row for row, served in compared.items() if not _agree(served, _answer_of(feature, answers, row))]
        values += len(compared)
        if wrong:
            by_feature[feature.name] = len(wrong)
            differences += [(feature.name, row, compared[row], _answer_of(feature, answers, row)) for row in wrong[:10]]
    return OracleReport(
        vectors=record.num_rows,
        values=values,
        unequal=sum(by_feature.values()),
        by_feature=by_feature,
        differences=differences,
    )


# --- what was served -------------------------------------------------------------------------------------------------


def _compared(layout: ServedLayout, feature: ServedFeature, record: pa.Table) -> dict[int, tuple[object, Status]]:
    """Row -> value and status of the served values that promise something."""
    judged = {Status.PRESENT, Status.EMPTY, Status.ERROR}
    if layout.service.on_ahead == "serve":
        judged.add(Status.AHEAD)
    statuses = record.column(feature.status).to_pylist()
    values = _plain_column(record.column(feature.column)).to_pylist()
    pairs = zip(values, statuses, strict=True)
    return {row: (value, Status(status)) for row, (value, status) in enumerate(pairs) if status in judged}


def _plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times as microseconds and dates as days since the epoch, also in lists."""
    kind = column.type
    inner = kind.value_type if pa.types.is_list(kind) else kind
    plain = pa.int64() if pa.types.is_timestamp(inner) else pa.int32() if pa.types.is_date(inner) else inner
    return column.cast(pa.list_(plain) if pa.types.is_list(kind) else plain)


def _agree(served: tuple[object, Status], answer: Answer) -> bool:
    if answer is None:
        return False
    value, status = served
    return _bits(value) == _bits(answer[0]) and (status is answer[1] or status is Status.AHEAD)


def _bits(value: object) -> object:
    """What is equal only for the same value of the same type, to the last bit."""
    if isinstance(value, list):
        return [_bits(item) for item in value]
    return (type(value), struct.pack("<d", value) if isinstance(value, float) else value)


def _answer_of(feature: ServedFeature, answers: Mapping[tuple[str, str], list[Answer]], row: int) -> Answer:
    if isinstance(feature.item, FeatureRef):
        return answers[feature.item.read_id, feature.item.feature][row]
    if not isinstance(feature.item, Ratio):
        return None
    return _quotient(feature.item, *(answers[ref.read_id, ref.feature][row] for ref in feature.refs))


def _quotient(item: Ratio, top: Answer, bottom: Answer) -> Answer:
    if top is None or bottom is None:
        return None
    if Status.ERROR in (top[1], bottom[1]):
        return None, Status.ERROR
    if isinstance(top[0], int | float) and isinstance(bottom[0], int | float) and bottom[0] != 0:
        return float(top[0]) / float(bottom[0]), Status.PRESENT
    return item.empty, Status.EMPTY


# --- windows ---------------------------------------------------------------------------------------------------------


def _view_answers(lake: Lake, read: KeyedView, record: pa.Table, snapshot: int) -> dict[tuple[str, str], list[Answer]]:
    """Every feature of a view in its role: an answer per row of the record."""
    names = [feature.name for feature in read.view.declared]
    found: dict[tuple[str, str], list[Answer]] = {(read.id, name): [None] * record.num_rows for name in names}
    for loaded_at, rows in _loaded_states(lake, read, record, snapshot):
        answers: dict[str, dict[int, Answer]] = {}
        # What runs knew may be forgotten.
        with suppress(SnapshotGone), at_state(lake, loaded_at, snapshot=snapshot) as at, at.reading() as cursor:
            cursor.register("record", record)
            cursor.execute(f"CREATE OR REPLACE TEMP TABLE mine AS SELECT * FROM record WHERE {rows}")
            answers = _answers(cursor, at, read, snapshot, loaded_at)
        for name, answered in answers.items():
            for i, each in answered.items():
                found[read.id, name][i] = each
    return found


def _loaded_states(lake: Lake, read: KeyedView, record: pa.Table, snapshot: int) -> list[tuple[int, str]]:
    """The snapshots whose loaded events count, and for which rows of the record: as of its run's beginning."""
    if read.view.is_batch:
        return [(snapshot, "TRUE")]
    span = pc.min_max(record.column(view_column(read.id, "as_of_us"))).as_py()
    if span["min"] is None:
        return [(snapshot, "TRUE")]
    window = read.view.longest_window_us
    days = (date.min if window is None else _day(span["min"] - window), _day(span["max"]))
    changed = Runs.of(lake, snapshot=snapshot).loaded_at(lake, read.view.source.name, days=days, snapshot=snapshot)
    run = f'"{view_column(read.id, "run")}"'
    states = {state: [r for r, other in changed.items() if other == state] for state in sorted(set(changed.values()))}
    listed = [(state, f"{run} IN ({', '.join(map(str, runs))})") for state, runs in states.items()]
    rest = f"coalesce({run}, 0) NOT IN ({', '.join(map(str, changed))})" if changed else "TRUE"
    return [*listed, (snapshot, rest)]


def _answers(
    cursor: duckdb.DuckDBPyConnection, lake: Lake, read: KeyedView, snapshot: int, loaded_at: int
) -> dict[str, dict[int, Answer]]:
    """Feature -> row of the record -> answer, of the rows of the table `mine`."""
    view = read.view
    ask = _ask_batch if view.is_batch else _ask_stream
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE asked AS {ask(lake, read, snapshot)}")
    cursor.execute("CREATE OR REPLACE TEMP TABLE reached AS SELECT *, " + _tails_sql(view) + " FROM asked")
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE ahead AS {_ahead_sql(lake, read, snapshot)}")
    spans = cursor.execute("SELECT min(since), max(t) FROM reached").fetchone()
    if spans is None or spans[1] is None:
        return {}
    asked = {row[0] for row in cursor.execute("SELECT DISTINCT i FROM asked").fetchall()}
    events = _events_sql(lake, view, snapshot, loaded_at, first_us=spans[0], last_us=spans[1])
    described = cursor.execute(f"DESCRIBE SELECT {_expressions_sql(view)} FROM ({events})").fetchall()
    operands = [operand(feature, str(row[1])) for feature, row in zip(view.declared, described, strict=True)]
    rows = {row[0]: row[1:] for row in cursor.execute(_windows_sql(view, events, operands)).fetchall()}
    found: dict[str, dict[int, Answer]] = {}
    place = 0
    for feature, each in zip(view.declared, operands, strict=True):
        size, none = len(each.parts), (None,) * len(each.parts)
        found[feature.name] = {i: each.finish(rows[i][place : place + size] if i in rows else none) for i in asked}
        place += size
    return found


def _ask_stream(lake: Lake, read: KeyedView, snapshot: int) -> str:
    """(row, keys, time) of each vector, once per partition with how far its commit had read, once for loaded events."""
    view = read.view
    commits = _commits_sql(lake, snapshot)
    keys = "".join(f', r."{column}" AS "{key}"' for key, column in read.columns.items())
    as_of, run, n, shard = (f'r."{view_column(read.id, name)}"' for name in ("as_of_us", "run", "n", "shard"))
    at = f"c.shard = {shard} AND c.run = {run} AND c.n = {n}"
    return (
        f'SELECT r._i AS i{keys}, {as_of} AS t, c."partition" AS p, max(c.position) AS upto, min(c.now_us) AS now_us, '
        f"NULL::BIGINT AS built_from FROM mine AS r JOIN {commits} AS c ON {at} "
        f"WHERE c.source = '{view.source.name}' GROUP BY ALL "
        f"UNION ALL SELECT DISTINCT r._i{keys}, {as_of}, -1, NULL::BIGINT, NULL::BIGINT, NULL::BIGINT "
        f"FROM mine AS r JOIN {commits} AS c ON {at}"
    )


def _commits_sql(lake: Lake, snapshot: int) -> str:
    """What was committed; nothing in a lake to which no stream has come yet."""
    if lake.exists(STREAM_COMMITS):
        return lake.table_sql(STREAM_COMMITS, snapshot=snapshot)
    numbers = ", ".join(
        f'NULL::BIGINT AS "{name}"' for name in ("shard", "run", "n", "partition", "position", "now_us")
    )
    return f"(SELECT {numbers}, NULL::VARCHAR AS source WHERE FALSE)"


def _ahead_sql(lake: Lake, read: KeyedView, snapshot: int) -> str:
    """The earlier commits of a vector's run that folded at a later time than its own: the flow's clock went back since."""
    if read.view.is_batch:
        return (
            "SELECT NULL::BIGINT AS i, NULL::BIGINT AS p, NULL::BIGINT AS position, NULL::BIGINT AS now_us WHERE FALSE"
        )
    run, n, shard = (f'r."{view_column(read.id, name)}"' for name in ("run", "n", "shard"))
    later = "min(now_us) OVER (PARTITION BY shard, run ORDER BY n RANGE BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)"
    return (
        f"WITH c AS (SELECT * FROM {_commits_sql(lake, snapshot)} QUALIFY now_us > {later}) "
        f"SELECT a.i, a.p, c.position, c.now_us FROM c JOIN mine AS r ON c.shard = {shard} AND c.run = {run} AND c.n < {n} "
        f'JOIN asked AS a ON a.i = r._i AND a.p = c."partition" AND c.now_us > a.now_us '
        f"WHERE c.source = '{read.view.source.name}'"
    )


def _ask_batch(lake: Lake, read: KeyedView, snapshot: int) -> str:
    """The same for the rows of a batch view, which know what the lake held when their version was built."""
    view = read.view
    keys = "".join(f', r."{column}" AS "{key}"' for key, column in read.columns.items())
    run, n = (f'r."{view_column(read.id, name)}"' for name in ("run", "n"))
    table = rows_table(view)
    builds = f"SELECT DISTINCT snapshot, built_from FROM {lake.table_sql('builds', snapshot=snapshot)} WHERE table_name = '{table}'"
    moved = (
        f"SELECT snapshot, unnest(map_entries(positions)) AS e FROM {lake.table_sql('commits', snapshot=snapshot)} "
        f"WHERE source = '{view.source.name}' AND kind = 'live'"
    )
    asked = (
        f"SELECT r._i AS i{keys}, {n} * 1000000 AS t, coalesce(b.built_from, {run}) AS built_from "
        f"FROM mine AS r LEFT JOIN ({builds}) AS b ON b.snapshot = {run} WHERE {run} > 0"
    )
    names = "".join(f', a."{key}"' for key in read.columns)
    return (
        f"WITH a AS ({asked}) SELECT a.i{names}, a.t, m.e.key AS p, max(m.e.value) AS upto, "
        f"9223372036854775807 AS now_us, a.built_from FROM a JOIN ({moved}) AS m ON m.snapshot <= a.built_from "
        f"GROUP BY ALL UNION ALL SELECT a.i{names}, a.t, -1, NULL, NULL, a.built_from FROM a"
    )


def _tails_sql(view: FeatureView) -> str:
    """`since<k>`: where the window of feature k begins; `since`: where the longest one does."""
    tails = [_tail_sql(feature) for feature in view.declared]
    listed = ", ".join(f"{tail} AS since{k}" for k, tail in enumerate(tails))
    return f"{listed}, least({', '.join(tails)}) AS since"


def _tail_sql(feature: Feature) -> str:
    if feature.window_us is None:
        return "(-4611686018427387904)::BIGINT"
    start, hop = f"(t - {feature.window_us})", feature.hop_us
    return f"({start} - (({start} % {hop}) + {hop}) % {hop})"


def _events_sql(lake: Lake, view: FeatureView, snapshot: int, loaded_at: int, *, first_us: int, last_us: int) -> str:
    """The events that belong to the view, with the snapshot that loaded their day."""
    days = None if first_us < 0 else (_day(first_us), _day(last_us))
    conditions = [f"_event_us < {last_us}", f"_event_us >= {first_us}"]
    conditions += [f"coalesce(TRY({view.where}), FALSE)"] if view.where else []
    if view.late_events == "ignore" and view.lateness is not None:
        limit = parse_duration(view.lateness, name="lateness")
        conditions.append(f"(_arrived_us IS NULL OR _arrived_us - _event_us <= {limit})")
    events = lake.events_sql(
        view.source.name,
        snapshot=snapshot,
        loaded_at=None if loaded_at == snapshot else loaded_at,
        days=days,
        where=" AND ".join(conditions),
    )
    loads = (
        f"SELECT _day, min(snapshot) AS loaded_at FROM (SELECT snapshot, unnest(days) AS _day FROM "
        f"{lake.table_sql('commits', snapshot=snapshot)} WHERE source = '{view.source.name}' AND kind = 'loaded') "
        "GROUP BY _day"
    )
    return f"SELECT e.*, l.loaded_at FROM ({events}) AS e LEFT JOIN ({loads}) AS l USING (_day)"


def _expressions_sql(view: FeatureView) -> str:
    """The aggregated expression of each feature, as it is; `1` where there is none."""
    return ", ".join(
        "1 AS x" if feature.column is None else f"TRY({feature.column}) AS x{k}"
        for k, feature in enumerate(view.declared)
    )


def _windows_sql(view: FeatureView, events: str, operands: Sequence[Operand]) -> str:
    """One row per vector that has an event: the parts of all features, one after the other."""
    values = ", ".join(f"{each.value} AS x{k}" for k, each in enumerate(operands))
    keys = "".join(f'"{key}", ' for key in view.entity.join_keys)
    on = "".join(f'a."{key}" = e."{key}" AND ' for key in view.entity.join_keys)
    parts = [
        f"{part.format(x=f'e.x{k}')} FILTER (WHERE e.us >= a.since{k} AND {each.counts.format(x=f'e.x{k}')})"
        for k, each in enumerate(operands)
        for part in each.parts
    ]
    known = (
        "CASE WHEN e.p < 0 THEN a.built_from IS NULL OR e.loaded_at <= a.built_from "
        "ELSE e.o < a.upto AND (e.us < a.now_us OR EXISTS "
        "(FROM ahead AS b WHERE b.i = a.i AND b.p = a.p AND b.position > e.o AND b.now_us > e.us)) END"
    )
    return (
        f"SELECT a.i, {', '.join(parts)} FROM reached AS a JOIN (SELECT {keys}_event_us AS us, _event_id AS id, "
        f"coalesce(_partition, -1) AS p, _offset AS o, loaded_at, {values} FROM ({events})) AS e "
        f"ON {on}a.p = e.p AND e.us < a.t AND e.us >= a.since WHERE {known} GROUP BY a.i"
    )


def _day(time_us: int) -> date:
    return from_us(time_us).date()
