"""One value taken apart: served, offline, tiles and events side by side."""

from datetime import timedelta

import pytest
from proof_world import CITIES, World
from test_dimensions import DAY, START, row, table, view
from test_dimensions import merchants as dimension_of_merchants

from feature_store import FeatureStore, Registry, Settings, redis_stream
from feature_store.clock import ManualClock
from feature_store.errors import InputError
from feature_store.fold.run import LocalStream
from feature_store.status import Status
from feature_store.time_rule import MINUTE_US, SECOND_US, from_us, to_us


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
        assert found.event_count == found.corrected[0] == found.offline[0] == found.online.value
        assert sum(count for _, count in found.tiles) == found.event_count
    first, end = found.window
    assert all((first is None or first <= event.event_time) and event.event_time < end for event in found.events)


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


@pytest.fixture
def merchants(valkey, tmp_path, environment):
    """Merchant `a` was in toys, then in nothing, then in food; three days later a flow serves it from the lake."""
    rows = [row("a", START), row("a", START + DAY, category=None), row("a", START + 2 * DAY, category="food")]
    source = dimension_of_merchants(lambda _start, _end: table([*rows, row("b", START)]), log=redis_stream("merchants"))
    settings = Settings(home=tmp_path, redis_url=valkey.url, environment=environment)
    clock = ManualClock(to_us(START + 3 * DAY))
    with FeatureStore(Registry(views=[view(source)]), settings=settings, clock=clock) as store:
        store.apply()
        store.load("merchants", start=START, end=START + 3 * DAY)
        LocalStream(store.compiled, store.lake, store.redis, env=environment, clock=clock).step()
        yield store


A = {"merchant": "a", "site": 1}


def test_the_rows_of_a_dimension_stand_behind_what_is_served(merchants):
    found = merchants.explain("merchant:category", A)

    assert found.equal is True
    assert (found.online.value, found.online.status) == found.offline == found.corrected == ("food", Status.PRESENT)
    assert found.window == (None, START + 3 * DAY)
    assert [event.event_time for event in found.events] == [START + 2 * DAY, START + DAY, START]
    assert all(event.partition is None for event in found.events)
    assert f"{(START + 2 * DAY).isoformat()}  a|1|{to_us(START + 2 * DAY)}  loaded, arrival not recorded" in repr(found)
    assert "window     the beginning until before 2024-01-04T00:00:00+00:00" in repr(found)


@pytest.mark.parametrize(
    ("after", "expected", "rows"),
    [
        #   toys at 0, null at 1 d, food at 2 d; a row holds from just after its moment
        (timedelta(0), (None, Status.EMPTY), 0),
        (timedelta(microseconds=1), ("toys", Status.PRESENT), 1),
        (DAY, ("toys", Status.PRESENT), 1),
        (DAY + timedelta(microseconds=1), (None, Status.EMPTY), 2),
        (2 * DAY, (None, Status.EMPTY), 2),
        (2 * DAY + timedelta(microseconds=1), ("food", Status.PRESENT), 3),
    ],
)
def test_a_dimension_is_explained_as_of_any_moment(merchants, after, expected, rows):
    settings = Settings(
        home=merchants.settings.home, redis_url="redis://127.0.0.1:1/0", environment=merchants.settings.environment
    )
    with FeatureStore(merchants.registry, settings=settings, clock=merchants.clock) as store:
        found = store.explain("merchant:category", A, as_of=START + after)

    assert found.corrected == expected
    assert [event.event_time for event in found.events] == [START + n * DAY for n in reversed(range(rows))]
    assert found.event_count == rows


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
