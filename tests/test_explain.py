"""One value taken apart: served, offline, tiles and events side by side."""

from datetime import timedelta

import pytest
from proof_world import CITIES, World

from feature_store import FeatureStore, Settings
from feature_store.errors import InputError
from feature_store.status import Status
from feature_store.time_rule import MINUTE_US, SECOND_US, from_us


@pytest.fixture(scope="module")
def world(valkey, tmp_path_factory, module_environment):
    """An hour of life, all of it archived."""
    made = World(valkey.url, tmp_path_factory.mktemp("explain"), module_environment, seed=3)
    made.clock.move_to(made.clock.now_us() + SECOND_US)
    made.restart()
    for _ in range(4):
        made.happen(30, over_us=10 * MINUTE_US)
        made.step(by_us=10 * MINUTE_US, reads=0)
    made.archive()
    day = from_us(made.clock.now_us()).replace(hour=0, minute=0, second=0, microsecond=0)
    made.store.materialize("hourly", start=day - timedelta(days=1), end=day)
    made.store.publish_view("hourly")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("feature", "entity"),
    [
        *[("every:count_1h", {"city": city}) for city in CITIES],
        ("every@1:fare_sum", {"city": "york"}),
        ("pairs:count_15m", {"city": "york", "kind": "1"}),
        ("hourly:count_1d", {"city": "bath"}),
        ("overall:count_1h", {}),
    ],
)
def test_the_served_value_stands_beside_that_of_the_lake(world, feature, entity):
    found = world.store.explain(feature, entity)

    assert found.equal is True
    assert "  equal" in repr(found)
    if "count" in feature:
        assert found.event_count == found.corrected[0] or found.offline != found.corrected
        assert sum(count for _, count in found.tiles) == found.event_count


def test_events_are_shown_with_place_and_lateness_the_newest_first(world):
    found = world.store.explain("every:count_1d", {"city": "york"})

    times = [event.event_time for event in found.events]
    assert times == sorted(times, reverse=True)
    live = [event for event in found.events if event.partition is not None]
    assert live
    assert all(event.arrived_at - event.event_time == timedelta(microseconds=event.late_us) for event in live)
    text = repr(found)
    assert "arrived +" in text
    assert f"... and {found.event_count - 20} older ones" in text


def test_without_redis_the_lake_still_answers(world):
    settings = Settings(home=world.home, redis_url="redis://127.0.0.1:1/0", environment=world.environment)
    as_of = from_us(world.clock.now_us())
    with FeatureStore(world.store.registry, settings=settings, clock=world.clock) as store:
        found = store.explain("every:count_1h", {"city": "york"}, as_of=as_of)

    assert found.online is None
    assert found.equal is None
    assert found.offline[1] is Status.PRESENT
    assert "online     unknown: " in repr(found)


def test_a_missing_key_is_said(world):
    with pytest.raises(InputError, match="entity 'pair' of view 'pairs' needs the join key 'kind'"):
        world.store.explain("pairs:count_15m", {"city": "york"})
