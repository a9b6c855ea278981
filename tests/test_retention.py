"""Retention of events: what goes is needed by nothing, and everything that is answered before is answered the same after.

day          1    2    3    4    5    6    7  | now
retention                        <------- 4d ->
slack                       <1d->
goes        [ ]  [ ]
windows of 2d2h are whole from   ^ here on
"""

import random
import shutil
from dataclasses import replace
from datetime import timedelta
from functools import cached_property, partial

import pandas as pd
import pyarrow as pa
import pytest
from changing_world import DAY, START, Deployment, clicking, clicks, daily, live, user
from redis import Redis

from feature_store import DeclarationError, FeatureView, Registry, agg
from feature_store.catalog.statistics import sample_spine
from feature_store.errors import InputError
from feature_store.fold.archive import Archiver, CommitArchiver
from feature_store.history.outdated import outdated_days
from feature_store.housekeeping import events as task
from feature_store.housekeeping.task import Options
from feature_store.incoming import Incoming
from feature_store.online.keys import features_key
from feature_store.online.packed import decode_row
from feature_store.proof.served_archive import ServedArchiver
from feature_store.schema import arrow_schema
from feature_store.time_rule import to_us

NOW = START + 7 * DAY
kept = replace(clicks, retention="4d")
VIEWS = tuple(replace(view, source=kept) for view in (live(), daily()))
REGISTRY = Registry(views=VIEWS, services=[replace(clicking(), log_rate=1)])
WHOLE_FROM = START + 2 * DAY + timedelta(days=2, hours=2)


class World:
    """A week of clicks, built and served."""

    def __init__(self, url, home, environment):
        self.deployment = Deployment(url, home, environment)
        self.deployment.clock.move_to(to_us(NOW))
        self.store = self.deployment.store(REGISTRY)
        self.lake, self.clock = self.store.lake, self.deployment.clock

    @cached_property
    def stream(self):
        stream = self.deployment.stream(self.store)
        stream.step()
        return stream

    @cached_property
    def archiver(self):
        archiver = Archiver(self.store.compiled, self.lake, self.store.log("clicks"), source="clicks")
        archiver.step()
        return archiver

    def click(self, at, *, name="live1"):
        """A click of u1 that arrives now."""
        stream, _ = self.stream, self.archiver
        self.store.publish("clicks", [{"click": name, "user": "u1", "at": at, "value": 5}])
        stream.step()

    def remove(self, *, dry_run=False):
        return task.remove_old_events(self.store, Options(dry_run=dry_run))

    def removed(self):
        found = self.remove(dry_run=True)
        return found.figures["days"], [why for _, why in found.kept]

    def rows(self):
        with self.lake.reading() as cursor:
            return cursor.execute(
                f"SELECT _day, count(*) FROM ({self.lake.events_sql('clicks')}) GROUP BY 1"
            ).fetchall()


@pytest.fixture(scope="module")
def week(valkey, tmp_path_factory, module_environment):
    """A home with a week that is loaded, built and published."""
    home = tmp_path_factory.mktemp("week")
    world = World(valkey.url, home, module_environment)
    world.store.load("clicks", start=START, end=NOW)
    world.store.apply()
    for view in VIEWS:
        world.store.materialize(view.id, start=START, end=NOW)
    world.store.publish_view("daily")
    world.deployment.close()
    return home


def copied(week, home, url, environment):
    shutil.copytree(week, home, dirs_exist_ok=True)
    with Redis.from_url(url) as client:  # the log of the test before
        client.delete("nothing", *client.scan_iter(f"log*:{environment}:*"))
    return World(url, home, environment)


@pytest.fixture
def world(valkey, week, tmp_path, module_environment):
    world = copied(week, tmp_path, valkey.url, module_environment)
    yield world
    world.deployment.close()


@pytest.fixture(scope="module")
def after(valkey, week, tmp_path_factory, module_environment):
    """One from which two days are gone, with what was asked before."""
    after = copied(week, tmp_path_factory.mktemp("after"), valkey.url, module_environment)
    after.early, after.before = spine(START + 3 * DAY, START + 4 * DAY, count=3), after.lake.snapshot()
    after.whole = after.store.get_historical_features(after.early, ["live:total"]).to_arrow()
    after.remove()
    yield after
    after.deployment.close()


def spine(first, last, *, count, seed=1):
    """Some users at some moments."""
    chance = random.Random(seed)
    seconds = int((last - first).total_seconds())
    times = [first + timedelta(seconds=chance.randrange(seconds + 1)) for _ in range(count)]
    users = [f"u{chance.randrange(20)}" for _ in range(count)]
    return pd.DataFrame({"user": users, "event_timestamp": times})


def test_what_is_asked_afterwards_is_answered_as_before_to_the_bit(world):
    store, environment = world.store, world.deployment.env
    world.click(NOW - timedelta(seconds=1))
    world.archiver.step()
    store.materialize("live", start=NOW - DAY, end=NOW)
    store.materialize("daily", start=NOW - DAY, end=NOW)
    young, old = spine(WHOLE_FROM, NOW, count=300), spine(START + DAY, NOW - 4 * DAY, count=50)
    pinned = store.get_historical_features(old, "clicking", knowledge="corrected")
    store.pin(pinned.manifest)
    asked = [(knowledge, ["live:total", "daily:count"]) for knowledge in ("served", "corrected")]
    before = [store.get_historical_features(young, names, knowledge=how).to_arrow() for how, names in asked]
    other = Deployment(world.deployment.url, world.deployment.home, f"{environment}_other")
    stranger = other.store(REGISTRY)
    stranger.load("clicks", start=START, end=START + DAY)
    of_other = World.rows(type("Other", (), {"lake": stranger.lake}))
    client, key = store.redis, features_key(environment, "user", "u1")
    world.stream.step()
    online, days = client.hget(key, "live@1"), dict(world.rows())

    dry = world.remove(dry_run=True)
    assert dict(world.rows()) == days
    done = world.remove()

    assert done == dry
    assert done.figures["days"] == 2
    assert done.figures["events"] == 2 * 24 * 20
    assert done.details == {"clicks": "2 days up to 2024-01-02; 960 events"}
    assert dict(world.rows()) == {day: count for day, count in days.items() if day >= (START + 2 * DAY).date()}
    assert world.lake.retention.kept_from("clicks") == (START + 2 * DAY).date()
    assert world.remove().figures == {"days": 0, "events": 0, "bytes": 0}
    after = [store.get_historical_features(young, names, knowledge=how).to_arrow() for how, names in asked]
    assert after == before
    assert store.rebuild(pinned.manifest, old).to_arrow() == pinned.to_arrow()
    stream = world.deployment.stream(store)  # from the lake as it is now
    stream.step()
    assert_same_value(client.hget(key, "live@1"), online)
    assert World.rows(type("Other", (), {"lake": stranger.lake})) == of_other
    other.close()


def assert_same_value(found, expected):
    """But for the run that wrote it."""
    assert decode_row(found)._replace(run=0, n=0) == decode_row(expected)._replace(run=0, n=0)


def test_what_would_need_removed_events_is_refused_by_name(after):
    store = after.store
    with pytest.raises(
        InputError, match=r"a window of view 'live' at 2024-01-0\S+ holds events of source 'clicks' before"
    ):
        store.get_historical_features(spine(START + 3 * DAY, START + 3 * DAY, count=1), ["live:total"])
    found = store.get_historical_features(after.early, ["live:total"], snapshot=after.before)
    assert found.to_arrow() == after.whole
    with pytest.raises(
        InputError, match=r"view 'live@1' cannot be built for 2024-01-02.*can be built from 2024-01-03 on"
    ):
        store.materialize("live", start=START + DAY, end=NOW)
    with pytest.raises(
        InputError, match=r"view 'daily@1' cannot be built for 2024-01-03.*can be built from 2024-01-04 on"
    ):
        store.materialize("daily", start=START + 2 * DAY, end=NOW)
    with pytest.raises(InputError, match=r"source 'clicks' cannot be loaded for 2024-01-02: its retention has removed"):
        store.load("clicks", start=START + DAY, end=NOW)
    with pytest.raises(InputError, match="a window of view 'live'"):
        store.explain("live:total", {"user": "u1"}, as_of=START + 2 * DAY)
    longer = replace(kept, retention=None)
    views = [FeatureView("week", entity=user, source=longer, features=[agg.count(over="7d")])]
    with pytest.raises(
        DeclarationError, match=r"view 'week@1': it reads back over \S+ of source 'clicks', whose events before"
    ):
        after.deployment.store(Registry(views=views)).apply()


def test_what_arrives_later_than_the_retention_is_rejected_by_stream_and_archiver_alike(after):
    at = NOW - timedelta(days=4, seconds=1)
    after.click(at, name="too late")
    after.click(at + timedelta(seconds=1), name="just in time")
    after.archiver.step()

    with after.lake.reading() as cursor:
        letters = cursor.execute("SELECT kind, reason FROM rejected_events").fetchall()
        ids = cursor.execute("SELECT _event_id FROM events_clicks_live").fetchall()
    assert letters == [("rejected", "column 'at': it arrived more than 4d later, and no event is kept for longer")]
    assert ids == [("just in time",)]


def test_an_event_that_came_into_a_removed_day_all_the_same_has_no_day_built_again_and_goes_too(after):
    offset = after.lake.positions("clicks").get(0, 0)
    with after.lake.cursor() as cursor:
        kinds = cursor.execute("SELECT * FROM events_clicks_live LIMIT 0").to_arrow_table().schema
    known = {"_event_id": "x", "_event_us": to_us(START), "_arrived_us": to_us(NOW), "_partition": 0, "_offset": offset}
    row = {"click": "x", "user": "u1", "at": START, "value": 1, "_day": START.date(), "_late": False, **known}
    events = pa.Table.from_pylist([row], schema=kinds)
    after.lake.append_live("clicks", events, owner="o", start={0: offset}, end={0: offset + 1})

    assert START.date() in after.lake.builds.stale_days("tiles_live_v1", source="clicks")
    assert START.date() not in outdated_days(after.lake, VIEWS[0], now_us=to_us(NOW))
    assert after.remove().figures["events"] == 1


def test_what_is_published_must_be_young_enough_to_be_kept():
    incoming = Incoming(source=kept, schema=arrow_schema(kept), unit="line")
    payload = b'{"click": "c", "user": "u", "at": "2024-01-01T00:00:00Z", "value": 1}'

    assert incoming.check({1: payload}, now_us=to_us(START + 4 * DAY))
    assert incoming.problems == {}
    incoming.check({1: payload}, now_us=to_us(START + 4 * DAY) + 1)
    assert incoming.problems == {
        1: "column 'at': 2024-01-01T00:00:00+00:00 is more than 4d ago, and no event is kept for longer"
    }


def test_vectors_that_rest_on_removed_events_are_left_out_of_the_proof_and_days_with_cut_windows_of_samples(world):
    store, view = world.store, VIEWS[0]
    world.click(NOW - timedelta(seconds=1))
    with store.reader() as reader:
        for number in range(4):
            reader.get_online_features("clicking", {"user": f"u{number}"})
    world.archiver.step()
    CommitArchiver(world.lake, store.redis, world.deployment.env).step()
    ServedArchiver(store.compiled, world.lake, store.redis, world.deployment.env).step()
    (before,) = store.verify("clicking")
    assert (before.vectors, before.removed, before.unequal, before.defects) == (4, 0, 0, 0)
    spine = partial(sample_spine, world.lake, view, START.date(), NOW.date(), rows=10**6)
    with world.lake.reading() as cursor:
        assert cursor.execute(f"SELECT min(event_timestamp) FROM ({spine()})").fetchone() == (START,)

    world.lake.retention.remove("clicks", [(START + n * DAY).date() for n in range(6)])

    (after,) = store.verify("clicking")
    assert (after.vectors, after.removed, after.unequal, after.defects) == (0, 4, 0, 0)
    with world.lake.reading() as cursor:
        assert cursor.execute(f"SELECT min(event_timestamp) FROM ({spine()})").fetchone() == (None,)


def test_a_day_stays_while_something_holds_it_and_it_is_said_what(world):
    world.lake.partitions.drop("tiles_live_v1")
    days, why = world.removed()
    assert days == 0
    assert why == [
        "tiles_live_v1 is not built for 2 days from 2024-01-01 to 2024-01-02: `feature-store backfill tiles/live --start 2024-01-01 ...`"
    ]
    world.store.materialize("live", start=START, end=NOW)
    fewer = replace(kept, load=lambda start, end: kept.load(start, end).slice(1))
    other = world.deployment.store(Registry(views=[replace(view, source=fewer) for view in VIEWS]))
    other.load("clicks", start=START + DAY, end=START + 2 * DAY)  # the second day is another now
    days, why = world.removed()
    assert (days, [each.partition(" ")[0] for each in why]) == (1, ["tiles_live_v1"])  # rows stay as they were served
    again = world.deployment.store(Registry(views=[VIEWS[0], replace(VIEWS[1], late_events="recompute")]))
    found = task.remove_old_events(again, Options(dry_run=True))
    assert found.figures["days"] == 0  # the rows of the second to fourth day hold events from the first on
    assert [each.why.partition(" ")[0] for each in found.kept] == ["rows_daily_v1", "tiles_live_v1"]
    world.store.materialize("live", start=START + DAY, end=START + 2 * DAY)

    world.lake.partitions.drop("rows_daily_v1")
    world.store.materialize("daily", start=START + DAY, end=NOW)
    world.clock.move_to(to_us(START + DAY / 2))  # the first day was built at noon only
    world.store.materialize("daily", start=START, end=START + DAY)
    world.clock.move_to(to_us(NOW))
    other.load("clicks", start=START, end=START + DAY)
    world.store.materialize("live", start=START, end=START + DAY)
    days, (why,) = world.removed()
    assert (days, why.partition(":")[0]) == (0, "rows_daily_v1 is not built for 2024-01-01")
    world.store.materialize("daily", start=START, end=START + DAY)
    assert world.removed() == (2, [])

    assert world.archiver.positions
    world.store.log("clicks").register("stream:somewhere:9")
    world.clock.move_to(to_us(NOW - DAY))
    world.store.publish("clicks", [{"click": "unread", "user": "u1", "at": NOW - DAY, "value": 5}])
    world.clock.move_to(to_us(NOW))
    days, why = world.removed()
    assert days == 1
    assert why == [
        f"consumer '{name}' of the log has not read what arrived since 2024-01-07 00:00 UTC"
        for name in ("lake", "stream:somewhere:9")
    ]
    world.archiver.step()
    assert [each.partition("'")[2].partition("'")[0] for each in world.removed()[1]] == ["stream:somewhere:9"]


def test_a_view_that_is_applied_elsewhere_holds_all_and_rows_that_are_served_hold_what_they_were_made_of(world):
    declared = world.deployment.store(Registry(views=VIEWS[1:]))
    found = task.remove_old_events(declared, Options(dry_run=True))
    assert found.figures["days"] == 0
    assert (
        found.kept[0].why == "view 'live@1' is applied but not declared here, so what it reads is not known: retire it"
    )

    world.clock.move_to(to_us(NOW + 3 * DAY))
    world.store.load("clicks", start=NOW, end=NOW + 3 * DAY)
    for view in VIEWS:
        world.store.materialize(view.id, start=NOW, end=NOW + 3 * DAY)
    days, why = world.removed()
    assert (days, why) == (4, ["readers are served rows of 2024-01-08 00:00 UTC of view 'daily@1'"])
    world.store.publish_view("daily")
    assert world.removed() == (5, [])


def test_a_run_that_is_killed_leaves_whole_days_and_the_next_one_ends_it(world, monkeypatch):
    young = spine(WHOLE_FROM, NOW, count=50)
    before = world.store.get_historical_features(young, ["live:total"]).to_arrow()
    days, wanted = dict(world.rows()), world.remove(dry_run=True)
    monkeypatch.setattr(task, "BATCH_DAYS", 1)
    calls, clock = [], world.lake._session.clock

    class Killed:
        """A clock that stops the second transaction behind its deletions."""

        def now_us(self):
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return clock.now_us()

    monkeypatch.setattr(world.lake._session, "clock", Killed())
    with pytest.raises(KeyboardInterrupt):
        world.remove()
    monkeypatch.undo()

    assert dict(world.rows()) == {day: count for day, count in days.items() if day > START.date()}
    assert world.lake.retention.kept_from("clicks") == (START + DAY).date()
    rest = world.remove()
    assert (rest.figures["days"], rest.figures["events"]) == (1, wanted.figures["events"] // 2)
    assert world.lake.retention.kept_from("clicks") == (START + 2 * DAY).date()
    assert world.store.get_historical_features(young, ["live:total"]).to_arrow() == before


def test_a_retention_that_is_shorter_than_what_reads_the_source_is_refused():
    brief = replace(clicks, retention="2d")
    ever = FeatureView("ever", entity=user, source=brief, features=[agg.count(over=None)])
    with pytest.raises(DeclarationError) as refused:
        Registry(views=[ever, replace(daily(), source=brief)])
    problems = str(refused.value)
    assert "source 'clicks': `retention` must be a day longer than every window, got 2d" in problems
    assert "view 'ever' reads every event, over the lifetime" in problems
    assert "view 'daily' reads back over 50h" in problems
    with pytest.raises(DeclarationError, match="source 'clicks': `retention` must be a positive duration"):
        Registry(views=[replace(live(), source=replace(clicks, retention="soon"))])
