"""Dead letters: kept with reason and place, shown safely, and after the fix as if they had been good from the start."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import pandas as pd
import pandera.pandas as pa
import pytest

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
from feature_store.dead_letters import Wanted, count_letters, find_letter, place_name, place_of, replay
from feature_store.decoders import json
from feature_store.errors import InputError
from feature_store.fold.archive import Archiver
from feature_store.fold.run import LocalStream
from feature_store.log.protocol import Record, pack_offset, partition_of
from feature_store.time_rule import to_us

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
PAYMENTS = Wanted(source="payments")


class Strict(pa.DataFrameModel):
    payment_id: str
    customer: str
    amount: float = pa.Field(le=100)
    paid_at: Annotated[pd.DatetimeTZDtype, "us", "UTC"]


class Mended(Strict):
    amount: float = pa.Field(le=1000)


def declared(model):
    payments = EventSource(
        "payments",
        schema=model,
        event_time="paid_at",
        event_id="payment_id",
        log=redis_stream("payments", partitions=2),
    )
    features = [agg.count(over="1h"), agg.mean("amount", over="24h"), agg.max("amount", over=None)]
    view = FeatureView(
        "spending", entity=Entity("customer", join_keys=["customer"]), source=payments, features=features
    )
    return Registry(views=[view])


@pytest.fixture
def open_store(tmp_path, valkey, environment):
    """Opens a store of these declarations, at noon or so many minutes later, in this world or a twin of it."""

    @contextmanager
    def opened(model, *, minutes=0, twin=""):
        settings = Settings(home=tmp_path / f"home{twin}", redis_url=valkey.url, environment=environment + twin)
        clock = ManualClock(to_us(NOON) + minutes * 60_000_000)
        with FeatureStore(declared(model), settings=settings, clock=clock) as store:
            store.apply()
            yield store

    return opened


def payment(number, amount, *, minutes=-30, customer="ada"):
    at = NOON + timedelta(minutes=minutes)
    return {"payment_id": f"p{number}", "customer": customer, "amount": amount, "paid_at": at}


GOOD = [payment(n, 10.0 + n) for n in range(4)]
REFUSED = [payment(7, 500.25), payment(8, 700.5, customer="bob", minutes=-90)]


def stream(store):
    return LocalStream(store.compiled, store.lake, store.redis, env=store.settings.environment, clock=store.clock)


def archive(store):
    archiver = Archiver(store.compiled, store.lake, store.log("payments"), source="payments")
    while archiver.step():
        pass


def publish_raw(store, payload, event_id="x"):
    store.log("payments").publish([Record(event_id, payload, store.clock.now_us())])


def run_through(store):
    """One run of flow and archiver over all that the log holds."""
    stream(store).step()
    archive(store)


def values(store):
    features = ["spending:count_1h", "spending:amount_mean_24h", "spending:amount_max"]
    online = [store.get_online_features(features, {"customer": name}) for name in ("ada", "bob")]
    spine = pd.DataFrame({"customer": ["ada", "bob"], "event_timestamp": [NOON + timedelta(minutes=4)] * 2})
    trained = store.get_historical_features(spine, features, knowledge="corrected", allow_incomplete=True)
    return [list(vector.values) for vector in online], trained.to_pandas().to_dict("list")


def replayed(store, wanted=PAYMENTS):
    return replay(store.compiled, store.lake, store.log("payments"), wanted, clock=store.clock)


def test_after_fix_and_replay_all_is_as_if_the_records_had_been_good_from_the_start(open_store):
    with open_store(Mended, twin="b") as never_broken:
        never_broken.publish("payments", [*GOOD, *REFUSED])
    with open_store(Strict) as store:
        store.publish("payments", [*GOOD, *REFUSED])
        run_through(store)

    with open_store(Mended, minutes=5) as store:
        flow = stream(store)
        assert (replayed(store).published, replayed_nothing(store)) == (2, True)
        flow.step()
        archive(store)
        mended = values(store)
    with open_store(Mended, minutes=5, twin="b") as never_broken:
        run_through(never_broken)
        assert mended == values(never_broken)
    assert mended[0] == [[5, (10 + 11 + 12 + 13 + 500.25) / 5, 500.25], [0, 700.5, 700.5]]


def replayed_nothing(store):
    with pytest.raises(InputError, match="source 'payments' has no rejected record of its log to replay"):
        replayed(store)
    return True


def test_letters_are_counted_by_reason_and_one_is_shown_with_its_place(open_store):
    with open_store(Strict) as store:
        store.publish("payments", [*GOOD, GOOD[0], GOOD[1] | {"amount": 1.0}, REFUSED[0]])
        publish_raw(store, b"{\x1b[31m")
        run_through(store)

        kinds = sorted(one.kind for one in count_letters(store.lake, Wanted()))
        [conflict] = count_letters(store.lake, Wanted(kind="conflict"))
        [ranged] = count_letters(store.lake, Wanted(reason="less_than_or_equal_to"))
        letter = find_letter(store.lake, "payments", place_of(ranged.example))
        nothing = count_letters(store.lake, Wanted(until_us=to_us(NOON)))

    assert kinds == ["conflict", "duplicate", "rejected", "rejected"]
    assert (conflict.reason, conflict.letters) == ("event id 'p1' was seen before with another payload", 1)
    assert letter.reason == ranged.reason == "column 'amount': less_than_or_equal_to(100), got 500.25"
    assert letter.payload == json().encode([REFUSED[0]])[0]
    assert (letter.partition, letter.arrived_us, letter.replayed_us) == (partition_of("p7", 2), to_us(NOON), None)
    assert nothing == []


def test_what_is_still_no_event_stays_and_is_offered_again(open_store):
    with open_store(Strict) as store:
        publish_raw(store, b"{")
        store.publish("payments", REFUSED)
        run_through(store)

        first, again = replayed(store), replayed(store)

    assert first == again
    assert (first.published, sum(first.unfit.values()), len(first.unfit)) == (0, 3, 3)


def test_a_letter_that_is_rejected_again_becomes_a_new_one_and_the_old_one_is_done(open_store):
    with open_store(Strict) as store:
        store.publish("payments", REFUSED[:1])
        run_through(store)
    with open_store(Mended, minutes=1) as mended:
        assert replayed(mended).published == 1
    with open_store(Strict, minutes=2) as store:  # flow and archiver were not restarted with the fix
        run_through(store)
        [counted] = count_letters(store.lake, PAYMENTS)
    with open_store(Mended, minutes=3) as mended:
        assert (counted.letters, counted.replayed) == (2, 1)
        assert replayed(mended).published == 1
        run_through(mended)
        assert replayed_nothing(mended)
        assert values(mended)[0][0] == [1, 500.25, 500.25]


def test_one_letter_can_be_replayed_and_a_crash_before_its_mark_counts_it_once(open_store):
    with open_store(Strict) as store:
        store.publish("payments", REFUSED)
        run_through(store)
    with open_store(Mended, minutes=1) as store:
        [letter] = [one for one in count_letters(store.lake, PAYMENTS) if "700.5" in one.reason]
        done = replayed(store, Wanted(source="payments", place=place_of(letter.example)))
        store.publish("payments", REFUSED[1:])  # what was published twice
        run_through(store)
        kinds = {(one.kind, one.letters, one.replayed) for one in count_letters(store.lake, PAYMENTS)}

    assert done.published == 1
    assert kinds == {("rejected", 1, 1), ("rejected", 1, 0), ("duplicate", 1, 0)}


def test_a_misplaced_event_is_replayed_to_where_it_belongs(open_store):
    with open_store(Strict) as store:
        elsewhere = next(f"{n}" for n in range(9) if partition_of(f"{n}", 2) != partition_of("p0", 2))
        publish_raw(store, json().encode(GOOD[:1])[0], elsewhere)
        run_through(store)
        assert values(store)[0][0][0] == 0

        assert replayed(store).published == 1
        run_through(store)

        assert values(store)[0][0] == [1, 10.0, 10.0]


def test_a_place_has_one_name():
    assert place_of(place_name(3, pack_offset(2, 17))) == (3, pack_offset(2, 17))
    with pytest.raises(InputError, match=r"must be written as partition:epoch-number, such as 0:3-1200, got '17'"):
        place_of("17")
