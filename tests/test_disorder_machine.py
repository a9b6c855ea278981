"""A deployment that lives: events come late, twice and in conflict, flow and archiver end and begin anew, history is loaded.

Served values and training rows are those of a model: a dict of events, and `reference.py`. One deployment lives through all
runs, each with entities of its own. The steps are drawn once and for all (`derandomize`): the same ones run everywhere.
"""

import itertools
import json

import pandas as pd
import pytest
import reference
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from reference import DAY, HOUR, MINUTE, SECOND
from stream_world import NOW_US, SOURCE, Reading, intake, log_records
from test_parity import bits

from feature_store import (
    Entity,
    EventSource,
    FeatureStore,
    FeatureView,
    ManualClock,
    Registry,
    Settings,
    agg,
    redis_stream,
)
from feature_store.fold.archive import Archiver
from feature_store.fold.run import LocalStream
from feature_store.log.protocol import Record
from feature_store.status import Status
from feature_store.time_rule import from_us
from feature_store.transforms.project import ARRIVED, OFFSET, PARTITION

KINDS = {"uid": "str", "site": "str", "kind": "int", "at": "time", "level": "int", "load": "float", "tag": "str"}
SITES = ["north", "south", "a|b{}%"]
FEATURES = {
    "count_1h": ("count", None, None, "1h"),
    "load_sum_24h": ("sum", "load", "float", "24h"),
    "tag_last_24h": ("last", "tag", "str", "24h"),
    "level_sum": ("sum", "level", "int", None),
}
NAMES = [f"sites:{name}" for name in FEATURES]
AGES = [-30 * SECOND, -1, 0, 1, SECOND, HOUR - 1, HOUR, HOUR + 1, 5 * HOUR, DAY, 3 * DAY, 7 * DAY, 400 * DAY]
"""How old an event is when it arrives; below zero it is stamped ahead."""

readings = EventSource(
    SOURCE, schema=Reading, event_time="at", event_id="uid", log=redis_stream("readings", partitions=2)
)
sites = FeatureView(
    "sites",
    entity=Entity("site", join_keys=["site"]),
    source=readings,
    features=[
        getattr(agg, aggregate)(*[column][: column is not None], over=over)
        for aggregate, column, _, over in FEATURES.values()
    ],
)


def told(name):
    """A feature as the reference takes it."""
    aggregate, column, kind, over = FEATURES[name]
    return {"aggregate": aggregate, "column": column, "type": kind, "over": over, "hop": None}


def payload_of(event):
    return json.dumps(event | {"at": from_us(event["at"]).isoformat()}).encode()


class Lives:
    """The deployment: a store, its archiver and its flow."""

    def __init__(self, home, url, env):
        self.clock = ManualClock(NOW_US)
        self.store = FeatureStore(
            Registry(views=[sites]), settings=Settings(home=home, redis_url=url, environment=env), clock=self.clock
        )
        self.store.apply()
        self.ids = itertools.count()
        self.begin()

    def begin(self):
        self.begin_archiver()
        self.begin_flow()

    def begin_flow(self):
        store = self.store
        env = store.settings.environment
        self.flow = LocalStream(store.compiled, store.lake, store.redis, env=env, clock=self.clock)

    def begin_archiver(self):
        store = self.store
        self.archiver = Archiver(store.compiled, store.lake, store.log(SOURCE), source=SOURCE)

    def archive(self):
        while self.archiver.step():
            pass


class Run(RuleBasedStateMachine):
    """What happens to the deployment, and the model: `known`, the first event of each id of this run's entities."""

    lives = None

    def __init__(self):
        super().__init__()
        self.known = {}
        self.sites = [f"{name}{next(self.lives.ids)}" for name in SITES]

    def teardown(self):
        self.look()
        self.lives.archive()
        self.lives.begin_flow()
        self.look()

    @property
    def now_us(self):
        return self.lives.clock.now_us()

    # ---- what happens

    def new_event(self, data, age_us):
        draw = data.draw
        event = {"uid": f"e{next(self.lives.ids)}", "site": draw(st.sampled_from([*self.sites, self.sites[0], None]))}
        event |= {
            "kind": 1,
            "at": self.now_us - age_us,
            "level": draw(st.sampled_from([None, -100, 0, 7, 10**12])),
        }
        event |= {"load": draw(st.sampled_from([None, -0.0, 0.1, 1e300, -2.5e-7, 3.0, 5e-324]))}
        return event | {"tag": draw(st.sampled_from([None, "red", "green", "ä"]))}

    def send(self, event):
        """Publish it, and tell the model: the first of an id counts, unless it is out of range or too far ahead."""
        now_us = self.now_us
        self.lives.store.log(SOURCE).publish([Record(event["uid"], payload_of(event), now_us)])
        if event["at"] - now_us <= MINUTE and (event["level"] is None or event["level"] >= -100):
            self.known.setdefault(event["uid"], event)

    @rule(data=st.data(), ages=st.lists(st.sampled_from(AGES), min_size=1, max_size=4))
    def publish(self, data, ages):
        for age_us in ages:
            self.send(self.new_event(data, age_us))

    @rule(data=st.data())
    def publish_what_is_no_event(self, data):
        event = self.new_event(data, 0)
        self.send(event | data.draw(st.sampled_from([{"level": -101}, {"at": self.now_us + MINUTE + 1}])))

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def publish_again(self, data):
        """The same once more, or another under its id: another value, site, or time, of any age."""
        event = self.known[data.draw(st.sampled_from(sorted(self.known)))]
        other = data.draw(
            st.sampled_from([{}, {}, {"level": 5}, {"site": self.sites[1]}, {"at": event["at"] - 2 * DAY}])
        )
        self.send(event | other)

    @rule(after_us=st.sampled_from([1, SECOND, 90 * SECOND, HOUR, DAY]))
    def wait(self, after_us):
        self.lives.clock.move_to(self.now_us + after_us)

    @rule()
    def read_the_log(self):
        self.lives.flow.step()

    @rule(records=st.sampled_from([1, 2, 1000]))
    def archive_some(self, records):
        self.lives.archiver.step(max_records=records)

    @rule()
    def crash_flow(self):
        self.lives.begin_flow()

    @rule()
    def crash_archiver(self):
        self.lives.begin_archiver()

    @rule(data=st.data(), days=st.sampled_from([1, 2, 30]))
    def load_a_day(self, data, days):
        """History of a day, with events that came live as well; flow and archiver begin anew, as operating says."""
        self.lives.archive()
        day = reference.floor_to(self.now_us, DAY) - days * DAY
        fresh = [self.new_event(data, self.now_us - day - n * HOUR) for n in range(2)]
        fresh += [event for event in self.known.values() if reference.floor_to(event["at"], DAY) == day]
        rows = [event | {"at": from_us(event["at"])} for event in fresh]
        taken = intake().accept(0, log_records(rows, arrived_us=self.now_us), start=0).events
        events = taken.drop_columns([PARTITION, OFFSET, ARRIVED])
        self.lives.store.lake.replace_loaded(SOURCE, events, days=[from_us(day).date()])
        for event in fresh:
            self.known.setdefault(event["uid"], event)
        self.lives.begin()

    # ---- what must hold

    @rule()
    def look(self):
        """Online values at this moment, once the flow has read what there is."""
        self.lives.flow.step()
        for site in self.sites:
            vector = self.lives.store.get_online_features(NAMES, {"site": site})
            found = {
                name: answer(vector[f"sites:{name}"].value, vector[f"sites:{name}"].status.name) for name in FEATURES
            }
            assert found == self.model(site, self.now_us), site

    @rule(data=st.data())
    def train(self, data):
        """Training rows around the events, once the lake has them."""
        self.lives.archive()
        times = [self.now_us, *(event["at"] + 1 for event in self.known.values())]
        asked = data.draw(
            st.lists(st.tuples(st.sampled_from(self.sites), st.sampled_from(times)), min_size=1, max_size=5)
        )
        asked = [(site, min(t_us, self.now_us)) for site, t_us in asked]
        spine = pd.DataFrame({"site": [s for s, _ in asked], "event_timestamp": [from_us(t) for _, t in asked]})
        rows = self.lives.store.get_historical_features(
            spine, NAMES, knowledge="corrected", statuses=True, allow_incomplete=True
        ).table.to_pylist()
        for (site, t_us), row in zip(asked, rows, strict=True):
            found = {
                name: answer(row[f"sites__{name}"], Status(row[f"sites__{name}__status"]).name) for name in FEATURES
            }
            assert found == self.model(site, t_us), (site, t_us)

    def model(self, site, t_us):
        own = [e | {"event_us": e["at"], "event_id": e["uid"]} for e in self.known.values() if e["site"] == site]
        return {name: answer(*reference.feature_value(own, told(name), t_us)) for name in FEATURES}


def answer(value, status):
    return (bits(value), status) if status == "PRESENT" else (None, status)


@pytest.fixture
def lives(valkey, tmp_path, environment):
    Run.lives = Lives(tmp_path, valkey.url, environment)
    yield Run.lives
    Run.lives.store.close()


def test_a_deployment_that_lives_serves_and_trains_what_the_model_says(lives):
    run_state_machine_as_test(
        Run,
        settings=settings(
            max_examples=8,
            phases=[Phase.generate],  # the deployment remembers, so a smaller example is not the same one
            stateful_step_count=12,
            derandomize=True,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
