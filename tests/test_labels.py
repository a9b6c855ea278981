"""Labels: what happens after a row, against loops over the events; open windows are null and counted, never false."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store import (
    DeclarationError,
    Entity,
    EventSource,
    FeatureStore,
    FeatureView,
    InputError,
    Label,
    Registry,
    Settings,
    UnknownNameError,
    agg,
)
from feature_store.clock import ManualClock
from feature_store.time_rule import to_us

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
END = START + 40 * DAY


class Payment(pandera.DataFrameModel):
    payment_id: str
    card: str
    paid_at: pd.DatetimeTZDtype = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})


class Dispute(pandera.DataFrameModel):
    dispute_id: str
    payment_id: str = pandera.Field(nullable=True)
    kind: str
    amount: float
    disputed_at: pd.DatetimeTZDtype = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})


HISTORY: dict[str, list[dict[str, object]]] = {"payments": [], "disputes": []}


def history(name: str, model: type[pandera.DataFrameModel]):
    def load(start: datetime, end: datetime) -> pa.Table:
        time = {"payments": "paid_at", "disputes": "disputed_at"}[name]
        rows = [row for row in HISTORY[name] if start <= row[time] < end]
        columns = list(model.to_schema().columns)
        frame = pd.DataFrame(rows, columns=columns).astype({time: "datetime64[us, UTC]"})
        return pa.Table.from_pandas(frame, preserve_index=False)

    return load


payments = EventSource(
    "payments", schema=Payment, event_time="paid_at", event_id="payment_id", load=history("payments", Payment)
)
disputes = EventSource(
    "disputes", schema=Dispute, event_time="disputed_at", event_id="dispute_id", load=history("disputes", Dispute)
)
cards = FeatureView(
    "cards",
    entity=Entity("card", join_keys=["card"]),
    source=payments,
    features=[agg.count(over="1d")],
)
LABELS = [
    Label("charged_back", disputes.any(on="payment_id", within="7d")),
    Label("frauds", disputes.count(on="payment_id", within="10d", where="kind = 'fraud'")),
    Label("lost", disputes.sum("amount", on="payment_id", within="7d")),
    Label("first_kind", disputes.first("kind", on="payment_id", within="30d")),
]
registry = Registry(views=[cards], labels=LABELS)


@pytest.fixture
def store(tmp_path):
    HISTORY["payments"], HISTORY["disputes"] = [], []
    clock = ManualClock(to_us(END))
    with FeatureStore(settings=Settings(home=tmp_path), registry=registry, clock=clock) as store:
        store.load("payments", start=START, end=END)
        yield store


def dispute(number, payment, at, kind="fraud", amount=1.0):
    row = {"dispute_id": f"d{number}", "payment_id": payment, "kind": kind, "amount": amount}
    return row | {"disputed_at": at}


def load(store, disputes, until=END):
    HISTORY["disputes"] = disputes
    store.load("disputes", start=START, end=until)


def labelled(store, spine, labels=("charged_back",), **options):
    return store.get_historical_features(
        pd.DataFrame(spine, columns=["payment_id", "card", "event_timestamp"]),
        ["cards:count_1d"],
        labels=labels,
        **options,
    )


def test_both_ends_of_the_window_are_exact_to_the_microsecond(store):
    asked, tick = START + DAY + timedelta(hours=3, microseconds=17), timedelta(microseconds=1)
    load(
        store,
        [
            dispute(1, "before", asked - tick),
            dispute(2, "at", asked),
            dispute(3, "last", asked + 7 * DAY - tick),
            dispute(4, "after", asked + 7 * DAY),
        ],
    )

    found = labelled(store, [(name, "c", asked) for name in ("before", "at", "last", "after", "never", None)])

    assert found.table.column("charged_back").to_pylist() == [False, True, True, False, False, None]
    assert found.label_columns == ("charged_back",)
    assert found.manifest.labels == {"charged_back": 0}


def test_a_window_that_has_not_closed_is_null_and_counted_even_if_something_has_happened(store):
    load(store, [dispute(1, "p", END - DAY)], until=END)
    spine = [("p", "c", END - 8 * DAY), ("p", "c", END - 7 * DAY), ("p", "c", END - 2 * DAY), ("q", "c", END - 2 * DAY)]

    found = labelled(store, spine)

    assert found.table.column("charged_back").to_pylist() == [False, True, None, None]
    assert found.manifest.labels == {"charged_back": 2}


def test_a_window_is_open_as_long_as_the_lake_does_not_know_its_source_to_its_end(store):
    load(store, [], until=START + 10 * DAY)

    found = labelled(store, [("p", "c", START + 3 * DAY), ("p", "c", START + 4 * DAY)], allow_incomplete=True)

    assert found.table.column("charged_back").to_pylist() == [False, None]


def test_days_that_were_never_loaded_are_named(store):
    load(store, [], until=START + 3 * DAY)
    store.load("disputes", start=START + 5 * DAY, end=END)

    with pytest.raises(InputError, match=r"source 'disputes' of view 'label_charged_back' was not loaded for 2 days"):
        labelled(store, [("p", "c", START + DAY)])


def test_a_label_that_there_is_not_is_named(store):
    with pytest.raises(UnknownNameError, match="unknown label 'chargedback'; did you mean 'charged_back'"):
        labelled(store, [], labels=["chargedback"])


def test_a_spine_without_the_key_is_refused(store):
    load(store, [])
    spine = pd.DataFrame({"card": ["c"], "event_timestamp": [START + DAY]})

    with pytest.raises(InputError, match="payment_id"):
        store.get_historical_features(spine, ["cards:count_1d"], labels=["charged_back"])


def test_wrong_labels_are_reported_together():
    with pytest.raises(DeclarationError) as refused:
        Registry(
            views=[cards],
            labels=[
                Label("a b", disputes.any(on="payment_id", within="7d")),
                Label("short", disputes.any(on="payment_id", within="now")),
                Label("keyless", disputes.any(on="payment", within="7d")),
                Label("twice", disputes.any(on="payment_id", within="7d")),
                Label("twice", disputes.any(on="payment_id", within="8d")),
            ],
        )

    said = str(refused.value)
    for part in (
        "label 'twice' is declared twice",
        "label `name` must be letters, digits and _, got 'a b'",
        "label 'short': `within` must be a positive duration",
        "'payment'; did you mean 'payment_id'",
    ):
        assert part in said


MOMENTS = st.integers(0, 20 * 24).map(lambda hour: START + timedelta(hours=hour))
NAMES = st.sampled_from(["p1", "p2", "p3"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    came=st.lists(st.tuples(NAMES, MOMENTS, st.sampled_from(["fraud", "goods"]), st.integers(0, 5)), max_size=12),
    asked=st.lists(st.tuples(NAMES, MOMENTS), min_size=1, max_size=6),
)
def test_labels_are_what_loops_over_the_events_say(store, came, asked):
    events = [dispute(n, name, at, kind, amount / 4) for n, (name, at, kind, amount) in enumerate(came)]
    load(store, events)

    found = labelled(store, [(name, "c", at) for name, at in asked], labels=[label.name for label in LABELS])

    for row, (name, at) in zip(found.table.to_pylist(), asked, strict=True):
        after = sorted(
            (e for e in events if e["payment_id"] == name and e["disputed_at"] >= at),
            key=lambda e: (e["disputed_at"], e["dispute_id"]),
        )

        def within(days, at=at, after=after):
            return [e for e in after if e["disputed_at"] < at + days * DAY]

        assert row["charged_back"] == bool(within(7))
        assert row["frauds"] == sum(e["kind"] == "fraud" for e in within(10))
        assert row["lost"] == sum(e["amount"] for e in within(7))
        expected = next((e["kind"] for e in within(30)), None) if at + 30 * DAY <= END else None
        assert row["first_kind"] == expected
    assert found.manifest.labels["first_kind"] == sum(at + 30 * DAY > END for _, at in asked)
