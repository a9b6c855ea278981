"""Hypothesis strategies for events, views and times that sit where implementations break.

Everything is plain data, as `reference.py` takes it; `declared`, `arrow_events` and `reference_events` turn it into
what the project and what the reference work on. Times touch the edges of the windows drawn, to the microsecond.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated

import reference
from hypothesis import strategies as st
from reference import DAY, HOUR, INT64_MAX, INT64_MIN, MINUTE, SECOND

Row = dict[str, object]

COLUMNS: dict[str, object] = {
    "amount": "int",
    "small": "int",
    "delay": "float",
    "price": ("decimal", 2),
    "label": "str",
    "flag": "bool",
}
"""The source's columns beside keys, id and time."""


@dataclass(frozen=True)
class Expression:
    """A SQL expression, the type of what it gives, and what it gives for one event."""

    sql: str
    kind: object
    of: Callable[[Row], object]


def plus_one(value: object) -> object:
    return None if value is None or value == INT64_MAX else value + 1


def price_plus_one(price: object) -> object:
    """Null where the sum does not fit the expression's type, DECIMAL(18, 2)."""
    return None if price is None or price + 1 >= Decimal(10) ** 16 else price + 1


def root(value: object) -> object:
    return None if value is None or value < 0 else math.sqrt(value)


def above(value: object, limit: float) -> object:
    """SQL's `>`: null for null; NaN is greater than every number."""
    return None if value is None else (math.isnan(value) or value > limit)


def either(one: object, other: object) -> object:
    """SQL's OR."""
    if one is True or other is True:
        return True
    return None if one is None or other is None else False


def negated(value: object) -> object:
    return None if value is None else not value


EXPRESSIONS = [
    *(Expression(name, kind, lambda row, name=name: row[name]) for name, kind in COLUMNS.items()),
    Expression("amount + 1", "int", lambda row: plus_one(row["amount"])),
    Expression("price + 1", ("decimal", 2), lambda row: price_plus_one(row["price"])),
    Expression("sqrt(delay)", "float", lambda row: root(row["delay"])),
    Expression("sqrt(delay) + 1", "float", lambda row: None if root(row["delay"]) is None else root(row["delay"]) + 1),
    Expression("1 / small", "float", lambda row: 1.0 / row["small"] if row["small"] else None),
    Expression("delay > 15", "bool", lambda row: above(row["delay"], 15)),
    Expression("length(label)", "int", lambda row: None if row["label"] is None else len(row["label"])),
    Expression("coalesce(label, 'none')", "str", lambda row: "none" if row["label"] is None else row["label"]),
    Expression("CASE WHEN flag THEN delay END", "float", lambda row: row["delay"] if row["flag"] else None),
]

WHERES = [
    None,
    None,
    None,
    Expression("amount IS NOT NULL", "bool", lambda row: row["amount"] is not None),
    Expression("delay > 0", "bool", lambda row: above(row["delay"], 0)),
    Expression("flag", "bool", lambda row: row["flag"]),
    Expression(
        "NOT flag OR small > 0",
        "bool",
        lambda row: either(negated(row["flag"]), None if row["small"] is None else row["small"] > 0),
    ),
    Expression("sqrt(delay) > 2", "bool", lambda row: above(root(row["delay"]), 2)),
]

NUMERIC = ("sum", "mean", "variance", "stddev", "min", "max")
WINDOWS = [
    (None, None),
    ("10s", None),
    ("90s", "45s"),
    ("5m", "5m"),
    ("1h", None),
    ("1h", "15m"),
    ("6h", "1h"),
    ("1d", None),
    ("7d", "1d"),
    ("30d", None),
    ("30d", "10d"),
]
"""`over` and `hop` as declared."""

ANCHORS = [0, 1, -DAY, 1_372_936_200 * SECOND, 1_362_902_400 * SECOND, -62_000_000_000 * SECOND, 4_102_444_800 * SECOND]
"""The epoch, a summer's day, New York's change to daylight time, the years 5 and 2100."""

# --- values ---------------------------------------------------------------------------------------------------------

integers = st.one_of(
    st.integers(-1000, 1000),
    st.sampled_from([None, 0, 2**31, 2**32 - 1, -(2**32), 2**53 + 1, 2**62, INT64_MAX - 1, INT64_MAX, INT64_MIN]),
)
small_integers = st.sampled_from([None, 0, 1, 2, 3, -1, 7])
floats = st.one_of(
    st.floats(-100, 100),
    st.sampled_from(
        [
            *(None, math.nan, math.inf, -math.inf, -0.0, 0.0, 15.0, 0.1, 1e300, -1e300, 5e-324, 1e15),
            *(0.5 / 2**20, 1.5 / 2**20, -2.5 / 2**20, 2.0**43, -(2.0**43), math.nextafter(2.0**43, 0)),
        ]
    ),
)
decimals = st.one_of(
    st.none(),
    st.integers(-100_000, 100_000).map(lambda cents: Decimal(cents).scaleb(-2)),
    st.sampled_from([Decimal("9999999999999999.99"), Decimal("-999999999999999.99"), Decimal("0.10"), Decimal("0.00")]),
)
texts = st.one_of(
    st.sampled_from([None, "", "a", "b", "A", "1", "0", "%|{}", "%7C", "ä", "a\u0308", "\U0001f600", "'", '"', "\n"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
)
booleans = st.sampled_from([None, True, False])
VALUES = {
    "amount": integers,
    "small": small_integers,
    "delay": floats,
    "price": decimals,
    "label": texts,
    "flag": booleans,
}

airports = st.sampled_from(["JFK", "JFK", "JFK", "JFK", "J|K", "%7C{}", None])
carriers = st.sampled_from([1, 1, 1, 1, 2, None])
IDS = ["10", "9", "a", "Z", "ä", "z", "\uff5e", "\U0001f600", "a|", "%", *(f"e{i}" for i in range(100))]
"""In byte order neither as drawn nor as UTF-16 would have them."""

# --- views ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """A feature view as plain data; each feature is a dict as the reference takes it, with a `name`."""

    features: Sequence[Row]
    join_keys: Sequence[str] = ("airport",)
    where: Expression | None = None
    lateness: str | None = None
    """Declared with `late_events="ignore"` if there is one."""
    name: str = "view_under_test"


def fits(aggregate: str, expression: Expression) -> bool:
    """True if the aggregate takes values of that type."""
    return aggregate not in NUMERIC or expression.kind != "str"


AGGREGATES = list(reference.AGGREGATES)
OPERANDS = {name: [e for e in EXPRESSIONS if fits(name, e)] for name in AGGREGATES}


def a_feature(
    aggregate: str, expression: Expression, *, over: object, hop: object, cap: int = 3, name: str = "f"
) -> Row:
    """A feature as the reference takes it."""
    return {
        "name": name,
        "aggregate": aggregate,
        "column": None if aggregate == "count" else expression.sql,
        "type": None if aggregate == "count" else expression.kind,
        "over": over,
        "hop": hop,
        "cap": cap if aggregate in ("last_n", "count_distinct") else None,
    }


@st.composite
def features(draw: st.DrawFn, *, name: str = "f") -> Row:
    aggregate = draw(st.sampled_from(AGGREGATES))
    expression = draw(st.sampled_from(OPERANDS[aggregate]))
    over, hop = draw(st.sampled_from(WINDOWS))
    return a_feature(aggregate, expression, over=over, hop=hop, cap=draw(st.sampled_from([1, 2, 3, 50])), name=name)


@st.composite
def views(draw: st.DrawFn, *, max_features: int = 5) -> View:
    count = draw(st.integers(1, max_features))
    return View(
        features=[draw(features(name=f"f{i}")) for i in range(count)],
        join_keys=draw(st.sampled_from([("airport",), ("carrier",), ("airport", "carrier")])),
        where=draw(st.sampled_from(WHERES)),
        lateness=draw(st.sampled_from([None, None, None, "1h"])),
    )


# --- times ----------------------------------------------------------------------------------------------------------


def spans_of(view: View) -> list[int]:
    """Lengths that matter to the view: its windows and hops, in microseconds."""
    spans = {SECOND}
    for feature in view.features:
        if feature["over"] is not None:
            spans |= {reference.duration_us(feature["over"]), reference.hop_us(feature)}
    return sorted(spans)


@st.composite
def moments(draw: st.DrawFn, *, anchor: int, spans: Sequence[int]) -> int:
    """A time near the anchor: on an edge of a hop or window, a microsecond beside it, or anywhere."""
    span = draw(st.sampled_from(spans))
    edge = reference.floor_to(anchor, span) + draw(st.integers(-3, 2)) * span
    if draw(st.booleans()):
        edge += draw(st.sampled_from(spans))
    beside = st.sampled_from([0, 0, -1, 1])
    return edge + draw(st.one_of(beside, beside, st.integers(-2 * span, span)))


# --- events ---------------------------------------------------------------------------------------------------------


@st.composite
def events(draw: st.DrawFn, *, view: View, anchor: int, max_size: int = 24, copies: bool = True) -> list[Row]:
    """Events in the order of their positions: out of order in time, some twice, some in conflict with an earlier one."""
    spans = spans_of(view)
    ids = draw(st.permutations(IDS[: max_size + 5]))
    clusters = draw(st.lists(moments(anchor=anchor, spans=spans), min_size=1, max_size=8))
    times = st.one_of(st.sampled_from(clusters), moments(anchor=anchor, spans=spans))
    entity = st.fixed_dictionaries({"airport": airports, "carrier": carriers})
    crowded = draw(st.booleans())
    if crowded:  # one entity, with an event in each of many tiles, or many at the same moment
        hop = draw(st.sampled_from([reference.hop_us(f) for f in view.features if f["over"] is not None] or [SECOND]))
        steps = st.integers(0, 30).map(lambda k: clusters[0] - k * hop)
        times = st.one_of(st.sampled_from(clusters[:2]), steps, steps, steps)
        entity = st.just({"airport": "JFK", "carrier": 1})
    found: list[Row] = []
    for number in range(draw(st.sampled_from([0, 1, 4, max_size // 2, max_size, max_size]))):
        if copies and found and draw(st.integers(0, 7)) == 0:
            found.append(draw(copy_of(draw(st.sampled_from(found)))))
            continue
        at, late = draw(times), draw(st.sampled_from([None, 0, 1, HOUR, HOUR + 1, DAY, -MINUTE]))
        event: Row = {"event_id": ids[number], "event_us": at, "arrived_us": None if late is None else at + late}
        found.append(event | draw(entity) | {name: draw(values) for name, values in VALUES.items()})
    return found


@st.composite
def copy_of(draw: st.DrawFn, event: Row) -> Row:
    """The event once more: the same payload, or another value, time or entity under the same id."""
    changed = draw(st.sampled_from([None, "small", "event_us", "airport"]))
    if changed is None:
        return dict(event)
    if changed == "event_us":
        return event | {"event_us": event["event_us"] + 1}
    return event | {changed: draw(VALUES.get(changed, airports))}


def splits(size: int) -> st.SearchStrategy[list[int]]:
    """Sizes of consecutive batches that together hold `size` events."""
    cuts = st.lists(st.integers(0, size), max_size=5)
    return cuts.map(lambda at: [b - a for a, b in zip([0, *sorted(at)], [*sorted(at), size], strict=True)])


# --- all together ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """A view, events in order of position, how they come in batches, and the rows asked for."""

    view: View
    events: Sequence[Row]
    batches: Sequence[int]
    spine: Sequence[Row] = field(default=())
    """Join keys and `t_us`, in any order, with repetitions, null keys and strangers."""
    clock: Sequence[int] = field(default=())
    """The flow's time at each batch, and at some ticks after them; it never goes back."""
    shards: int = 1


@st.composite
def scenarios(draw: st.DrawFn, *, max_events: int = 24, copies: bool = True, max_rows: int = 12) -> Scenario:
    view = draw(views())
    anchor = draw(st.sampled_from(ANCHORS))
    happened = draw(events(view=view, anchor=anchor, max_size=max_events, copies=copies))
    times = moments(anchor=anchor, spans=spans_of(view))
    keys = st.fixed_dictionaries({"airport": st.one_of(airports, st.just("nobody")), "carrier": carriers})
    rows = st.builds(lambda key, t_us: key | {"t_us": t_us}, keys, times)
    if happened:
        after = st.one_of(st.sampled_from([0, 1]), moments(anchor=0, spans=spans_of(view)).map(abs))
        rows = st.one_of(rows, *[st.builds(asked_after, st.sampled_from(happened), after)] * 4)
        soon = st.builds(lambda event, after_us: event["event_us"] + after_us, st.sampled_from(happened), st.just(1))
        times = st.one_of(times, soon, soon)
    spine = draw(st.lists(rows, min_size=1, max_size=max_rows))
    batches = draw(splits(len(happened)))
    ticks = len(batches) + draw(st.integers(0, 3))
    clock = sorted(draw(st.lists(times, min_size=ticks, max_size=ticks)))
    shards = draw(st.sampled_from([1, 1, 3]))
    return Scenario(view=view, events=happened, batches=batches, spine=spine, clock=clock, shards=shards)


def asked_after(event: Row, after_us: int) -> Row:
    """A spine row of the event's entity, so much later."""
    return {"airport": event["airport"], "carrier": event["carrier"], "t_us": event["event_us"] + after_us}


def in_batches(scenario: Scenario) -> list[list[Row]]:
    """The events cut into the scenario's batches."""
    parts, at = [], 0
    for size in scenario.batches:
        parts.append(list(scenario.events[at : at + size]))
        at += size
    return parts


# --- what the reference and the project work on ---------------------------------------------------------------------


def reference_events(view: View, rows: Sequence[Row]) -> list[Row]:
    """The events with each expression of the view as one more column, under its SQL text."""
    computed = {e.sql: e.of for e in EXPRESSIONS if any(f["column"] == e.sql for f in view.features)}
    return [row | {sql: of(row) for sql, of in computed.items() if sql not in COLUMNS} for row in rows]


def accepts(view: View, event: Row) -> bool:
    """True if the event counts in the view: `where` holds, and it is not later than is allowed."""
    late = view.lateness is not None and reference.is_late(event, reference.duration_us(view.lateness))
    return not late and (view.where is None or view.where.of(event) is True)


def expected(scenario: Scenario, **options: object) -> list[list[tuple[object, str]]]:
    """What the reference says for the scenario's spine."""
    view = scenario.view
    return reference.point_in_time(
        reference_events(view, scenario.events),
        scenario.spine,
        view.features,
        join_keys=view.join_keys,
        where=lambda event: accepts(view, event),
        **options,
    )


def entity_of(view: View, row: Row) -> str | None:
    return reference.entity_key([row[name] for name in view.join_keys])


def declared(view: View, **options: object) -> object:
    """The view as a `FeatureView`, by `agg.*` as a user would write it, over a source of these columns."""
    from feature_store.declare import Entity, FeatureView, agg

    specs = []
    for feature in view.features:
        cap = {"last_n": {"n": feature["cap"]}, "count_distinct": {"cap": feature["cap"]}}.get(feature["aggregate"], {})
        operand = [] if feature["column"] is None else [feature["column"]]
        declare = getattr(agg, feature["aggregate"])
        specs.append(declare(*operand, over=feature["over"], hop=feature["hop"], name=feature["name"], **cap))
    source = options.pop("source", None) or event_source()
    late = {} if view.lateness is None else {"late_events": "ignore", "lateness": view.lateness}
    return FeatureView(
        view.name,
        entity=Entity("_".join(view.join_keys), join_keys=view.join_keys),
        source=source,
        features=specs,
        where=None if view.where is None else view.where.sql,
        owner="team:tests",
        description="drawn at random",
        **late,
        **options,
    )


def event_source(**options: object) -> object:
    """The source of the drawn events, as a user would declare it."""
    from feature_store.declare import EventSource

    return EventSource("happenings", schema=schema_model(), event_time="happened_at", event_id="event_id", **options)


@functools.cache
def schema_model() -> type:
    """The Pandera model of the drawn events; one object, because a source is compared by it."""
    import pandas as pd
    import pandera.pandas as pa
    from pandera.engines.pandas_engine import Decimal as DecimalType

    class Happening(pa.DataFrameModel):
        event_id: str
        happened_at: Annotated[pd.DatetimeTZDtype, "us", "UTC"]
        airport: str = pa.Field(nullable=True)
        carrier: pd.Int64Dtype = pa.Field(nullable=True)
        amount: pd.Int64Dtype = pa.Field(nullable=True)
        small: pd.Int64Dtype = pa.Field(nullable=True)
        delay: float = pa.Field(nullable=True)
        price: Annotated[DecimalType, 18, 2, None] = pa.Field(nullable=True)
        label: str = pa.Field(nullable=True)
        flag: pd.BooleanDtype = pa.Field(nullable=True)
        seen_at: Annotated[pd.DatetimeTZDtype, "us", "UTC"] = pa.Field(nullable=True)

    return Happening


def arrow_schema() -> object:
    """The Arrow schema of the drawn events, system columns last."""
    import pyarrow as pa

    types = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "str": pa.string()}
    types |= {("decimal", 2): pa.decimal128(18, 2)}
    kinds = {"airport": "str", "carrier": "int", **COLUMNS}
    return pa.schema(
        [
            pa.field("event_id", pa.string(), nullable=False),
            pa.field("happened_at", pa.timestamp("us", tz="UTC"), nullable=False),
            *(pa.field(name, types[kind]) for name, kind in kinds.items()),
            pa.field("seen_at", pa.timestamp("us", tz="UTC")),
            pa.field("_event_id", pa.string()),
            pa.field("_event_us", pa.int64()),
            pa.field("_arrived_us", pa.int64()),
            pa.field("_partition", pa.int32()),
            pa.field("_offset", pa.int64()),
            pa.field("_late", pa.bool_()),
            pa.field("_day", pa.date32()),
        ]
    )


def arrow_events(rows: Sequence[Row], *, first_offset: int = 0) -> object:
    """The events as the relation that the lake and a micro-batch share."""
    import pyarrow as pa

    systems = []
    for offset, row in enumerate(rows, first_offset):
        systems.append(
            row
            | {
                "happened_at": row["event_us"],
                "seen_at": row["arrived_us"],
                "_event_id": row["event_id"],
                "_event_us": row["event_us"],
                "_arrived_us": row["arrived_us"],
                "_partition": 0,
                "_offset": offset,
                "_late": False,
                "_day": reference.floor_to(row["event_us"], DAY) // DAY,
            }
        )
    schema = arrow_schema()
    return pa.table({f.name: pa.array([r[f.name] for r in systems], type=f.type) for f in schema}, schema=schema)
