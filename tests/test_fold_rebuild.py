"""State from the lake is the state that the log would have made, whatever of it stands in tiles."""

import dataclasses
from datetime import timedelta

import pytest
from stream_world import (
    NOW_US,
    PLANS,
    SOURCE,
    World,
    all_values,
    batches_of,
    compiled,
    intake,
    kinds,
    log_records,
    new_shard,
    rows,
    sites,
)

from feature_store.fold.rebuild import open_intake, rebuild_shards, resolve_origin
from feature_store.history.tiles import materialize_tiles
from feature_store.log.protocol import partition_of, unpack_offset
from feature_store.online.packed import item_at, seconds_since
from feature_store.registry import Registry
from feature_store.time_rule import DAY_US, HOUR_US, MINUTE_US, SECOND_US, from_us
from feature_store.transforms.compiled import compile_registry

TODAY = from_us(NOW_US).date()


@pytest.fixture
def world(valkey, tmp_path, environment):
    made = World(valkey.url, tmp_path, environment)
    yield made
    made.close()


def rebuilt(world, *, shards=1, now_us=NOW_US):
    origin = resolve_origin(compiled, world.lake)
    made = [new_shard(number) for number in range(shards)]
    rebuild_shards(compiled, world.lake, origin, shards=made, count=shards, now_us=now_us)
    return made, origin


def from_the_log(some, now_us=NOW_US):
    shard = new_shard()
    events = intake().accept(0, log_records(some), start=0).events
    shard.fold(batches_of(events), now_us)
    return shard


def values_of(shards, now_us=NOW_US):
    """What every entity is served; one whose windows are all empty need not be there."""
    found = {place: value for shard in shards for place, value in all_values(shard, now_us).items()}
    return {place: value for place, value in found.items() if any(item is not None for item in value[-1])}


BUILT = {
    "some days": [1, 4, 5, 8],
    "one view only": None,
    "today's too": range(12),
}


@pytest.mark.parametrize("built", BUILT)
def test_tiles_and_events_give_what_the_log_gives(world, built):
    some = rows(300, seed=2, days=10)
    world.publish(some)
    world.archive()
    days = BUILT[built]
    for view in [sites] if days is None else [sites, kinds]:
        materialize_tiles(
            compiled,
            world.lake,
            view,
            days=[TODAY - timedelta(days=n) for n in (range(1, 12) if days is None else days)],
        )

    shards, origin = rebuilt(world)

    assert values_of(shards) == values_of([from_the_log(some)])
    assert sum(unpack_offset(part)[1] for part in origin.positions[SOURCE].values()) == 300


def test_tiles_that_events_have_outdated_are_not_used(world):
    some = rows(200, seed=3)
    world.publish(some[:100])
    world.archive()
    materialize_tiles(compiled, world.lake, sites, days=[TODAY - timedelta(days=n) for n in range(1, 10)])
    world.publish(some[100:])
    world.archive()

    assert values_of(rebuilt(world)[0]) == values_of([from_the_log(some)])


@pytest.mark.parametrize("rebuilt_days", [[], [2, 3]])
def test_tiles_built_before_a_feature_was_added_are_not_used(world, rebuilt_days):
    some = rows(300, seed=5, days=10)
    world.publish(some)
    world.archive()
    earlier = dataclasses.replace(sites, features=sites.declared[:1])
    past = compile_registry(Registry(views=[earlier, kinds]))
    materialize_tiles(past, world.lake, earlier, days=[TODAY - timedelta(days=n) for n in range(1, 12)])
    materialize_tiles(compiled, world.lake, sites, days=[TODAY - timedelta(days=n) for n in rebuilt_days])

    assert values_of(rebuilt(world)[0]) == values_of([from_the_log(some)])


def test_each_shard_is_filled_with_its_own_entities(world):
    some = rows(200, seed=4)
    world.publish(some)
    world.archive()

    shards, _ = rebuilt(world, shards=3)

    assert values_of(shards) == values_of([from_the_log(some)])
    assert sum(len(shard.views["sites@1"].keys) for shard in shards) == 5
    assert all(dict(shard.positions) for shard in shards)


def test_events_go_on_from_a_rebuilt_state_as_from_the_log(world):
    some = rows(200, seed=6)
    world.publish(some[:120])
    world.archive()
    materialize_tiles(compiled, world.lake, kinds, days=[TODAY - timedelta(days=n) for n in range(1, 10)])
    [shard], _ = rebuilt(world)

    events = intake().accept(0, log_records(some[120:]), start=0).events
    later = NOW_US + 2 * HOUR_US
    shard.fold(batches_of(events), later)

    assert values_of([shard], later) == values_of([from_the_log(some, later)], later)


def test_events_stamped_ahead_wait_in_a_rebuilt_shard_too(world):
    ahead = {
        **rows(1)[0],
        "uid": "ahead",
        "site": "north",
        "kind": 1,
        "level": 5,
        "at": from_us(NOW_US + 30 * SECOND_US),
    }
    world.publish([ahead])
    world.archive()

    [shard], _ = rebuilt(world)

    assert list(shard.fold([], NOW_US).values) == []
    assert len(shard.fold([], NOW_US + MINUTE_US).values) == 2


def test_an_empty_lake_makes_an_empty_state(world):
    [shard], origin = rebuilt(world)

    assert values_of([shard]) == {}
    assert origin.positions == {SOURCE: {}}
    assert [plan.view.id for plan in PLANS] == list(shard.views)


def test_after_a_restart_ids_that_the_lake_holds_are_known_at_any_age(world):
    recent = {**rows(1)[0], "uid": "recent", "at": from_us(NOW_US - HOUR_US)}
    old = recent | {"uid": "old", "at": from_us(NOW_US - 400 * DAY_US)}
    loaded = recent | {"uid": "loaded", "at": from_us(NOW_US - 30 * DAY_US)}
    world.publish([recent, old])
    world.archive()
    world.load([loaded])
    origin = resolve_origin(compiled, world.lake)

    found = []
    for event in (recent, old, loaded):
        place = partition_of(event["uid"], 4)
        taking = open_intake(compiled, world.lake, SOURCE, origin=origin, partition=place, partitions=4)
        moved, other = event | {"at": from_us(NOW_US - 2 * DAY_US)}, event | {"level": 3}
        start = world.log.end(place)
        found.append(taking.accept(place, log_records([event, moved, other], start=start), start=start))

    kinds = [[r.kind for r in accepted.rejected] for accepted in found]
    assert kinds == [["duplicate", "conflict", "conflict"]] * 3


def test_an_id_that_is_reused_after_400_days_with_another_time_counts_once_everywhere(world):
    old = {**rows(1)[0], "uid": "u", "site": "north", "level": 5, "at": from_us(NOW_US - 400 * DAY_US)}
    world.publish([old])
    world.archive()
    stream = world.stream()
    world.publish([old | {"at": from_us(NOW_US - HOUR_US)}])

    stream.step()
    world.archive()

    assert world.lake_ids() == {"u"}
    assert lifetime_level(world, "north") == 5
    world.stream().step()
    assert lifetime_level(world, "north") == 5


def lifetime_level(world, site):
    """The sum of all levels of a site, as it is served."""
    [row] = [row for (key, view), row in world.values().items() if view == "sites@1" and f":{site}}}" in key]
    return item_at(row.items[9], seconds_since(row.from_us, world.clock.now_us()))
