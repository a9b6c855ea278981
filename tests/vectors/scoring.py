"""Reads for the scoring of events: what was before the newest event, and features that functions compute."""

from __future__ import annotations

from collections.abc import Iterable

from vectors.building import (
    FROM,
    SLA,
    Json,
    S,
    failed,
    read,
    ready,
    row,
    service,
    store,
    stored,
    view,
)

from feature_store.online.layout import (
    AskedItem,
    FunctionLayout,
    InputLayout,
    OnDemandItem,
    OutputLayout,
    RequestItem,
    ServiceLayout,
)
from feature_store.online.packed import ERROR
from feature_store.online.packing import encode_own


def own_events() -> Iterable[dict[str, Json]]:
    """Rows that have kept what the features were at the time of the newest event, before it."""
    orders = view("count:int=0", "last:str", "tails:str[]")
    age = 3 * S
    event = FROM - age
    features = ([[5, 60, 2]], ["N2"], [[["N1", "N2"]]])
    rows = {
        "ada": row(orders, *features, own=encode_own([4, "N1", ["N1"]]), age_us=age),
        "first": row(orders, *features, own=encode_own([None, None, None]), age_us=age),
        "bad": row(orders, *features, own=encode_own([ERROR, "N1", []]), age_us=age),
        "gone": row(orders, *features, age_us=age),
        "old": row(orders, *features, own=encode_own([4, "N1", ["N1"]]), age_us=None),
        "cut": row(orders, *features, own=b"\x93\x04", age_us=age),
        "fewer": row(orders, *features, own=encode_own([4]), age_us=age),
    }
    now = [5, "N2", ["N1", "N2"]]

    def of(name: str, records: dict[str, bytes], *reads: Json) -> dict[str, Json]:
        return store(name, [orders], [service(orders)], rows=rows, ready=records, reads=reads)

    yield of(
        "what was before the newest event, at its time",
        {"0": ready([orders])},
        read({"user": "ada"}, [4, "N1", ["N1"]], ["PRESENT"] * 3, as_of=event),
        read({"user": "ada"}, now, ["AHEAD"] * 3, as_of=event + 1),
        read({"user": "ada"}, now, ["AHEAD"] * 3, as_of=event - 1),
        read({"user": "ada"}, now, ["PRESENT"] * 3, as_of=FROM),
        # Only a time that was asked is that of the event.
        read({"user": "ada"}, now, ["PRESENT"] * 3, now=event),
        read({"user": "first"}, [0, None, []], ["EMPTY"] * 3, as_of=event),
        read({"user": "bad"}, [None, "N1", []], "ERROR PRESENT PRESENT", as_of=event),
        read({"user": "gone"}, now, ["AHEAD"] * 3, as_of=event),
        read({"user": "gone"}, now, ["PRESENT"] * 3, as_of=FROM),
        read({"user": "old"}, now, ["AHEAD"] * 3, as_of=event),
        read({"user": "cut"}, [None] * 3, ["ERROR"] * 3, as_of=event),
        read({"user": "fewer"}, [None] * 3, ["ERROR"] * 3, as_of=event),
        read({"user": "fewer"}, now, ["PRESENT"] * 3, as_of=FROM),
    )
    yield of(
        "what was before the newest event, of a shard that says nothing",
        {},
        read({"user": "ada"}, [4, "N1", ["N1"]], ["STALE"] * 3, as_of=event),
        read({"user": "first"}, [0, None, []], ["STALE"] * 3, as_of=event),
    )
    yield of(
        "what was before the newest event, of a shard that had read no further for long",
        {"0": ready([orders], beat_us=event - SLA - 1)},
        read({"user": "ada"}, [4, "N1", ["N1"]], ["STALE"] * 3, as_of=event),
    )


def on_demand() -> Iterable[dict[str, Json]]:
    """Features of functions that a reader does not have: ERROR, whatever they are given."""
    orders, shops = (
        view("count:int=0", "mean:float"),
        view("n:int=0", name="shops", entity="shop", keys={"shop": "int"}),
    )
    amount = InputLayout(source=RequestItem(column="amount", dtype="float"))
    tries = InputLayout(source=RequestItem(column="tries", dtype="int", default=1))
    usual = FunctionLayout(
        name="times_usual",
        digest="00000000feedc0de",
        inputs=[amount, InputLayout(source=stored(orders, "mean"), fill=1.0)],
        outputs=[OutputLayout(dtype="float", empty=0.0), OutputLayout(dtype="int")],
    )
    more = FunctionLayout(
        name="more",
        digest="00000000deadbeef",
        inputs=[
            tries,
            InputLayout(source=AskedItem()),
            InputLayout(source=stored(shops, "n")),
            InputLayout(source=OnDemandItem(name="times_usual", function=0, output=0)),
        ],
        outputs=[OutputLayout(dtype="bool")],
    )
    made = ServiceLayout(
        name="model",
        version=1,
        features=[
            OnDemandItem(name="times_usual", function=0, output=1),
            stored(orders, "count"),
            OnDemandItem(name="more", function=1, output=0),
        ],
        functions=[usual, more],
        defaults={"times_usual": 7},
    )
    broken = ServiceLayout(
        name="broken", version=1, features=[OnDemandItem(name="x", function=0, output=2)], functions=[usual]
    )
    asked = {"user": "ada", "shop": 7, "amount": 2.5, "tries": 2}
    yield store(
        "functions that a reader does not have",
        [orders, shops],
        [made, broken],
        rows={"ada": row(orders, [5], [2.5])},
        ready={"0": ready([orders, shops])},
        reads=[
            read(asked, [None, 5, None], "ERROR PRESENT ERROR"),
            read(asked | {"amount": None, "tries": None}, [None, 5, None], "ERROR PRESENT ERROR"),
            read({name: asked[name] for name in ("user", "shop", "amount")}, [None, 5, None], "ERROR PRESENT ERROR"),
            read(asked | {"user": None}, [None, None, None], "ERROR UNKNOWN ERROR"),
            read(asked, [None, 5, None], "ERROR AHEAD ERROR", as_of=FROM - 1),
            *(
                failed({name: asked[name] for name in asked if name != missing}, "invalid")
                for missing in ("user", "shop", "amount")
            ),
            failed(asked, "unknown or store", service="broken"),
        ],
    )
