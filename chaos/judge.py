"""After a round, at a quiet time: whether every promise held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chaos.declared import HISTORY, SERVICE, SHOPS, SOURCE, Row, history_rows, registry
from chaos.publisher import NEVER_US, read_outbox, read_sent
from chaos.watch import BELIEVED
from feature_store.clock import ManualClock
from feature_store.proof.prove import prove
from feature_store.proof.served_log import view_column
from feature_store.reader import FeatureReader
from feature_store.reader.vector import feature_column, status_column
from feature_store.status import Status
from feature_store.testing.events import read_events
from feature_store.testing.mismatch import bits
from feature_store.testing.naive_path import NaivePath
from feature_store.time_rule import moment_us, to_us

if TYPE_CHECKING:
    from chaos.findings import Findings
    from chaos.stack import Loss, Stack
    from chaos.watch import Watch
    from feature_store.reader.vector import FeatureVector

SHOWN = 5

VIEWS = ("spending@1", "shops@1")
Commit = tuple[int, int, int]
"""(shard, run, n)"""


class Fold(NamedTuple):
    """What a commit says of its fold."""

    now_us: int
    positions: dict[int, int]


def judge(stack: Stack, watch: Watch, findings: Findings) -> None:
    """Judge a round whose deployment has come to rest, and whose reader has stopped."""
    judge_lake(stack, findings)
    judge_record(stack, watch, findings)
    judge_end(stack, findings)


def accepted_rows(stack: Stack) -> dict[str, Row]:
    """Event id -> the first payload of it that the log has acknowledged in time.

    If the log lost that one and had another payload of it before the first came again, the other is the first that was kept.
    """
    found = _acknowledged_rows(stack)
    held = _lake_rows(stack, [name for name, rows in found.items() if len(rows) > 1])
    return {name: _kept(stack, rows, held.get(name)) for name, rows in found.items()}


def _kept(stack: Stack, rows: Sequence[tuple[int, Row]], held: object) -> Row:
    """The payload that counts, of those that were acknowledged (number of the batch, payload), the first one first."""
    number, first = rows[0]
    if not any(loss.batches > number for loss in stack.losses):
        return first
    return next((row for _, row in rows if row["amount"] == held), first)


def _lake_rows(stack: Stack, names: Sequence[str]) -> dict[str, object]:
    """Event id -> the amount that the lake has of it: all in which payloads of one id differ."""
    if not names:
        return {}
    lake = stack.store.lake
    with lake.reading() as cursor:
        sql = (
            f"SELECT _event_id, amount FROM {lake.table_sql(f'events_{SOURCE}_live')} WHERE list_contains(?, _event_id)"
        )
        return dict(cursor.execute(sql, [list(names)]).fetchall())


def _acknowledged_rows(stack: Stack) -> dict[str, list[tuple[int, Row]]]:
    """Event id -> the different payloads of it that the log has acknowledged in time, each with the number of its batch."""
    batches = read_outbox(stack.place)
    found: dict[str, list[tuple[int, Row]]] = {}
    arrivals: dict[int, list[int]] = {}
    for number, arrived_us in read_sent(stack.place):
        if arrived_us != NEVER_US:
            arrivals.setdefault(number, []).append(arrived_us)
    tolerance = registry.source(SOURCE).future_tolerance_us
    for number, batch in enumerate(batches):
        for row in batch.rows:
            at_us = moment_us(row["paid_at"], "paid_at")
            if any(at_us - arrived <= tolerance for arrived in arrivals.get(number, [])):
                rows = found.setdefault(str(row["payment_id"]), [])
                if all(row != other for _, other in rows):
                    rows.append((number, row))
    return found


def judge_lake(stack: Stack, findings: Findings) -> None:
    """No accepted event is missing in the lake, none is there twice, none is made up."""
    accepted, lake = accepted_rows(stack), stack.store.lake
    with lake.reading() as cursor:
        table = lake.table_sql(f"events_{SOURCE}_live")
        found = cursor.execute(f"SELECT _event_id, count(*) FROM {table} GROUP BY 1").fetchall()
    there = dict(found)
    published = {str(row["payment_id"]) for batch in read_outbox(stack.place) for row in batch.rows}
    missing = sorted(accepted.keys() - there.keys())
    twice = sorted(name for name, count in there.items() if count > 1 or name not in published)
    findings.lost += len(missing)
    findings.duplicated += len(twice)
    if missing:
        findings.tell(f"{len(missing)} accepted events are not in the lake: {missing[:SHOWN]}")
    if twice:
        findings.tell(f"{len(twice)} events are in the lake twice, or were never published: {twice[:SHOWN]}")


def judge_record(stack: Stack, watch: Watch, findings: Findings) -> None:
    """Every recorded vector is what its commit could know; no reader was given an older value after a newer one."""
    findings.regressed += len(watch.regressed)
    for each in watch.regressed[:SHOWN]:
        findings.tell(f"{each.key} went back from (run, n) {each.before} to {each.after}")
    if not len(watch.served):
        return
    if not stack.store.lake.exists("stream_commits"):
        findings.tell(f"{len(watch.served)} vectors were read, and the lake has no commit record")
        findings.unsettled += 1
        return
    table = watch.served.table()
    excused = excused_vectors(stack, table, np.array(watch.read_at))
    believed = _believed(table)
    findings.excused += int((excused & believed).sum())
    findings.judged += int((~excused & believed).sum())
    table = table.filter(pa.array(~excused))
    if not table.num_rows:
        return
    proof = prove(stack.store.compiled, stack.store.lake, table, sample=200)
    findings.values += proof.values
    findings.unequal += proof.unequal + proof.oracle_unequal
    for difference in proof.report.differences[:SHOWN]:
        findings.tell(f"served: {difference}")


def excused_vectors(stack: Stack, table: pa.Table, read_at: np.ndarray) -> np.ndarray:
    """Vectors of which the server lost what they rest on.

    Read before: their commit, or events that it knew, had not come to the lake. Read after: their run may still know
    events that the log had lost and of which no commit says so again: until they were sent again, and read by a fold
    whose clock says that they have happened.
    """
    excused = np.zeros(table.num_rows, dtype=bool)
    folds = _folds(stack)
    for view in VIEWS:
        columns = (table.column(view_column(view, name)).to_pylist() for name in ("shard", "run", "n"))
        commits = list(zip(*columns, strict=True))
        for loss in stack.losses:
            known_again = _known_again(folds, loss)
            named = {commit for commit in commits if commit[1]}  # 0: the reader knew of none
            provable = {c: c in folds and _is_within(folds[c].positions, loss.positions) for c in named}
            early = {c: c not in folds or c[2] < known_again.get(c[:2], c[2] + 1) for c in named}
            before = read_at <= loss.at_s
            excused |= before & ~np.array([provable.get(commit, True) for commit in commits])
            excused |= ~before & np.array([early.get(commit, False) for commit in commits])
    return excused


def _believed(table: pa.Table) -> np.ndarray:
    """The vectors with a value that a reader was to believe."""
    believed = pa.array([int(status) for status in BELIEVED], type=pa.int8())
    statuses = [table.column(name) for name in table.column_names if name.endswith("__status")]
    return np.logical_or.reduce([pc.is_in(column, believed).to_numpy() for column in statuses])


def _known_again(folds: Mapping[Commit, Fold], loss: Loss) -> dict[tuple[int, int], int]:
    """(shard, run) -> the first commit that knows what had been published before a loss by its positions in the log."""
    if loss.sent_again is None:
        return {}
    again = [
        commit
        for commit, fold in folds.items()
        if fold.now_us > loss.newest_us and _is_within(loss.sent_again, fold.positions)
    ]
    return {commit[:2]: commit[2] for commit in sorted(again, reverse=True)}


def _is_within(positions: Mapping[int, int], others: Mapping[int, int]) -> bool:
    """Whether no position lies beyond the others; of a partition that those do not name, all do."""
    return all(at <= others.get(p, -1) for p, at in positions.items())


def _folds(stack: Stack) -> dict[Commit, Fold]:
    lake = stack.store.lake
    found: dict[Commit, Fold] = {}
    if not lake.exists("stream_commits"):
        return found
    with lake.reading() as cursor:
        sql = f'SELECT shard, run, n, now_us, "partition", position FROM {lake.table_sql("stream_commits")}'
        for *commit, now_us, partition, position in cursor.execute(sql).fetchall():
            found.setdefault(tuple(commit), Fold(now_us, {})).positions[partition] = position
    return found


def judge_end(stack: Stack, findings: Findings) -> None:
    """Online values are those of a training set and those of naive loops, for every entity and feature."""
    spine, online = read_all(stack)
    offline = stack.store.get_historical_features(
        spine, SERVICE, knowledge="corrected", statuses=True, allow_incomplete=True
    ).table
    naive = naive_values(stack, spine)
    for row, (request, vector) in enumerate(zip(spine.to_pylist(), online, strict=True)):
        for position, name in enumerate(vector.names):
            served = (vector.values[position], vector.statuses[position])
            others = {
                "training set": (
                    offline.column(feature_column(name))[row].as_py(),
                    Status(offline.column(status_column(name))[row].as_py()),
                ),
                "naive loops": naive[row][position],
            }
            findings.values += 1
            different = {
                said: found
                for said, found in others.items()
                if (bits(found[0]), found[1]) != (bits(served[0]), served[1])
            }
            if different:
                findings.unequal += 1
                findings.tell(f"at the end: {name} of {request}: online {served}, {different}")


def read_all(stack: Stack) -> tuple[pa.Table, list[FeatureVector]]:
    """What a reader says about every entity at one time, and that as a spine."""
    now_us = stack.store.clock.now_us()
    rows = [{"customer": name, "shop": SHOPS[i % len(SHOPS)]} for i, name in enumerate(stack.entities())]
    place = stack.place
    with FeatureReader(place.url, env=place.settings.environment, clock=ManualClock(now_us)) as reader:
        vectors = reader.get_online_features_batch(SERVICE, rows, as_of=now_us)
    times = pa.array([now_us] * len(rows), type=pa.timestamp("us", "UTC"))
    return pa.Table.from_pylist(rows).append_column("event_timestamp", times), vectors


def naive_values(stack: Stack, spine: pa.Table) -> list[list[tuple[object, Status]]]:
    """The service by loops over what was published, from the outbox: neither lake nor log has a part in it."""
    compiled = stack.store.compiled
    rows = [*accepted_rows(stack).values(), *history_rows(*HISTORY)]
    path = NaivePath(compiled, read_events(compiled, {SOURCE: rows}))
    service = registry.service(SERVICE)
    resolved = registry.resolve(service)
    return [path.values(service, resolved, row=row, time_us=to_us(row["event_timestamp"])) for row in spine.to_pylist()]
