"""Training sets against the reference, the whole way: loader, lake, spine, kernel; stream and batch views; both kinds
of knowledge. Fewer examples than `test_parity`, each with many views, rows and features.
"""

import struct
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lake_rows import begun
from reference import DAY, SECOND
from strategies import (
    accepts,
    airports,
    arrow_events,
    asked_after,
    carriers,
    declared,
    event_source,
    events,
    moments,
    reference_events,
    spans_of,
    views,
)

from feature_store import FeatureStore, ManualClock, Registry, Settings
from feature_store.status import Status
from feature_store.time_rule import from_us

ANCHOR = 1_372_936_200 * SECOND
SYSTEM_COLUMNS = 7


@st.composite
def deployments(draw):
    """Some views of one source, its events (each once), and spine rows."""
    drawn = [replace(draw(views(max_features=8)), name=f"view_{i}") for i in range(4)]
    happened = draw(events(view=drawn[0], anchor=ANCHOR, max_size=40, copies=False))
    after = moments(anchor=0, spans=spans_of(drawn[0])).map(abs)
    row = st.builds(lambda a, c, t: {"airport": a, "carrier": c, "t_us": ANCHOR + t}, airports, carriers, after)
    if happened:
        row = st.one_of(row, *[st.builds(asked_after, st.sampled_from(happened), after)] * 4)
    return drawn, happened, draw(st.lists(row, min_size=1, max_size=25))


@pytest.fixture
def make(tmp_path_factory):
    """Builds a store with these views and events, loaded; the last two views are batch views, materialized."""

    def build(drawn, happened, rows):
        table = arrow_events(happened)
        table = table.select(table.schema.names[:-SYSTEM_COLUMNS])
        source = event_source(load=lambda _start, _end: table, arrival="seen_at")
        batch = {"online": "batch", "freshness_sla": "4000d"}
        options = [{}, {}, batch | {"every": "1d"}, batch | {"every": "6h"}]
        declarations = [declared(view, source=source, **more) for view, more in zip(drawn, options, strict=True)]
        times = [event["event_us"] for event in happened] + [row["t_us"] for row in rows]
        first, last = (from_us(reference.floor_to(t, DAY)) for t in (min(times) - DAY, max(times) + DAY))
        home = tmp_path_factory.mktemp("home")
        store = FeatureStore(
            Registry(views=declarations), settings=Settings(home=begun(home)), clock=ManualClock(max(times))
        )
        store.load("happenings", start=first, end=last + timedelta(days=1))
        for view in drawn[2:]:
            store.materialize(view.name, start=first, end=last)
        return store

    return build


def bits(value):
    if isinstance(value, float):
        return "float", struct.pack("<d", value)
    if isinstance(value, list):
        return "list", [bits(item) for item in value]
    return type(value).__name__, value


@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(deployment=deployments())
def test_a_training_set_is_what_the_reference_says(deployment, make):
    drawn, happened, rows = deployment
    spine = pa.table(
        {
            "airport": pa.array([row["airport"] for row in rows], pa.string()),
            "carrier": pa.array([row["carrier"] for row in rows], pa.int64()),
            "event_timestamp": pa.array([row["t_us"] for row in rows], pa.timestamp("us", "UTC")),
        }
    )
    with make(drawn, happened, rows) as store:
        for knowledge in ("corrected", "served"):
            features = [store.registry.view(view.name) for view in drawn]
            found = store.get_historical_features(
                spine, features, knowledge=knowledge, statuses=True, allow_incomplete=True
            ).to_arrow()

            for number, view in enumerate(drawn):
                every = (None, None, "1d", "6h")[number]
                told = wanted(view, happened, rows, every=every, knowledge=knowledge if every is None else "corrected")
                for position, feature in enumerate(view.features):
                    column = f"{view.name}__{feature['name']}"
                    values, statuses = (found.column(c).to_pylist() for c in (column, f"{column}__status"))
                    got = [(bits(v), Status(s).name) for v, s in zip(values, statuses, strict=True)]
                    assert got == [row[position] for row in told], (knowledge, every, feature)


def wanted(view, happened, rows, *, every, knowledge):
    table = reference.point_in_time(
        reference_events(view, happened),
        rows,
        view.features,
        join_keys=view.join_keys,
        where=lambda event: accepts(view, event),
        every=every,
        knowledge=knowledge,
    )
    return [[(bits(value), status) for value, status in row] for row in table]
