"""What the stream counts: every record by what became of it, every commit. `test_streams_handover` asks a real flow."""

import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from feature_store_deploy.streams.endpoint import serve_metrics
from feature_store_deploy.streams.metrics import StreamMetrics, late_after_us
from prometheus_client import CollectorRegistry
from prometheus_server import CLIENT
from stream_world import NOW_US, SOURCE, World, compiled, registry, rows

from feature_store import FeatureView, Registry, agg
from feature_store.embedded import HOST, free_port
from feature_store.fold.archive import Archiver
from feature_store.fold.run import PartitionReader
from feature_store.log.protocol import Record
from feature_store.time_rule import MINUTE_US


@pytest.fixture
def world(valkey, tmp_path, environment):
    made = World(valkey.url, tmp_path, environment)
    yield made
    made.close()


def metrics(process):
    counts = CollectorRegistry()
    return counts, StreamMetrics(process, registry, [SOURCE], to=counts)


def test_the_archiver_counts_each_record_once_by_what_became_of_it(world):
    counts, observer = metrics("archive")
    archiver = Archiver(compiled, world.lake, world.log, source=SOURCE, observer=observer)
    some = rows(40)
    world.publish([*some, *some[:5], some[0] | {"level": 99}])
    world.log.publish([Record("x", b"{", NOW_US)])

    archiver.step()
    archiver.step()

    told = {each: counts.get_sample_value("archive_events_total", {"source": SOURCE, "outcome": each})
            for each in ("accepted", "duplicate", "conflict", "rejected")}  # fmt: skip
    assert told == {"accepted": 40, "duplicate": 5, "conflict": 1, "rejected": 1}
    assert counts.get_sample_value("archive_commit_seconds_count") == 1
    assert counts.get_sample_value("archive_written_total") == 47
    assert counts.get_sample_value("archive_batch_records_sum", {"source": SOURCE}) == 47
    newest = max(row["at"] for row in some).timestamp()
    assert counts.get_sample_value("archive_newest_event_timestamp_seconds", {"source": SOURCE}) == newest


def test_a_partition_without_records_has_no_batch(world):
    counts, observer = metrics("archive")
    archiver = Archiver(compiled, world.lake, world.log, source=SOURCE, observer=observer)
    world.publish(rows(1))

    archiver.step()

    assert counts.get_sample_value("archive_batch_records_count", {"source": SOURCE}) == 1


def test_an_archiver_that_could_not_commit_has_counted_nothing(world):
    counts, observer = metrics("archive")
    archiver = Archiver(compiled, world.lake, world.log, source=SOURCE, observer=observer)
    archiver.step()
    world.publish(rows(10))
    world.archive()
    with pytest.raises(Exception, match="another"):
        archiver.step()

    assert counts.get_sample_value("archive_events_total", {"source": SOURCE, "outcome": "accepted"}) == 0


def test_the_flow_counts_what_it_reads_and_which_of_it_was_late(world):
    counts, observer = metrics("stream")
    now = [row | {"at": row["at"].replace(year=2024, month=5, day=10, hour=9, minute=30, second=0)} for row in rows(7)]
    world.publish([*now, *rows(3, seed=1, until_us=NOW_US - 10 * MINUTE_US)])
    start = world.stream().start
    for partition in range(world.log.partitions):
        reader = PartitionReader(
            compiled, world.lake, world.log, start, source=SOURCE, partition=partition, observer=observer
        )
        reader.take(reader.read())
        reader.take([])  # a beat is no batch

    assert counts.get_sample_value("stream_events_total", {"source": SOURCE, "outcome": "accepted"}) == 10
    assert counts.get_sample_value("stream_late_events_total", {"source": SOURCE}) == 3
    assert counts.get_sample_value("stream_batch_records_count", {"source": SOURCE}) <= world.log.partitions


def test_late_is_what_some_view_calls_late():
    patient = FeatureView(
        "patient", entity=registry.views[0].entity, source=registry.views[0].source, lateness="2h",
        late_events="ignore", features=[agg.count(over="1h")],
    )  # fmt: skip

    assert late_after_us(registry, SOURCE) == MINUTE_US
    assert late_after_us(Registry(views=[patient]), SOURCE) == 120 * MINUTE_US


def test_a_port_that_is_in_use_is_taken_as_soon_as_it_is_free():
    counts, port = CollectorRegistry(), free_port()
    with HTTPServer((HOST, port), BaseHTTPRequestHandler):
        serve_metrics(counts, host=HOST, port=port)
        time.sleep(0.2)
    deadline = time.monotonic() + 10
    while True:
        try:
            assert CLIENT.get(f"http://{HOST}:{port}/metrics").status_code == 200
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return
