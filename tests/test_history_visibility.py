"""What commit records say was visible, against plain loops over events and commits."""

from contextlib import closing
from datetime import UTC, date, datetime
from typing import Annotated

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from feature_store import Entity, EventSource, FeatureView, Registry, agg, redis_stream
from feature_store.history.training import get_historical_features
from feature_store.lake.books.stream import STREAM_COMMITS, STREAM_RUNS
from feature_store.lake.memory import Books, MemoryLake
from feature_store.online.keys import shard_of
from feature_store.time_rule import MINUTE_US, from_us, to_us
from feature_store.transforms.compiled import compile_registry

START_US = to_us(datetime(2024, 1, 1, tzinfo=UTC))
SHOPS, PARTITIONS = ["a", "b", "c"], 2
Time = Annotated[pd.DatetimeTZDtype, "us", "UTC"]


class Sale(pandera.DataFrameModel):
    sale: str
    shop: str
    at: Time
    amount: pd.Int64Dtype


sales = EventSource(
    "sales", schema=Sale, event_time="at", event_id="sale", log=redis_stream("s", partitions=PARTITIONS)
)
shops = FeatureView(
    "shops",
    entity=Entity("shop", join_keys=["shop"]),
    source=sales,
    features=[agg.count(over=["1h", None]), agg.sum("amount", over="1h"), agg.last_n("amount", n=2, over="6h")],
)
compiled = compile_registry(Registry(views=[shops]))
minutes = st.integers(0, 300)


@st.composite
def lives(draw):
    """Events loaded and live, the commits of some runs with their shards, and rows of a spine."""
    loaded = [
        {"shop": shop, "time": time, "arrived": None if delay is None else time + delay, "partition": None}
        for shop, time, delay in draw(
            st.lists(st.tuples(st.sampled_from(SHOPS), minutes, st.one_of(st.none(), minutes)), max_size=5)
        )
    ]
    live = []
    for partition in range(PARTITIONS):
        offset = 0
        for shop, time, arrived in draw(st.lists(st.tuples(st.sampled_from(SHOPS), minutes, minutes), max_size=8)):
            live.append({"shop": shop, "time": time, "arrived": arrived, "partition": partition, "offset": offset})
            offset += draw(st.integers(1, 3))
    return (
        loaded,
        live,
        draw(runs()),
        draw(st.lists(st.tuples(st.sampled_from(SHOPS), minutes), min_size=1, max_size=8)),
    )


@st.composite
def runs(draw):
    """Runs one after the other: (shards, knew what was loaded?, [(shard, n, now, visible, positions)])."""
    found, clock, reached = [], draw(st.integers(0, 100)), [0] * PARTITIONS
    for _ in range(draw(st.integers(0, 3))):
        shards, commits = draw(st.integers(1, 3)), []
        for n in range(draw(st.integers(1, 4))):
            clock += draw(st.integers(0, 40))
            reached = [place + draw(st.integers(0, 4)) for place in reached]
            # Shards commit one after the other, and one may have read less than the others.
            for shard in range(shards):
                behind = draw(st.integers(0, 1)) if n else 0
                places = [max(0, place - behind) for place in reached]
                commits.append((shard, n, clock - draw(st.integers(0, 1)), clock + shard, places))
        if draw(st.booleans()):  # the run ended between values and commit: nobody knows since when they were visible
            commits.append((0, n + 1, clock, None, [place + 9 for place in reached]))
        clock += shards
        found.append((shards, draw(st.sampled_from([None, True, False])), commits))
    return found


class Remembered(MemoryLake):
    """A lake in memory that has the stream's books too."""

    def exists(self, table, *, snapshot=None):
        del snapshot
        with self.cursor() as cursor:
            return (table,) in cursor.execute("SHOW TABLES").fetchall()

    def keep(self, table, rows):
        with self.cursor() as cursor:
            cursor.register("given", rows)
            cursor.execute(f"CREATE TABLE {table} AS FROM given")


def table(rows):
    """Events as the lake gives them."""
    times = [START_US + row["time"] * MINUTE_US for row in rows]
    columns = {
        "sale": ([row["id"] for row in rows], pa.string()),
        "shop": ([row["shop"] for row in rows], pa.string()),
        "at": ([from_us(time) for time in times], pa.timestamp("us", "UTC")),
        "amount": ([row["amount"] for row in rows], pa.int64()),
        "_event_id": ([row["id"] for row in rows], pa.string()),
        "_event_us": (times, pa.int64()),
        "_arrived_us": (
            [None if row["arrived"] is None else START_US + row["arrived"] * MINUTE_US for row in rows],
            pa.int64(),
        ),
        "_partition": ([row["partition"] for row in rows], pa.int32()),
        "_offset": ([row.get("offset") for row in rows], pa.int64()),
        "_late": ([False for _ in rows], pa.bool_()),
        "_day": ([from_us(time).date() for time in times], pa.date32()),
    }
    return pa.table({name: pa.array(values, kind) for name, (values, kind) in columns.items()})


def filled(events, told):
    """A lake that loaded with snapshot 5; runs that knew what was loaded began at 6, the others at 4."""
    lake = Remembered()
    lake.copy("sales", table(events), Books())
    lake.keep(
        "commits", pa.table({"snapshot": [5], "source": ["sales"], "kind": ["loaded"], "days": [[date(2024, 1, 1)]]})
    )
    records, known = [], []
    for run, (shards, knew, commits) in enumerate(told):
        for shard, n, now, visible, positions in commits:
            visible_us = 0 if visible is None else START_US + visible * MINUTE_US
            times = {"now_us": START_US + now * MINUTE_US, "visible_at_us": visible_us}
            for partition, position in enumerate(positions):
                place = {"source": "sales", "partition": partition, "position": position}
                records.append({"shard": shard, "run": run, "n": n, **place, **times})
        if knew is not None:
            known.append({"run": run, "snapshot": 6 if knew else 4, "shards": shards})
    for name, rows in ((STREAM_COMMITS, records), (STREAM_RUNS, known)):
        if rows:
            lake.keep(name, pa.Table.from_pylist(rows))
    return lake


def is_known(event, t, told):
    """The rule, read from the design: is this event known to a vector of its shop at t?"""
    committed = [
        (visible, now, positions, knew)
        for shards, knew, commits in told
        for shard, _, now, visible, positions in commits
        if visible is not None and shard == shard_of("shop", event["shop"], shards=shards)
    ]
    if not any(visible <= t for visible, *_ in committed):
        return event["arrived"] is None or event["arrived"] <= t
    if event["partition"] is None:
        seen = [visible for visible, _, _, knew in committed if knew is not False]
    else:
        seen = [
            visible
            for visible, now, positions, _ in committed
            if positions[event["partition"]] > event["offset"] and now > event["time"]
        ]
    last = max(visible for visible, *_ in committed)
    if not seen and t > last:  # nobody measured it: by its arrival
        return event["arrived"] is None or event["arrived"] <= t
    return any(visible <= t for visible in seen)


def wanted(events, shop, t, told):
    own = [e for e in events if e["shop"] == shop and e["time"] < t and is_known(e, t, told)]
    hour = 60
    recent = [e for e in own if e["time"] >= (t - hour) // 2 * 2]  # the hop of an hour is two minutes
    ordered = sorted((e for e in own if e["time"] >= (t - 6 * hour) // 15 * 15), key=lambda e: (e["time"], e["id"]))
    return [len(recent), len(own), sum(e["amount"] for e in recent), [e["amount"] for e in ordered][-2:]]


@settings(max_examples=200, suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink])
@given(life=lives())
def test_rows_know_what_commits_had_made_visible(life):
    loaded, live, told, rows = life
    for number, event in enumerate([*loaded, *live]):
        event |= {"id": f"e{number:03}", "amount": 1 << number}
    spine = pa.table(
        {
            "shop": [shop for shop, _ in rows],
            "event_timestamp": pa.array(
                [from_us(START_US + t * MINUTE_US) for _, t in rows], pa.timestamp("us", "UTC")
            ),
        }
    )
    with closing(filled([*loaded, *live], told)) as lake:
        found = get_historical_features(compiled, lake, spine, [shops], knowledge="served", allow_incomplete=True)

    columns = [found.table.column(name).to_pylist() for name in found.feature_columns]
    got = [list(values) for values in zip(*columns, strict=True)]
    assert got == [wanted([*loaded, *live], shop, t, told) for shop, t in rows]
