"""Reads of whole services: defaults and policies, ratios, entities and their keys, versions."""

from __future__ import annotations

from collections.abc import Iterable

from vectors.building import (
    ALL,
    ENV,
    FROM,
    HOUR,
    NOW,
    Json,
    S,
    failed,
    plain,
    ratio,
    read,
    ready,
    row,
    service,
    store,
    stored,
    view,
)

from feature_store.online.layout import KeyedItem, ServiceLayout
from feature_store.online.packed import ERROR
from feature_store.online.rollout import Rollout, rollout_fields


def policies() -> Iterable[dict[str, Json]]:
    orders = view("count:int=0", "mean:float", "bad:int=0", "nil:int=7")
    defaults = {"orders:count": -1, "orders@1:mean": -2.5, "orders:bad": -3, "orders:nil": -4}
    named = [
        service(orders, name=f"{stale}_{ahead}", defaults=defaults, on_stale=stale, on_ahead=ahead)
        for stale, ahead in (("serve", "serve"), ("default", "default"), ("fail", "default"), ("default", "fail"))
    ]
    fresh = ([5, 2.5, None, 7], "PRESENT PRESENT ERROR EMPTY")
    late, early = {"as_of": NOW + HOUR}, {"as_of": FROM - 1}
    stale, ahead = "STALE STALE ERROR STALE", "AHEAD AHEAD ERROR AHEAD"
    instead = [-1, -2.5, None, -4]
    yield store(
        "defaults and policies",
        [orders],
        named,
        rows={"ada": row(orders, [5], [2.5], [ERROR], [None])},
        ready={"0": ready([orders])},
        reads=[
            *(read({"user": "ada"}, *fresh, service=each.name) for each in named),
            *(read({"user": None}, [-1, -2.5, -3, -4], ["UNKNOWN"] * 4, service=each.name) for each in named),
            read({"user": "ada"}, [5, 2.5, None, 7], stale, service="serve_serve", **late),
            read({"user": "ada"}, instead, stale, service="default_default", **late),
            failed({"user": "ada"}, "refused", service="fail_default", **late),
            read({"user": "ada"}, [5, 2.5, None, 7], ahead, service="serve_serve", **early),
            read({"user": "ada"}, instead, ahead, service="default_default", **early),
            failed({"user": "ada"}, "refused", service="default_fail", **early),
        ],
    )


def ratios() -> Iterable[dict[str, Json]]:
    parts = view("i:int=0", "f:float", "b:bool", "s:str", "t:timestamp")
    other = view("count:int=0", name="others", sla_s=10)
    i, f, b, s, t = (stored(parts, name) for name in ("i", "f", "b", "s", "t"))
    count = stored(other, "count")
    made = ServiceLayout(
        name="model",
        version=1,
        features=[
            ratio("i/f", i, f, empty=-1.0), ratio("f/i", f, i), ratio("b/f", b, f), ratio("s/i", s, i, empty=0.0),
            ratio("t/i", t, i), ratio("i/count", i, count), i,
        ],
        defaults={"i/count": 9.5},
    )  # fmt: skip
    yield store(
        "ratios are quotients of doubles, worth as little as their parts",
        [parts, other],
        [made],
        rows={
            "ada": row(parts, [3], [4.0], [True], ["3"], [6]),
            "max": row(parts, [2**63 - 1], [2.0**-1022], [False], [None], [None]),
            "inf": row(parts, [0], [float("inf")], [None], ["x"], [1]),
            "zero": row(parts, [2], [-0.0], [True], ["x"], [1]),
            "nan": row(parts, [2], [float("nan")], [True], ["x"], [1]),
            "err": row(parts, [ERROR], [1.0], [True], ["x"], [1]),
            "mix": row(parts, [3], [4.0], [True], ["3"], [6]),
            ("others", "ada"): row(other, [2]),
            ("others", "max"): row(other, [ERROR]),
            ("others", "inf"): row(other, [7]),
            ("others", "mix"): row(other, [2], from_us=FROM - 100 * S, until_s=50),
        },
        ready={"0": ready([parts, other], beat_us=NOW)},
        reads=[
            read({"user": "ada"}, [0.75, 4 / 3, 0.25, 0.0, None, 1.5, 3], "PRESENT PRESENT PRESENT EMPTY EMPTY PRESENT PRESENT"),
            # 11 s later the parts from `others`, past their SLA, make the quotient STALE.
            read({"user": "ada"}, [0.75, 4 / 3, 0.25, 0.0, None, 1.5, 3], "PRESENT PRESENT PRESENT EMPTY EMPTY STALE PRESENT", as_of=NOW + 11 * S),
            read({"user": "ada"}, [0.75, 4 / 3, 0.25, 0.0, None, 1.5, 3], "AHEAD AHEAD AHEAD AHEAD AHEAD AHEAD AHEAD", as_of=FROM - 1),
            # The one part is AHEAD, the other one STALE.
            read({"user": "mix"}, [0.75, 4 / 3, 0.25, 0.0, None, 1.5, 3], ["AHEAD"] * 7, as_of=FROM - 1),
            read({"user": "max"}, [float("inf"), 2.0**-1022 / (2**63 - 1), 0.0, 0.0, None, None, 2**63 - 1], "PRESENT PRESENT PRESENT EMPTY EMPTY ERROR PRESENT"),
            read({"user": "inf"}, [0.0, None, None, 0.0, None, 0.0, 0], "PRESENT EMPTY EMPTY EMPTY EMPTY PRESENT PRESENT"),
            read({"user": "zero"}, [-1.0, -0.0, None, 0.0, None, None, 2], "EMPTY PRESENT EMPTY EMPTY EMPTY EMPTY PRESENT"),
            read({"user": "nan"}, [float("nan"), float("nan"), float("nan"), 0.0, None, None, 2], "PRESENT PRESENT PRESENT EMPTY EMPTY EMPTY PRESENT"),
            read({"user": "err"}, [None, None, 1.0, None, None, None, None], "ERROR ERROR PRESENT ERROR ERROR ERROR ERROR"),
            read({"user": "bob"}, [-1.0, None, None, 0.0, None, None, 0], "EMPTY EMPTY EMPTY EMPTY EMPTY EMPTY EMPTY"),
            # Of `others` nothing is known any more: UNKNOWN, with the ratio's own default.
            read({"user": "bob"}, [-1.0, None, None, 0.0, None, 9.5, 0], "EMPTY EMPTY EMPTY EMPTY EMPTY UNKNOWN EMPTY", as_of=NOW + 11 * S),
            read({"user": None}, [None] * 5 + [9.5, None], ["UNKNOWN"] * 7),
        ],
    )  # fmt: skip


def entities() -> Iterable[dict[str, Json]]:
    orders, flags = view("count:int=0"), view("flag:bool", name="flags", personal=True)
    trips = view(
        "n:int=0", name="trips", entity="trip", keys={"day": "date", "user": "str", "vip": "bool", "raw": "bytes"}
    )
    shops, world = (
        view("n:int=0", name="shops", entity="shop", keys={"shop": "int"}),
        view("n:int=0", name="world", entity="global", keys={}),
    )
    friend = KeyedItem(
        **{name: getattr(stored(orders, "count"), name) for name in ("view", "version", "feature")},
        name="friend_orders:count", prefix="friend_", columns={"user": "friend"},
    )  # fmt: skip
    made = ServiceLayout(
        name="model",
        version=1,
        features=[
            stored(orders, "count"), friend, stored(flags, "flag"), stored(trips, "n"), stored(shops, "n"),
            stored(world, "n"), ratio("share", stored(orders, "count"), friend),
        ],
        defaults={"friend_orders@1:count": -1},
    )  # fmt: skip
    rows = {
        "a|b": row(orders, [4]),
        "bob": row(orders, [8]),
        ("flags", "a|b"): row(flags, [True]),
        ("trips", "2013-01-31", "a|b", "true", "00ff"): row(trips, [3]),
        ("shops", "-7"): row(shops, [5]),
        ("world",): row(world, [6]),
    }
    asked = {"user": "a|b", "friend": "bob", "day": "2013-01-31", "vip": True, "raw": "00ff", "shop": -7}
    yield store(
        "several entities of a row, roles, personal data, kinds of keys",
        [orders, flags, trips, shops, world],
        [made],
        rows=rows,
        ready={"0": ready([orders, flags, trips, shops, world])},
        reads=[
            read(asked, [4, 8, True, 3, 5, 6, 0.5], ALL[:7]),
            read(asked | {"shop": "-7", "vip": "true", "more": 1.5}, [4, 8, True, 3, 5, 6, 0.5], ALL[:7]),
            read(asked | {"friend": "nobody"}, [4, 0, True, 3, 5, 6, None], "PRESENT EMPTY PRESENT PRESENT PRESENT PRESENT EMPTY"),
            read(asked | {"friend": None}, [4, -1, True, 3, 5, 6, None], "PRESENT UNKNOWN PRESENT PRESENT PRESENT PRESENT UNKNOWN"),
            read(asked | {"vip": None}, [4, 8, True, None, 5, 6, 0.5], "PRESENT PRESENT PRESENT UNKNOWN PRESENT PRESENT PRESENT"),
            read(asked | {"shop": 9_223_372_036_854_775_807}, [4, 8, True, 3, 0, 6, 0.5], "PRESENT PRESENT PRESENT PRESENT EMPTY PRESENT PRESENT"),
            *(
                failed(asked | wrong, "invalid")
                for wrong in (
                    {"shop": 7.5}, {"shop": "07"}, {"shop": True}, {"vip": "yes"}, {"day": "20130131"}, {"day": "2013-02-30"},
                    {"raw": "00FF"}, {"raw": 1}, {"user": 1.5},
                )
            ),
            failed({name: asked[name] for name in asked if name != "friend"}, "invalid"),
        ],
    )  # fmt: skip


def versions() -> Iterable[dict[str, Json]]:
    orders = view("count:int=0", "mean:float")
    one, two = (service(orders, features=[name], version=v) for v, name in ((1, "count"), (2, "mean")))
    rows = {name: row(orders, [5], [2.5]) for name in ("ada", "bob", "eve")}

    def of(name: str, *reads: Json, rollout: Rollout | None = None, **fields: Json) -> dict[str, Json]:
        made = store(name, [orders], [one, two], rows=rows, ready={"0": ready([orders])}, reads=reads)
        named = {} if rollout is None else rollout_fields({"model": rollout})
        made["store"][f"services:{ENV}"] |= {field: plain(value) for field, value in named.items()} | fields
        return made

    first, second = ([5], "PRESENT"), ([2.5], "PRESENT")
    yield of(
        "a bare name is the version that stands under it",
        read({"user": "ada"}, *second, served="model@2"),
        read({"user": "ada"}, *first, service="model@1", served="model@1"),
        failed({"user": "ada"}, "unknown", service="none"),
        failed({"user": "ada"}, "unknown", service="model@3"),
    )
    # CRC-32 of model:ada, model:bob, model:eve modulo 10,000: 5062, 6254, 6688.
    yield of(
        "a service that is split: 60 per cent",
        read({"user": "ada"}, *second, served="model@2"),
        read({"user": "bob"}, *first, served="model@1"),
        read({"user": "eve"}, *first, served="model@1"),
        read({"user": None}, [None], "UNKNOWN", served="model@1"),
        rollout=Rollout(serve=1, mode="split", to=2, share=60.0),
    )
    yield of(
        "the share has a hundredth of a per cent",
        read({"user": "ada"}, *first, served="model@1"),
        rollout=Rollout(serve=1, mode="split", to=2, share=50.62),
    )
    yield of(
        "a share of one hundredth more",
        read({"user": "ada"}, *second, served="model@2"),
        rollout=Rollout(serve=1, mode="split", to=2, share=50.63),
    )
    yield of(
        "what is in the shadow is served to nobody",
        read({"user": "ada"}, *first, served="model@1"),
        rollout=Rollout(serve=1, mode="shadow", to=2, share=100.0),
    )
    yield of(
        "a rollout of another version than the one under the name says nothing",
        read({"user": "ada"}, *second, served="model@2"),
        rollout=Rollout(serve=1, mode="split", to=2, share=0.0),
        model="2",
    )
    yield of(
        "a type of feature that is not known is refused",
        failed({"user": "ada"}, "unknown or store", service="model@3"),
        **{"model@3": {"name": "model", "version": 3, "features": [{"type": "spell", "name": "x"}], "defaults": {}}},
    )
    yield of(
        "a feature that is not in the layout is refused",
        failed({"user": "ada"}, "unknown", service="model@3"),
        **{
            "model@3": {
                "name": "model", "version": 3, "defaults": {},
                "features": [{"type": "stored", "view": "orders", "version": 1, "feature": "x", "name": "orders:x"}],
            }
        },
    )  # fmt: skip
    old = store("a layout from before there were kinds of keys", [orders], [two], rows=rows, ready={"0": ready([orders])},
                reads=[read({"user": "ada"}, *second), read({"user": 7}, [None], "EMPTY")])  # fmt: skip
    for layout in old["store"][f"layouts:{ENV}"].values():
        del layout["key_kinds"]
    yield old
