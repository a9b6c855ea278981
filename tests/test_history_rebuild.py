"""A manifest makes the same bytes again, whatever the lake has been through since; what is gone is said."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lake_rows import begun

from feature_store import Entity, EventSource, FeatureStore, FeatureView, ManualClock, Registry, Settings, agg, ratio
from feature_store.errors import InputError, LakeError
from feature_store.history.conform import conform
from feature_store.history.manifest import Manifest
from feature_store.history.spine import read_spine
from feature_store.time_rule import to_us

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
NOW_US = to_us(START + 3 * DAY)


class Sale(pandera.DataFrameModel):
    sale: str
    shop: str
    at: Annotated[pd.DatetimeTZDtype, "us", "UTC"]
    amount: pd.Int32Dtype
    weight: pd.Float32Dtype


class Evolved(Sale):
    amount: pd.Int64Dtype
    weight: float
    note: str = pandera.Field(nullable=True)
    currency: str = pandera.Field(default="EUR")


def rows(start, end, *, seed, schema=Sale):
    """Two shops' sales of some days; another seed has other sales."""
    hours = range(int((end - start) / timedelta(hours=1)))
    times = [start + timedelta(hours=n, minutes=seed) for n in hours]
    table = pa.table(
        {
            "sale": [f"s{seed}-{time:%d-%H}" for time in times],
            "shop": ["york" if n % 3 else "bath" for n in hours],
            "at": pa.array(times, pa.timestamp("us", "UTC")),
            "amount": pa.array([n * seed for n in hours], pa.int32()),
            "weight": pa.array([n / 3 + seed for n in hours], pa.float32()),
        }
    )
    if schema is Sale:
        return table
    wide = table.set_column(3, "amount", pa.array([n * seed + 2**40 for n in hours], pa.int64()))
    more = {"note": [None if n % 2 else f"n{n}" for n in hours], "currency": ["CHF" if n % 4 else None for n in hours]}
    for name, values in more.items():
        wide = wide.append_column(name, pa.array(values, pa.string()))
    return wide.set_column(4, "weight", wide.column("weight").cast(pa.float64()))


def opened(home, *, seeds=(1,), hop=None, schema=Sale, **settings):
    """A store whose loader gives the sales of the last seed; `hop` gives a feature another meaning.

    What has evolved has features of the new columns too, in the same version of the view, and another version beside it.
    """
    source = EventSource(
        "sales",
        schema=schema,
        event_time="at",
        event_id="sale",
        load=lambda start, end: rows(start, end, seed=seeds[-1], schema=schema),
    )
    shop = Entity("shop", join_keys=["shop"])
    more = [] if schema is Sale else [agg.count_distinct("currency", over="1d", cap=8), agg.last("note", over="1d")]
    features = [
        agg.count(over="1d", hop=hop),
        agg.sum("amount", over="6h"),
        agg.last_n("amount", n=2, over="1d"),
        agg.last("weight", over="1d"),
        *more,
    ]
    shops = FeatureView("shops", entity=shop, source=source, features=features)
    daily = FeatureView(
        "daily",
        entity=shop,
        source=source,
        features=[agg.mean("amount", over="1d"), *more],
        online="batch",
        freshness_sla="2d",
    )
    later = [] if schema is Sale else [replace(shops, features=[agg.count(over="2d", name="count_1d")], version=2)]
    made = Settings(home=begun(home, settings.get("environment", "dev")), **settings)
    return FeatureStore(Registry(views=[shops, daily, *later]), settings=made, clock=ManualClock(NOW_US))


ASKED = (
    "shops@1:count_1d",
    "shops@1:amount_sum_6h",
    "shops@1:amount_last_2_1d",
    "shops@1:weight_last_1d",
    "daily@1:amount_mean_1d",
)


def asked(store):
    shops = store.registry.view("shops@1")
    return [*ASKED, ratio("rate", shops["amount_sum_6h"], shops["count_1d"])]


def spine():
    times = [START + DAY + timedelta(hours=5 * n, minutes=7) for n in range(9)]
    return pa.table({"shop": ["york", "bath", None] * 3, "event_timestamp": pa.array(times, pa.timestamp("us", "UTC"))})


def bytes_of(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A training set, its manifest and its bytes in files; then 20 loads, late events, a build, compaction and expiry."""
    folder, seeds = tmp_path_factory.mktemp("rebuild"), [1]
    with opened(folder / "home", seeds=seeds) as store:
        train(store, folder)
        load_again(store, seeds, range(2, 22))
        come_late(store, Sale)
        store.materialize("daily", start=START, end=START + 2 * DAY)
        tidy(store)
    return folder


def train(store, folder):
    """Keep a training set: its manifest and its bytes in files, its snapshot pinned."""
    store.load("sales", start=START, end=START + 3 * DAY)
    store.materialize("daily", start=START, end=START + 3 * DAY)
    trained = store.get_historical_features(spine(), asked(store), statuses=True)
    store.pin(trained.manifest)
    (folder / "manifest.json").write_text(trained.manifest.to_json())
    (folder / "bytes").write_bytes(bytes_of(trained.table))


def load_again(store, seeds, more):
    for seed in more:
        seeds.append(seed)
        store.load("sales", start=START + (seed % 3) * DAY, end=START + (seed % 3 + 1) * DAY)


def come_late(store, schema):
    """Events of the first day over the log, when all is loaded."""
    declared, live = store.registry.source("sales"), rows(START, START + DAY, seed=50, schema=schema)
    late = conform(declared, live, schema=store.compiled.schemas["sales"], arrival=None).events
    late = late.drop_columns(["_arrived_us"])
    numbers = np.arange(len(late))
    for name, values in {
        "_arrived_us": numbers * 0 + NOW_US,
        "_partition": (numbers * 0).astype("i4"),
        "_offset": numbers,
    }.items():
        late = late.append_column(name, pa.array(values))
    store.lake.append_live("sales", late, owner="o", start={0: 0}, end={0: len(late)})


def tidy(store):
    store.lake.upkeep.compact_all()
    assert store.lake.upkeep.expire(older_than_us=2**62, grace_us=0).snapshots > 20


def again(folder, *, rows_of=None, **options):
    """The bytes that the manifest makes now."""
    with opened(folder / "home", **options) as store:
        manifest = Manifest.from_json((folder / "manifest.json").read_text())
        return bytes_of(store.rebuild(manifest, rows_of or spine(), features=asked(store)).table)


@pytest.fixture(scope="module")
def evolved(tmp_path_factory, valkey, module_environment):
    """The same, and in the middle of the loads the source evolves, a view gets features of new columns, and a version."""
    folder, seeds = tmp_path_factory.mktemp("evolved"), [1]
    settings = {"redis_url": valkey.url, "environment": module_environment}
    with opened(folder / "home", seeds=seeds, **settings) as store:
        store.apply()
        train(store, folder)
        load_again(store, seeds, range(2, 12))
    with opened(folder / "home", seeds=seeds, schema=Evolved, **settings) as store:
        assert store.apply() == [
            *(
                f"{view}@1:{name}"
                for view in ("shops", "daily")
                for name in ("currency_count_distinct_1d", "note_last_1d")
            ),
            "shops@2:count_1d",
        ]
        assert (
            store.lake.columns("events_sales_live")["amount"],
            store.lake.columns("events_sales_live")["weight"],
        ) == (
            "BIGINT",
            "DOUBLE",
        )
        load_again(store, seeds, range(12, 22))
        come_late(store, Evolved)
        store.materialize("daily", start=START, end=START + 2 * DAY)
        tidy(store)
    return folder, {"schema": Evolved, **settings}


def test_the_same_bytes_come_back_after_the_source_has_evolved(evolved):
    folder, options = evolved
    assert again(folder, **options) == (folder / "bytes").read_bytes()

    with opened(folder / "home", **options) as store:
        more = [*asked(store), "shops@1:currency_count_distinct_1d", "shops@1:note_last_1d"]
        now = store.get_historical_features(spine(), more, statuses=True)
    assert set(now.table.column("shops__currency_count_distinct_1d").to_pylist()) == {None, 2}
    assert now.table.column("shops__weight_last_1d").type == pa.float64()


def test_the_same_bytes_come_back_after_loads_late_events_compaction_and_expiry(made):
    assert again(made) == (made / "bytes").read_bytes()

    with opened(made / "home") as store:
        now = store.get_historical_features(spine(), asked(store), statuses=True)
    assert bytes_of(now.table) != (made / "bytes").read_bytes()


def test_a_fresh_process_that_has_read_the_books_reads_the_old_snapshot_too(made):
    script = (
        "import sys, pathlib; import test_history_rebuild as t; folder = pathlib.Path(sys.argv[1])\n"
        "with t.opened(folder / 'home') as store:\n"
        "    store.lake.ensure_source('sales', store.compiled.schemas['sales'])\n"
        "    store.lake.days('sales').loaded, store.lake.positions('sales')\n"
        "    manifest = t.Manifest.from_json((folder / 'manifest.json').read_text())\n"
        "    found = store.rebuild(manifest, t.spine(), features=t.asked(store))\n"
        "    (folder / 'fresh').write_bytes(t.bytes_of(found.table))\n"
    )
    subprocess.run([sys.executable, "-c", script, made], check=True, cwd=Path(__file__).parent)

    assert (made / "fresh").read_bytes() == (made / "bytes").read_bytes()


def test_a_changed_definition_is_named(made):
    with pytest.raises(InputError, match=r"the definition has changed of 'shops@1:count_1d'; declare it as it was"):
        again(made, hop="2h")


def test_another_spine_is_refused(made):
    with opened(made / "home") as store:
        manifest = Manifest.from_json((made / "manifest.json").read_text())
        with pytest.raises(InputError, match=r"the spine is not that of the manifest: 8 rows with digest"):
            store.rebuild(manifest, spine().slice(1), features=asked(store))


def test_a_snapshot_that_is_gone_is_said(tmp_path):
    with opened(tmp_path) as store:
        store.load("sales", start=START, end=START + 2 * DAY)
        trained = store.get_historical_features(spine(), ["shops:count_1d"], allow_incomplete=True)
        store.load("sales", start=START, end=START + DAY)
        store.lake.upkeep.expire(older_than_us=2**62)
        gone = (
            rf"snapshot {trained.manifest.snapshot} is not in the lake at .*: it was expired \(oldest \d+, newest \d+\)"
        )

        with pytest.raises(LakeError, match=gone):
            store.rebuild(trained.manifest, spine())
        with pytest.raises(LakeError, match=r"snapshot 999 is not in the lake at .*: it never was"):
            store.get_historical_features(spine(), ["shops:count_1d"], snapshot=999, allow_incomplete=True)


def test_a_spine_that_is_cut_from_a_larger_one_is_the_same_spine(made):
    larger = pa.concat_tables([spine().slice(4), spine(), spine()]).combine_chunks()

    assert again(made, rows_of=larger.slice(5, 9)) == (made / "bytes").read_bytes()


VALUES = (
    (pa.int64(), st.integers(-9, 9)),
    (pa.bool_(), st.booleans()),
    (pa.float64(), st.floats(-9, 9)),
    (pa.string(), st.text("aé", max_size=3)),
    (pa.timestamp("us", "UTC"), st.integers(0, 9)),
    (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "b", "c"])),
    (pa.list_(pa.int32()), st.lists(st.none() | st.integers(0, 3), max_size=3)),
    (pa.struct([("a", pa.string())]), st.fixed_dictionaries({"a": st.none() | st.text("a", max_size=2)})),
)


@given(st.data())
def test_a_spine_is_told_by_its_values_however_they_lie_in_memory(data):
    kind, each = data.draw(st.sampled_from(VALUES))
    before, values, after = (data.draw(st.lists(st.none() | each, max_size=12)) for _ in range(3))
    whole = pa.array([*before, *values, *after], kind)
    cut = whole.slice(len(before), len(values))
    split = data.draw(st.integers(0, len(values)))
    chunked = pa.chunked_array([cut.slice(0, split), cut.slice(split)], kind)
    behind = pc.if_else(cut.is_valid(), cut, pa.scalar(None, kind))  # may leave anything behind a null

    found = {digest_of(column) for column in (pa.array(values, kind), cut, chunked, behind)}

    assert len(found) == 1
    assert digest_of(pa.array([*values, None], kind)) not in found


def digest_of(column):
    """Of a spine of one time and, a row after the other, these values; nothing of it is in the lake."""
    times = pa.array(range(len(column)), pa.timestamp("us", "UTC"))
    return read_spine(pa.table({"x": column, "at": times}), lake=None, time_column="at").digest


def test_text_that_is_no_manifest_is_refused():
    with pytest.raises(InputError, match="this is no manifest of a training set"):
        Manifest.from_json("{}")
