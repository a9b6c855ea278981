"""`feature_store.testing`: three computations of every value, which agree, or say who does not."""

import math
import re
import subprocess
import sys
from dataclasses import replace as with_changes
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandera.pandas as pa
import pytest
import shop
import strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandera.typing import Series

import features
from feature_store import (
    DeclarationError,
    FeatureService,
    FeatureView,
    InputError,
    OnlineStoreError,
    Registry,
    Status,
    UnknownNameError,
    agg,
    ratio,
)
from feature_store.testing import Arrived, ReplayMismatch
from feature_store.testing.mismatch import bits
from feature_store.time_rule import HOUR_US, from_us

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def minutes(after):
    return NOON + timedelta(minutes=after)


def payment(number, at, *, customer="ada", amount=10.0):
    return {"payment_id": f"p{number}", "customer": customer, "amount": amount, "paid_at": minutes(at)}


def spending_of(*aggregates, **options):
    return FeatureView("spending", entity=shop.customer, source=shop.payments, features=aggregates, **options)


# --- values out -------------------------------------------------------------------------------------------------------


def test_a_payment_counts_in_the_hour_after_it(replay):
    result = replay(
        shop.registry,
        {"payments": [{"payment_id": "p1", "customer": "ada", "amount": 10.0, "paid_at": "2026-01-01T12:00:00Z"}]},
    )

    counted = [result.at("spending:count_1h", time=minutes(after), customer="ada") for after in (0, 30, 61, 62)]
    assert counted == [0, 1, 1, 0]
    assert result.status("spending:count_1h", time="2026-01-01T13:30:00+01:00", customer="ada") is Status.PRESENT
    assert result.at("spending:count_1h", time="2026-01-01T12:30:00Z", customer="bob") == 0
    assert result.status("spending:count_1h", time="2026-01-01T12:30:00Z", customer="bob") is Status.EMPTY


def test_stream_batch_and_training_views_are_asked_alike(replay):
    result = replay(
        shop.registry,
        {
            "payments": [payment(1, 0, amount=10), payment(2, 10, amount=30), payment(3, 20, customer="bob")],
            "refunds": [{"refund_id": "r1", "customer": "ada", "refunded_at": minutes(5)}],
        },
    )

    at = {"time": minutes(30), "customer": "ada"}
    assert result.at(shop.spending["amount_mean_24h"], **at) == 20.0
    assert result.at("returns:count_7d", **at) == 1
    assert result.at("habits:amount_max_7d", **at) is None, "the row of midnight knows none of it"
    assert result.at("habits:amount_max_7d", time="2026-01-02T00:00:00Z", customer="ada") == 30.0
    assert result.at("habits:amount_max_7d", time="2026-01-12T00:00:00Z", entity={"customer": "ada"}) is None


def test_a_vector_is_what_a_reader_gives_a_model(replay):
    share = ratio("share", "spending:count_1h", "spending:count_24h", empty=-1.0)
    service = FeatureService("fraud", features=[share, shop.spending], defaults={"spending:count_1h": 0})
    registry = Registry(views=[shop.spending], services=[service])
    result = replay(registry, {"payments": [payment(1, 0), payment(2, 100)]})

    vector = result.vector("fraud", time=minutes(110), customer="ada")

    assert vector.to_dict() == {
        "share": 0.5,
        "spending:count_1h": 1,
        "spending:count_24h": 2,
        "spending:amount_mean_24h": 10.0,
    }
    assert vector["spending:count_1h"].event_time == minutes(100)
    assert result.at(share, time=minutes(110), customer="eve") == -1.0
    nobody = result.vector(service, time=minutes(110), customer=None)
    assert nobody["spending:count_1h"] == (0, Status.UNKNOWN, None)
    assert nobody["share"].status is Status.UNKNOWN


def test_a_batch_row_is_fresh_until_the_next_one_is_there(replay):
    view = spending_of(agg.count(over="7d"), online="batch", every="1d")
    result = replay(Registry(views=[view]), {"payments": [payment(1, 0)]})

    for time in ("2026-01-02T00:00:00Z", "2026-01-02T06:00:00Z", "2026-01-02T23:59:59.999999Z", "2026-01-03T00:00:00Z"):
        assert result.status("spending:count_7d", time=time, customer="ada") is Status.PRESENT


def test_a_batch_row_past_its_sla_is_stale_and_obeys_the_service(replay, monkeypatch):
    # A replay publishes every row in time, so the SLA is one that no declaration may have.
    monkeypatch.setattr(FeatureView, "freshness_sla_us", property(lambda _: 6 * HOUR_US))
    view = spending_of(agg.count(over="7d"), online="batch", every="1d")
    service = FeatureService("risk", features=[view], defaults={"spending:count_7d": -1}, on_stale="default")
    strict = FeatureService("strict", features=[view], on_stale="fail")
    result = replay(Registry(views=[view], services=[service, strict]), {"payments": [payment(1, 0)]})
    fresh, late = {"time": "2026-01-02T06:00:00Z"}, {"time": "2026-01-02T06:00:00.000001Z"}

    assert result.at("spending:count_7d", **fresh, customer="ada") == 1
    assert result.vector("risk", **fresh, customer="ada").values == [1]
    assert result.status("spending:count_7d", **late, customer="ada") is Status.STALE
    assert result.status("spending:count_7d", **late, customer="bob") is Status.STALE
    for customer in ("ada", "bob"):
        gone = {"time": "2026-01-02T07:00:00.000001Z", "customer": customer}
        assert result.status("spending:count_7d", **gone) is Status.UNKNOWN
    assert result.vector("risk", **late, customer="ada").values == [-1]
    with pytest.raises(OnlineStoreError, match="is STALE, and service 'strict@1' says on_stale='fail'"):
        result.vector("strict", **late, customer="ada")


def test_where_and_expressions_are_those_of_the_declaration(replay):
    view = spending_of(
        agg.count(over="1h"),
        agg.mean("amount > 50", over="1h", name="large_share"),
        agg.last("upper(customer)", name="shouted"),
        agg.last_n("amount::DECIMAL(8,2)", n=2, name="latest"),
        agg.max("paid_at::DATE - DATE '2026-01-01'", over=None, name="day"),
        agg.last("paid_at", name="paid_at"),
        agg.sum("1 / (amount - 60)", over="1h", name="may_fail"),
        where="amount >= 20",
    )
    events = [payment(n, n, amount=amount) for n, amount in enumerate([10, 20, 60, 100.25])]
    result = replay(view, {"payments": events})

    assert result.vector([view], time=minutes(10), customer="ada").to_dict() == {
        "spending:count_1h": 3,
        "spending:large_share": 2 / 3,
        "spending:shouted": "ADA",
        "spending:latest": [60.0, 100.25],
        "spending:day": 0,
        "spending:paid_at": minutes(3),
        "spending:may_fail": result.at("spending:may_fail", time=minutes(10), customer="ada"),
    }


def test_an_event_counts_from_its_arrival_on(replay):
    late = Arrived(payment(1, 0), at=minutes(20))
    result = replay(shop.registry, {"payments": [late]})
    before, after = (result.at("spending:count_1h", time=minutes(m), customer="ada") for m in (19, 20))

    strict = with_changes(shop.spending, late_events="ignore", lateness="10m")
    ignored = replay(strict, {"payments": [late, payment(2, 5)]})

    assert (before, after) == (0, 1)
    assert ignored.at("spending:count_1h", time=minutes(30), customer="ada") == 1


def test_an_arrival_column_says_when_an_event_arrives(replay):
    source = with_changes(shop.payments, arrival="paid_at", event_time="paid_at")
    view = with_changes(shop.spending, source=source)

    assert replay(view, {"payments": [payment(1, 0)]}).at("spending:count_1h", time=minutes(1), customer="ada") == 1


def test_a_default_stands_for_what_an_event_does_not_say(replay):
    class Tipped(shop.Payment):
        tip: Series[float] = pa.Field(default=2.5)
        channel: Series[str] = pa.Field(default="shop")

    view = FeatureView(
        "spending",
        entity=shop.customer,
        source=with_changes(shop.payments, schema=Tipped),
        where="channel = 'shop'",
        features=[agg.sum("tip", over="1h", name="tips")],
    )
    events = [
        payment(1, 0),
        payment(2, 1) | {"tip": None},
        payment(3, 2) | {"tip": 1.0},
        payment(4, 3) | {"channel": "web"},
    ]

    assert replay(view, {"payments": events}).at("spending:tips", time=minutes(30), customer="ada") == 6.0


def test_an_event_that_comes_twice_counts_once_and_is_named(replay):
    result = replay(shop.registry, {"payments": [payment(1, 0), payment(1, 0), payment(1, 0, amount=99)]})

    assert result.at("spending:count_1h", time=minutes(1), customer="ada") == 1
    assert result.at("spending:amount_mean_24h", time=minutes(1), customer="ada") == 10.0
    assert [(r.source, r.event, r.kind) for r in result.rejected] == [
        ("payments", 1, "duplicate"),
        ("payments", 2, "conflict"),
    ]


# --- the flights ------------------------------------------------------------------------------------------------------


def departure(number, at, delay, *, origin="JFK", carrier="B6"):
    return {
        "flight_uid": f"2013-07-04:{carrier}:{number}:0900:{origin}",
        "origin": origin,
        "dest": "BOS",
        "carrier": carrier,
        "tailnum": "N593JB",
        "departed_at": minutes(at),
        "sched_dep": minutes(at - delay),
        "dep_delay": delay,
        "distance": 187,
    }


def test_the_flights_declarations_hold_what_their_descriptions_say(replay):
    flights = [departure(1001, 0, 5), departure(1002, 20, 40), departure(1003, 25, -3, carrier="DL")]
    result = replay(features.registry, {"departures": flights})
    at = {"time": minutes(30), "origin": "JFK"}

    assert result.at("airport_departures:count_1h", **at) == 3
    assert result.at("airport_departures:dep_delay_max_1h", **at) == 40
    assert result.at("airport_departures:late_share_3h", **at) == 1 / 3
    assert result.at("origin_carrier_departures:dep_delay_mean_3h", **at, carrier="B6") == 22.5
    assert result.at("aircraft_departures:destinations_7d", time=minutes(30), tailnum="N593JB") == 1
    vector = result.vector("arrival_delay", **at, carrier="B6", dest="BOS", tailnum="N593JB")
    assert vector["airport_departures:count_24h"].value == 3


# --- any events -------------------------------------------------------------------------------------------------------

EVERYTHING = [
    agg.count(over=["10m", "1h"]),
    agg.sum("amount", over="1h"),
    agg.mean("amount > 20", over="1h", name="large_share"),
    agg.min("amount", over="10m"),
    agg.max("amount", over="1h"),
    agg.variance("amount", over="1h"),
    agg.stddev("amount::DECIMAL(12,2)", over="1h", name="cents_stddev"),
    agg.first("customer", over="10m"),
    agg.last("amount"),
    agg.last_n("payment_id", n=2, over="1h"),
    agg.count_distinct("amount", over="1h", cap=2),
    agg.sum("(amount * 1e15)::BIGINT * 9", over=None, name="too_much"),
]
ANY_SPENDING = Registry(
    views=[
        spending_of(*EVERYTHING, where="amount <> 13"),
        with_changes(spending_of(*EVERYTHING, online="batch", every="15m"), name="rows"),
        with_changes(spending_of(*EVERYTHING, online=None, late_events="ignore", lateness="5m"), name="punctual"),
    ]
)


@st.composite
def payments(draw):
    at = draw(st.one_of(st.integers(0, 90), st.sampled_from([0, 10, 15, 30, 60])))
    event = payment(
        draw(st.integers(0, 12)),
        at,
        customer=draw(st.sampled_from(["ada", "ada", "b|b"])),
        amount=draw(st.one_of(st.sampled_from([0.0, 13.0, 0.1, 20.5]), st.floats(0, 1e6))),
    )
    late = draw(st.sampled_from([None, None, -1, 0, 5, 6, 30]))
    return event if late is None else Arrived(event, at=minutes(at + late))


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(
    events=st.lists(payments(), max_size=14),
    asked=st.lists(st.sampled_from([0, 1, 10, 15, 25, 30, 59, 60, 61, 75, 90, 120, 2000]), min_size=1, max_size=2),
    seed=st.integers(0, 1000),
)
def test_the_three_computations_agree_on_any_events(replay, events, asked, seed):
    result = replay(ANY_SPENDING, {"payments": events}, seed=seed)

    for after in asked:
        for customer in ("ada", "b|b"):
            result.vector(ANY_SPENDING.views, time=minutes(after), customer=customer)


def test_an_entity_whose_only_event_was_no_new_one_has_no_newest_event(replay):
    """Its event id had been seen with another entity: a row may be written, in which nothing has ever happened."""
    events = [Arrived(payment(0, 0), at=minutes(5)), payment(0, 0, customer="b|b"), payment(1, 15)]

    result = replay(ANY_SPENDING, {"payments": events}, seed=76)

    vector = result.vector(ANY_SPENDING.views, time=minutes(15), customer="ada")
    assert {vector[name].event_time for name in vector.names} == {None}


def test_an_entity_whose_first_event_waits_is_empty_where_a_window_has_no_begin(replay):
    """The event is of the very moment that is asked for, so it is taken in and does not count; nothing has changed since ever."""
    forever = Registry(views=[spending_of(agg.count(over=None), online="batch", every="1h", freshness_sla="2h")])
    result = replay(forever, {"payments": [payment(0, 60), payment(1, 59, customer="b|b")]}, seed=1)

    vector = result.vector(forever.views, time=minutes(60), customer="ada")

    assert (vector.values, [status.name for status in vector.statuses]) == ([0], ["EMPTY"])


def of_finite_numbers(event):
    """JSON has no form for the others."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in event.items()}


def as_given(event):
    columns = {name: event[name] for name in ("event_id", "airport", "carrier", *strategies.COLUMNS)}
    columns |= {"happened_at": from_us(event["event_us"])}
    return columns if event["arrived_us"] is None else Arrived(columns, at=from_us(event["arrived_us"]))


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(
    scenario=strategies.scenarios(max_events=12, max_rows=3, copies=False),
    every=st.sampled_from([None, None, "1h", "1d"]),
    seed=st.integers(0, 1000),
)
def test_a_replay_says_what_the_reference_of_these_tests_says(replay, scenario, every, seed):
    scenario = with_changes(scenario, events=[of_finite_numbers(event) for event in scenario.events])
    options = {} if every is None else {"online": "batch", "every": every, "freshness_sla": "4000d"}
    view = strategies.declared(scenario.view, **options)
    result = replay(view, {"happenings": [as_given(event) for event in scenario.events]}, seed=seed)

    told = strategies.expected(scenario, knowledge="served", every=every)
    for row, wanted in zip(scenario.spine, told, strict=True):
        keys = {name: row[name] for name in scenario.view.join_keys}
        vector = result.vector([view], time=from_us(row["t_us"]), entity=keys)
        found = [(bits(value), status.name) for value, status in zip(vector.values, vector.statuses, strict=True)]
        assert found == [(bits(value), status) for value, status in wanted]


def test_the_order_and_the_sizes_of_micro_batches_follow_from_the_seed():
    from feature_store.testing.events import read_events
    from feature_store.testing.micro_batches import take_in
    from feature_store.transforms.compiled import compile_registry

    compiled = compile_registry(shop.registry)
    taken = read_events(compiled, {"payments": [payment(n, n) for n in range(20)]})["payments"]

    def batches(seed):
        return [
            batch.column("payment_id").to_pylist()
            for batch in take_in(taken, compiled.schemas["payments"], seed=seed).batches
        ]

    assert batches(1) == batches(1) != batches(2)
    assert sorted(uid for batch in batches(1) for uid in batch) == sorted(f"p{n}" for n in range(20))


# --- disagreement -----------------------------------------------------------------------------------------------------


def test_a_fault_in_the_windows_of_history_is_reported(replay, monkeypatch):
    from feature_store.transforms import evaluate

    result = replay(shop.registry, {"payments": [payment(1, 0), payment(2, 10)]})
    monkeypatch.setattr(
        "feature_store.history.windows.evaluate",
        lambda *a, time_us: evaluate.evaluate(*a, time_us=time_us - 25 * 60_000_000),
    )

    with pytest.raises(ReplayMismatch) as raised:
        result.at("spending:count_1h", time=minutes(30), customer="ada")

    assert str(raised.value) == (
        "view 'spending', feature 'count_1h' of customer='ada' at 2026-01-01T12:30:00+00:00 was computed differently (seed=0):\n"
        "  history's SQL: 1 (PRESENT)\n"
        "  micro-batches: 2 (PRESENT)\n"
        "  naive loops:   2 (PRESENT)"
    )
    assert isinstance(raised.value, AssertionError)
    assert (raised.value.view, raised.value.feature, raised.value.entity) == (
        "spending",
        "count_1h",
        {"customer": "ada"},
    )
    assert raised.value.time == minutes(30)
    assert raised.value.found["micro-batches"] == (2, Status.PRESENT)


def test_a_fault_in_the_packed_steps_of_the_stream_is_reported(replay, monkeypatch):
    from feature_store.fold import shard
    from feature_store.online.packing import Column

    monkeypatch.setattr(
        shard,
        "_column",
        lambda steps, _base_s: Column([7] * (len(steps.first) - 1)),
    )
    result = replay(shop.registry, {"payments": [payment(1, 0)]})

    with pytest.raises(
        ReplayMismatch, match=r"history's SQL: 1 \(PRESENT\)\n  micro-batches: 7 \(PRESENT\)\n  naive loops:   1"
    ):
        result.at("spending:count_1h", time=minutes(30), customer="ada")


def test_a_fault_in_the_naive_loops_is_reported(replay, monkeypatch):
    monkeypatch.setattr("feature_store.testing.naive._FLOAT_UNITS", 1)
    result = replay(shop.registry, {"payments": [payment(1, 0, amount=0.25)]})

    with pytest.raises(
        ReplayMismatch, match=r"0\.25 \(PRESENT\)\n  micro-batches: 0\.25 \(PRESENT\)\n  naive loops:   0\.0"
    ):
        result.at("spending:amount_mean_24h", time=minutes(30), customer="ada")


def test_a_fault_in_what_the_intake_takes_is_reported(replay, monkeypatch):
    from feature_store.fold.known_ids import KnownIds, Seen

    monkeypatch.setattr(KnownIds, "check", lambda _self, ids, *_, **__: [Seen.DUPLICATE] * len(ids))

    with pytest.raises(
        ReplayMismatch, match=r"source 'payments': history's SQL and micro-batches take event 'p1' differently"
    ):
        replay(shop.registry, {"payments": [payment(1, 0)]})


# --- bad input --------------------------------------------------------------------------------------------------------


def test_an_unknown_source_or_column_is_named_with_the_nearest(replay):
    with pytest.raises(UnknownNameError, match="unknown source 'payment'; did you mean 'payments'"):
        replay(shop.registry, {"payment": []})
    with pytest.raises(
        UnknownNameError, match="unknown column of source 'payments', event 1 'amout'; did you mean 'amount'"
    ):
        replay(shop.registry, {"payments": [payment(1, 0), {**payment(2, 0), "amout": 1.0}]})


def test_an_event_that_does_not_fit_is_refused_by_place(replay):
    missing = {name: value for name, value in payment(1, 0).items() if name != "amount"}
    for event, message in (
        (missing, "source 'payments', event 0: column 'amount' is missing"),
        ("p1", "source 'payments', event 0 must be a mapping of column -> value, got 'p1'"),
        ({**payment(1, 0), "amount": "ten"}, "source 'payments', event 0: column 'amount' must be double, got 'ten'"),
        ({**payment(1, 0), "paid_at": "2026-01-01T12:00:00"}, "must carry a time zone, got the naive datetime"),
        ({**payment(1, 0), "paid_at": datetime(2026, 1, 1)}, "must carry a time zone, got the naive datetime"),  # noqa: DTZ001
        ({**payment(1, 0), "paid_at": "noon"}, "must be an aware datetime or text such as"),
        ({**payment(1, 0), "customer": None}, "source 'payments', event 0: column 'customer' must not be null"),
        (payment(1, 0, amount=-1), r"source 'payments' rejects event 0: column 'amount': .*say allow_rejected=True"),
        (
            Arrived(payment(1, 0), at=minutes(-2)),
            r"rejects event 0: column 'paid_at': 120.000 s later than its arrival",
        ),
        (payment(1, 0, amount=float("inf")), "column 'amount' must be a finite number or null, got inf"),
        (Arrived(payment(1, 0), at="12:00"), "must be an aware datetime or text such as"),
    ):
        with pytest.raises(InputError, match=message):
            replay(shop.registry, {"payments": [event]})


def test_rejected_events_may_be_the_test(replay):
    events = [
        payment(1, 0, amount=-1),
        payment(2, 0),
        Arrived(payment(3, 0), at=minutes(-2)),
    ]
    result = replay(shop.registry, {"payments": events}, allow_rejected=True)

    assert result.at("spending:count_1h", time=minutes(1), customer="ada") == 1
    assert [(r.event, r.kind) for r in result.rejected] == [(0, "rejected"), (2, "rejected")]


def test_a_question_that_makes_no_sense_is_refused(replay):
    result = replay(shop.registry, {"payments": [payment(1, 0)]})
    noon = {"time": minutes(0)}
    for error, message, ask in (
        (
            UnknownNameError,
            "unknown feature of view 'spending' 'count_2h'; did you mean",
            lambda: result.at("spending:count_2h", **noon, customer="a"),
        ),
        (UnknownNameError, "unknown view 'spendin'", lambda: result.at("spendin:count_1h", **noon, customer="a")),
        (UnknownNameError, "unknown service 'fraud'", lambda: result.vector("fraud", **noon, customer="a")),
        (InputError, "a feature must be named as 'view:feature'", lambda: result.at("count_1h", **noon, customer="a")),
        (
            InputError,
            "entity 'customer' needs the join key `customer`, got no keys",
            lambda: result.at("spending:count_1h", **noon),
        ),
        (
            UnknownNameError,
            "unknown join key 'custmer'",
            lambda: result.at("spending:count_1h", **noon, customer="a", custmer="a"),
        ),
        (InputError, "`customer` must be string, got 7", lambda: result.at("spending:count_1h", **noon, customer=7)),
        (
            InputError,
            "`time` must carry a time zone",
            lambda: result.at("spending:count_1h", time="2026-01-01T12:00", customer="a"),
        ),
        (InputError, "`time` must be an aware datetime", lambda: result.at("spending:count_1h", time=5, customer="a")),
    ):
        with pytest.raises(error, match=message):
            ask()


def test_declarations_are_checked_as_a_registry_is(replay):
    with pytest.raises(DeclarationError, match="`amont`"):
        replay(spending_of(agg.sum("amont", over="1h")), {})
    with pytest.raises(InputError, match="`declarations` must be a Registry, a FeatureView or several, got 'spending'"):
        replay(["spending"], {})


def test_the_plugin_loads_nothing_heavy():
    script = "import feature_store.testing.plugin, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)

    assert set(done.stdout.split()) & {"numpy", "pandas", "pyarrow", "duckdb", "pandera", "redis"} == set()


def test_the_tests_on_the_page_pass_in_a_project_that_only_has_the_library_installed(tmp_path):
    page = (Path(__file__).parent.parent / "docs/testing.md").read_text()
    (tmp_path / "test_page.py").write_text(
        "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
    )

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)

    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_without_the_extra_replay_names_it():
    script = "import sys; sys.modules['pyarrow'] = None; from feature_store.testing import replay; replay([], {})"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)

    assert "ImportError: `replay` needs more than reading does" in done.stderr
    assert "install feature-store[lake]" in done.stderr
