"""An API whose services have keys, inputs and values of every kind, two versions that share the entities of one of them, and a source."""

from datetime import date, datetime

from access_world import AccessWorld
from online_world import SLA_US, ratio, service

from feature_store import FeatureService, encode, request
from feature_store.declare.key import entity_key
from feature_store.online.keys import services_key
from feature_store.online.layout import FeatureLayout, StoredItem, ViewLayout, service_layout, with_id
from feature_store.online.rollout import Rollout, rollout_fields

KINDS = ["str", "int", "bool", "date", "bytes"]
COLUMNS = ["shop", "number", "is_open", "day", "token"]
ROW = {"shop": "a|b{}%é", "number": -(2**62), "is_open": True, "day": date(2024, 2, 29), "token": b"\x00\xff"}
ITEMS = {
    "count_1h": ("int", 2**53 + 1),
    "mean_1h": ("float", 12.5),
    "flag": ("bool", True),
    "label": ("str", "naïve"),
    "at": ("timestamp", 1_700_000_000_123_456),
    "on": ("date", 19_723),
    "sizes": ("list", [[1.5, 2.5]]),
}
"""Feature -> (its kind, the item of the row that is there)."""


def ledger(*, features=tuple(ITEMS)):
    """A stream view of an entity with keys of every kind and values of every kind."""
    return with_id(
        ViewLayout(
            view="ledger",
            version=1,
            layout_id=0,
            entity="account",
            join_keys=COLUMNS,
            key_kinds=KINDS,
            features=[
                FeatureLayout(name=name, dtype="float" if kind == "list" else kind, is_list=kind == "list")
                for name, (kind, _) in ITEMS.items()
                if name in features
            ],
            online="stream",
            sla_us=SLA_US,
        )
    )


def stored(name):
    return StoredItem(view="ledger", version=1, feature=name, name=f"ledger:{name}")


class Pinned:
    """What takes the features of a service as they stand."""

    @staticmethod
    def resolve(service):
        return [feature for item in service.features for feature in item.features]


ASKED = FeatureService(
    "asked",
    features=[
        encode.bucketing("level", request(float, "amount"), edges=[0.5, 10]),
        encode.cyclical("hour", request(datetime, "due"), period="24h"),
        encode.one_hot("channel", request(str, default="web"), values=["web", "app"]),
        encode.hashing("code", request(int), buckets=7),
        encode.hashing("vip", request(bool, default=False), buckets=3),
        encode.bucketing("usual", "ledger@1:mean_1h", edges=[1, 20]),
    ],
)


class TypedWorld(AccessWorld):
    """The world of the access tests with a service of every kind, one that computes from the request, and a split one."""

    def __init__(self, url: str, env: str) -> None:
        super().__init__(url, env)
        self.ledger = view = ledger()
        share = ratio("share", stored("count_1h"), stored("mean_1h"))
        self.publish(
            view,
            services=[
                service(*map(stored, ITEMS), share, name="account"),
                service_layout(ASKED, Pinned),
                service(stored("count_1h"), name="halves"),
                service(stored("label"), stored("count_1h"), name="halves", version=2),
            ],
        )
        halves = Rollout(serve=1, mode="split", to=2, share=50.0)
        self.client.hset(services_key(env), mapping=rollout_fields({"halves": halves}))
        self.account = entity_key(list(ROW.values()), KINDS, columns=COLUMNS)
        self.put(view, self.account, *(item for _, item in ITEMS.values()))
        self.ready()


__all__ = ["ASKED", "ITEMS", "ROW", "TypedWorld", "ledger"]
