"""An evolved source is planned, applied or refused as a whole, and reaches a running flow without a pause."""

from dataclasses import replace

import pandas as pd
import pandera.pandas as pandera
import pytest
from changing_world import Click, clicks, user
from changing_world import Deployment as Place
from flow_world import Deployment
from registry_server import schema_registry
from stream_world import Reading, readings, sites
from test_streams_handover import apply_views, growing, polled, publish_until, wait_for_run

from feature_store import DeclarationError, Entity, FeatureStore, FeatureView, Registry, Settings, agg
from feature_store.changing.apply import apply
from feature_store.decoders import confluent_avro
from feature_store.errors import ApplyConflict
from feature_store.reader import Status
from feature_store.time_rule import from_us
from feature_store.transforms.compiled import compile_registry


class Charged(Reading):
    battery: int = pandera.Field(default=5)


charged = replace(readings, schema=Charged)
evolved = Registry(
    views=[
        replace(sites, source=charged),
        FeatureView(
            "batteries",
            entity=Entity("site", join_keys=["site"]),
            source=charged,
            features=[agg.sum("battery", over=None)],
        ),
    ]
)
"""What `declared.py` imports once the declarations have changed."""


class Paid(Click):
    price: float = pandera.Field(nullable=True)


class Wrong(Click):
    value: str = pandera.Field(nullable=True)
    price: float


def spending(schema):
    source = replace(clicks, schema=schema)
    return Registry(views=[FeatureView("live", entity=user, source=source, features=[agg.count(over="1h")])])


@pytest.fixture
def place(valkey, tmp_path, environment):
    made = Place(valkey.url, tmp_path, environment)
    yield made
    made.close()


def test_a_plan_shows_what_becomes_of_a_source_and_apply_widens_its_tables(place):
    place.store(spending(Click)).apply()
    after = place.store(spending(Paid))

    [change] = after.plan().changes
    assert (change.kind, change.what, change.breaking) == ("changed", "source clicks", False)
    assert change.reason == "column 'price' added: double, nullable"
    assert "price" not in place._lake.columns("events_clicks_live")

    after.apply()
    assert place._lake.columns("events_clicks_live")["price"] == "DOUBLE"
    assert after.plan().changes == []


def test_incompatible_changes_are_refused_in_one_report_and_nothing_is_changed(place):
    store = place.store(spending(Click))
    store.apply()
    version, snapshot = store.applied().version, place._lake.snapshot()
    wrong = place.store(spending(Wrong))

    assert wrong.plan().is_breaking
    with pytest.raises(DeclarationError) as refused:
        wrong.apply()

    assert refused.value.problems == (
        (
            "source 'clicks': 'value': int64, nullable -> string, nullable; a type may only be widened (a larger integer "
            "of the same sign, a double, more digits before the point); give the new one another name"
        ),
        (
            "source 'clicks': 'price': double, required; a new column must be nullable or have a default, for old events "
            "do not have it"
        ),
    )
    assert (store.applied().version, place._lake.snapshot()) == (version, snapshot)


def test_of_two_who_evolve_a_source_at_once_the_second_looks_again(place):
    place.store(spending(Click)).apply()
    one, other = place.store(spending(Paid)), place.store(spending(ChargedClick))
    seen = one.plan().version
    other.apply(expected=seen)

    with pytest.raises(ApplyConflict, match="changed source clicks"):
        one.apply(expected=seen)
    assert "price" not in place._lake.columns("events_clicks_live")


WRITTEN = {
    "type": "record",
    "name": "Click",
    "fields": [
        {"name": "click", "type": "string"},
        {"name": "user", "type": ["null", "string"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "value", "type": ["null", "long"]},
    ],
}


def test_apply_asks_the_schema_registry_and_refuses_with_its_words(place):
    with schema_registry() as registry:
        decoder = confluent_avro(registry_url=registry.url, subject="clicks-value", reader_schema=WRITTEN)
        source = replace(clicks, decode=decoder)
        view = FeatureView("live", entity=user, source=source, features=[agg.count(over="1h")])
        store = place.store(Registry(views=[view]))
        assert store.apply() == ["live@1:count_1h"]  # the subject has no schema yet
        registry.register("clicks-value", WRITTEN)
        registry.incompatible = ["READER_FIELD_MISSING_DEFAULT_VALUE: value"]

        said = "source 'clicks': `reader_schema` is not compatible with subject 'clicks-value': READER_FIELD_MISSING"
        with pytest.raises(DeclarationError, match=said):
            store.apply()


class ChargedClick(Click):
    charge: float = pandera.Field(nullable=True)


def _archived(deployment):
    with deployment.lake.cursor() as cursor:
        return cursor.execute(f"SELECT count(*) FROM {deployment.lake.table_sql('events_readings_live')}").fetchone()[0]


@pytest.mark.timeout(600)
def test_an_evolved_source_reaches_a_running_flow_without_a_pause(valkey, tmp_path, environment):
    # producer:  old events           | with a battery, old ones again
    # applied:                      |
    # archiver:  old declarations --| begins again with the new ones
    # flow:      run 1 -------------|--- run 2
    declared = tmp_path / "declared.py"
    declared.write_text(
        "from feature_store import Registry\nfrom stream_world import sites\nregistry = Registry(views=[sites])\n"
    )
    deployment = Deployment(valkey.url, tmp_path, environment)
    deployment.declarations = "declared:registry"
    apply_views(deployment, "sites")
    published = growing(30, seed=1)
    deployment.publish(published)
    deployment.archive()
    with deployment.process("archive", "--every=0.2"), deployment.process("flow") as flow:
        wait_for_run(deployment, flow, 1)
        with polled(deployment, ["north"]) as poll:
            newer = [row | {"battery": 7} for row in growing(10, seed=2)]
            declared.write_text("from test_evolution_applied import evolved as registry\n")
            compiled = compile_registry(evolved)
            apply(compiled, deployment.lake, deployment.client, env=deployment.env, clock=deployment.clock)
            deployment.wait(lambda: "the archiver begins again" in deployment.said("archive"), flow)
            deployment.publish(newer)
            older = publish_until(deployment, flow, run=2, seed=3)
            wait_for_run(deployment, flow, 2)
            deployment.wait_until_caught_up(flow)
        assert (poll.statuses, poll.regressed) == ({Status.PRESENT}, [])
        deployment.wait(lambda: _archived(deployment) == len(published) + len(newer) + len(older), flow)

        settings = Settings(home=tmp_path, environment=environment, redis_url=valkey.url)
        with FeatureStore(evolved, settings=settings, clock=deployment.clock) as store:
            served = store.get_online_features(["batteries:battery_sum"], {"site": "north"})
            spine = pd.DataFrame({"site": ["north"], "event_timestamp": [from_us(deployment.clock.now_us())]})
            trained = store.get_historical_features(
                spine, ["batteries:battery_sum"], knowledge="corrected", allow_incomplete=True
            ).to_arrow()
    expected = 5 * (len(published) + len(older)) + 7 * len(newer)
    assert served.values == [expected]
    assert trained.column("batteries__battery_sum").to_pylist() == [expected]
    deployment.close()
