"""A manifest makes the same bytes again, whatever the lake has been through since; what is gone is said."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest

from feature_store import Entity, EventSource, FeatureStore, FeatureView, ManualClock, Registry, Settings, agg, ratio
from feature_store.errors import InputError, LakeError
from feature_store.history.manifest import Manifest
from feature_store.time_rule import to_us

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
NOW_US = to_us(START + 3 * DAY)


class Sale(pandera.DataFrameModel):
    sale: str
    shop: str
    at: Annotated[pd.DatetimeTZDtype, "us", "UTC"]
    amount: pd.Int64Dtype


def rows(start, end, *, seed):
    """Two shops' sales of some days; another seed has other sales."""
    hours = range(int((end - start) / timedelta(hours=1)))
    times = [start + timedelta(hours=n, minutes=seed) for n in hours]
    return pa.table(
        {
            "sale": [f"s{seed}-{time:%d-%H}" for time in times],
            "shop": ["york" if n % 3 else "bath" for n in hours],
            "at": pa.array(times, pa.timestamp("us", "UTC")),
            "amount": pa.array([n * seed for n in hours], pa.int64()),
        }
    )


def opened(home, *, seeds=(1,), hop=None):
    """A store whose loader gives the sales of the last seed; `hop` gives a feature another meaning."""
    source = EventSource(
        "sales", schema=Sale, event_time="at", event_id="sale", load=lambda start, end: rows(start, end, seed=seeds[-1])
    )
    shop = Entity("shop", join_keys=["shop"])
    shops = FeatureView(
        "shops",
        entity=shop,
        source=source,
        features=[agg.count(over="1d", hop=hop), agg.sum("amount", over="6h"), agg.last_n("amount", n=2, over="1d")],
    )
    daily = FeatureView(
        "daily",
        entity=shop,
        source=source,
        features=[agg.mean("amount", over="1d")],
        online="batch",
        freshness_sla="2d",
    )
    return FeatureStore(Registry(views=[shops, daily]), settings=Settings(home=home), clock=ManualClock(NOW_US))


def asked(store):
    shops, daily = store.registry.view("shops"), store.registry.view("daily")
    return [shops, daily, ratio("rate", shops["amount_sum_6h"], shops["count_1d"])]


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
        store.load("sales", start=START, end=START + 3 * DAY)
        store.materialize("daily", start=START, end=START + 3 * DAY)
        trained = store.get_historical_features(spine(), asked(store), statuses=True)
        store.pin(trained.manifest)
        (folder / "manifest.json").write_text(trained.manifest.to_json())
        (folder / "bytes").write_bytes(bytes_of(trained.table))
        for seed in range(2, 22):
            seeds.append(seed)
            store.load("sales", start=START + (seed % 3) * DAY, end=START + (seed % 3 + 1) * DAY)
        late = late_events()
        store.lake.append_live("sales", late, owner="o", start={0: 0}, end={0: len(late)})
        store.materialize("daily", start=START, end=START + 2 * DAY)
        store.lake.compact_all()
        assert store.lake.expire(older_than_us=2**62, grace_us=0) > 20
    return folder


def late_events():
    live = rows(START, START + DAY, seed=50)
    system = {
        "_event_id": live.column("sale"),
        "_event_us": live.column("at").cast(pa.int64()),
        "_arrived_us": pa.array([NOW_US] * len(live), pa.int64()),
        "_partition": pa.array([0] * len(live), pa.int32()),
        "_offset": pa.array(range(len(live)), pa.int64()),
    }
    return pa.table({**{name: live.column(name) for name in live.column_names}, **system})


def again(folder, **options):
    """The bytes that the manifest makes now."""
    with opened(folder / "home", **options) as store:
        manifest = Manifest.from_json((folder / "manifest.json").read_text())
        return bytes_of(store.rebuild(manifest, spine(), features=asked(store)).table)


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
        "    store.lake.days_loaded('sales'), store.lake.positions('sales')\n"
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
        store.lake.expire(older_than_us=2**62)
        gone = (
            rf"snapshot {trained.manifest.snapshot} is not in the lake at .*: it was expired \(oldest \d+, newest \d+\)"
        )

        with pytest.raises(LakeError, match=gone):
            store.rebuild(trained.manifest, spine())
        with pytest.raises(LakeError, match=r"snapshot 999 is not in the lake at .*: it never was"):
            store.get_historical_features(spine(), ["shops:count_1d"], snapshot=999, allow_incomplete=True)


def test_text_that_is_no_manifest_is_refused():
    with pytest.raises(InputError, match="this is no manifest of a training set"):
        Manifest.from_json("{}")
