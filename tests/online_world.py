"""A small online store for tests: three views of two entities, services over them, a clock that stands still."""

from redis import Redis

from feature_store.access.keyring import Keyring, encode_keyring
from feature_store.clock import ManualClock
from feature_store.online.keys import access_key, features_key, ready_key
from feature_store.online.layout import (
    FeatureLayout,
    RatioItem,
    ServiceLayout,
    StoredItem,
    ViewLayout,
    publish_layouts,
    with_id,
)
from feature_store.online.packing import encode_rows
from feature_store.online.ready import SHARDS, ReadyRecord, store_generation, write_ready
from feature_store.online.writer import OnlineWriter, Write
from feature_store.time_rule import HOUR_US, MINUTE_US, SECOND_US

NOW_US = 1_700_000_000_500_000
"""Half a second past a whole one."""
SLA_US = 5 * MINUTE_US
HOUR_MS = 3_600_000


def write_shards(client: Redis, env: str, shards: int) -> None:
    """Say over how many shards the entities are spread, as a flow does with its first values."""
    client.hset(ready_key(env), SHARDS, str(shards))


def withdraw_shards(client: Redis, env: str) -> None:
    """Take the records of all shards back: from now on, what is missing is UNKNOWN."""
    fields = [field for field in client.hkeys(ready_key(env)) if field.isdigit()]
    if fields:
        client.hdel(ready_key(env), *fields)


def departures(*, features=("count_1h", "mean_1h"), version=1, personal=False, name="departures"):
    """A stream view of airports."""
    dtypes = {"mean_1h": "float", "last_tail": "str", "last_at": "timestamp", "day": "date", "tails": "str"}
    return with_id(
        ViewLayout(
            view=name,
            version=version,
            layout_id=0,
            entity="airport",
            join_keys=["origin"],
            features=[
                FeatureLayout(
                    name=feature,
                    dtype=dtypes.get(feature, "int"),
                    is_list=feature == "tails",
                    empty=[] if feature == "tails" else 0 if feature.startswith("count") else None,
                )
                for feature in features
            ],
            online="stream",
            sla_us=SLA_US,
            personal=personal,
        )
    )


def weather():
    """A batch view of airports, a row an hour."""
    return with_id(
        ViewLayout(
            view="weather",
            version=1,
            layout_id=0,
            entity="airport",
            join_keys=["origin"],
            features=[FeatureLayout(name="wind", dtype="float")],
            online="batch",
            sla_us=2 * HOUR_US,
        )
    )


def legs():
    """A stream view of a composite entity."""
    return with_id(
        ViewLayout(
            view="legs",
            version=1,
            layout_id=0,
            entity="route",
            join_keys=["origin", "dest"],
            features=[FeatureLayout(name="count_1d", dtype="int", empty=0)],
            online="stream",
            sla_us=SLA_US,
        )
    )


def item(view, feature, version=1):
    return StoredItem(view=view, version=version, feature=feature, name=f"{view}:{feature}")


def service(*items, name="delay", version=1, **options):
    return ServiceLayout(name=name, version=version, features=list(items), **options)


def ratio(name, top, bottom, empty=None):
    return RatioItem(name=name, numerator=top, denominator=bottom, empty=empty)


class World:
    """What stands in Redis for one environment, and the means to change it."""

    def __init__(self, url: str, env: str) -> None:
        self.url, self.env = url, env
        self.client = Redis.from_url(url)
        self.clock = ManualClock(NOW_US)
        self.writer = OnlineWriter(self.client, env, clock=self.clock)
        self.generation = store_generation(self.client, env)
        self.views = {}

    def publish(self, *views, services=()):
        self.views |= {view.id: view for view in views}
        publish_layouts(self.client, self.env, views, services)
        self.client.setnx(access_key(self.env), encode_keyring(Keyring()))

    def put(self, view, key, *features, from_us=NOW_US - SECOND_US, age_us=SECOND_US, until_s=0, commit=(1, 7)):
        """Write one packed row; each feature an item."""
        [value] = encode_rows(view.layout_id, *commit, [from_us], [age_us], [until_s], [[f] for f in features])
        self.put_bytes(view, key, value)

    def put_bytes(self, view, key, value):
        name = features_key(self.env, view.entity, key, personal=view.personal)
        self.writer.write([Write(name, view.id, value, HOUR_MS)])

    def ready(self, field="0", **changes):
        """Write a ready record that vouches for everything, but for the changes."""
        views = {view.id: view.layout_id for view in self.views.values()}
        fields = {"generation": self.generation, "views": views, "run": 1, "n": 9, "beat_us": self.clock.at_us}
        write_ready(self.client, self.env, ReadyRecord(field=field, **{**fields, **changes}))
