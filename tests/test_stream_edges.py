"""At the edges of a stream view's windows a training row says what a reader said: to the microsecond, row or no row."""

import pyarrow as pa
import pytest
from changing_world import END, START, Deployment, live
from reference import HOUR

from feature_store import Registry, Status, agg
from feature_store.time_rule import from_us, to_us

FEATURES = ["live:total", "live:count"]


@pytest.fixture
def place(valkey, tmp_path, environment):
    made = Deployment(valkey.url, tmp_path, environment)
    yield made
    made.close()


@pytest.mark.parametrize("expired", [False, True])
def test_a_value_ends_for_reader_and_training_at_the_same_microsecond(place, expired):
    # last click of each user      its hop has left the windows of 6 h and of 24 h
    # END - 1 h ------------------ END + 6 h --------------------- END + 24 h ---- (Redis: some time later)
    view = live(over="24h", extra=[agg.count(over="6h", hop="1h", name="count")])
    store = place.store(Registry(views=[view]))
    store.load("clicks", start=START, end=END)
    store.apply()
    stream, found = place.stream(store), []
    ends = [to_us(END) + hours * HOUR for hours in (6, 24)]
    with store.reader() as reader:
        for each in [end + offset for end in ends for offset in (-1, 0, 1)]:
            place.clock.move_to(each)
            stream.step()
            if expired and each >= ends[-1]:
                store.redis.delete(f"features:{place.env}:{{user:u1}}")  # its expiry, by the server's own clock
            found += [(user, each, reader.get_online_features(FEATURES, {"user": user})) for user in ("u1", "nobody")]
    spine = pa.table(
        {
            "user": [user for user, _, _ in found],
            "event_timestamp": pa.array([from_us(time) for _, time, _ in found], pa.timestamp("us", "UTC")),
        }
    )

    trained = store.get_historical_features(spine, FEATURES, statuses=True, allow_incomplete=True).to_arrow()

    for name in FEATURES:
        column = name.replace(":", "__")
        served = [(vector[name].value, int(vector[name].status)) for _, _, vector in found]
        values, statuses = (trained.column(each).to_pylist() for each in (column, f"{column}__status"))
        assert list(zip(values, statuses, strict=True)) == served
    assert [vector["live:total"].status.name for user, _, vector in found if user == "u1"] == [
        *["PRESENT"] * 4,
        *["EMPTY"] * 2,
    ]
    assert [vector["live:count"].status for user, _, vector in found if user == "u1"][:2] == [
        Status.PRESENT,
        Status.EMPTY,
    ]
