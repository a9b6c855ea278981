"""Training sets under `served` knowledge: the very numbers that were served, in a world with late and early events."""

import pyarrow as arrow  # noqa: ICN001 - as in `proof_world`
import pytest
from proof_world import CITIES, SERVICE, World

from feature_store.proof.layout import conform, served_layout
from feature_store.proof.served_log import REQUESTED
from feature_store.time_rule import MINUTE_US, SECOND_US, from_us

HOURS = 3


@pytest.fixture(scope="module")
def world(valkey, tmp_path_factory, module_environment):
    """Some hours of life; the stream goes on in other runs, once with another number of shards."""
    made = World(valkey.url, tmp_path_factory.mktemp("knowledge"), module_environment, seed=11)
    for hour in range(HOURS):
        made.shards = 3 if hour == 1 else 2
        made.restart()
        made.publish_rows()
        for _ in range(6):
            made.happen(12, over_us=10 * MINUTE_US)
            made.step(by_us=10 * MINUTE_US, reads=0)
            read_all(made)
        made.step(by_us=10 * SECOND_US, reads=0)
        read_all(made)
        made.clock.move_to(made.clock.now_us() + SECOND_US)
    made.archive()
    yield made
    made.close()


def read_all(world):
    """A vector of each city for this moment."""
    for number, city in enumerate([*CITIES, "nowhere", None]):
        row = {"city": city, "kind": 1 + number % 2, "rival": CITIES[(number + world.random.randrange(4)) % 4]}
        world.read(row, as_of_us=world.clock.now_us())


def training_set(world, **options):
    """The rows that one would train on, at the times at which vectors were served."""
    served = world.served.table()
    times = arrow.array([from_us(time) for time in served.column(REQUESTED).to_pylist()], arrow.timestamp("us", "UTC"))
    spine = served.select(["city", "kind", "rival"]).append_column("event_timestamp", times)
    return world.store.get_historical_features(spine, SERVICE, statuses=True, allow_incomplete=True, **options)


def unequal(world, trained):
    """(feature, row) -> served and trained, wherever they are not the same."""
    layout = served_layout(world.store.compiled, SERVICE)
    record = conform(layout, world.served.table())
    found = {}
    for feature in layout.features:
        pairs = zip(cells(record, feature), cells(trained.table, feature), strict=True)
        found |= {(feature.name, row): pair for row, pair in enumerate(pairs) if repr(pair[0]) != repr(pair[1])}
    return found


def cells(table, feature):
    return list(zip(*(table.column(name).to_pylist() for name in (feature.column, feature.status)), strict=True))


def test_a_row_at_the_time_of_a_served_vector_has_its_values(world):
    trained = training_set(world)

    assert not unequal(world, trained)
    assert len(trained) == len(world.served) == HOURS * 7 * 6
    report = trained.manifest.known
    cities = len(trained) - len(trained) // 6
    assert {view.measured for name, view in report.views.items() if name.startswith("every")} == {cities}


def test_the_report_counts_what_hindsight_would_change(world):
    served, corrected = training_set(world), training_set(world, knowledge="corrected")

    report = served.manifest.known
    views = {"every@1": "every__", "pairs@1": "pairs__", "hourly@1": "hourly__"}
    for name, prefix in views.items():
        columns = [c for c in served.feature_columns if c.startswith(prefix)]
        differing = [differ(served, corrected, c) for c in columns]
        told = report.views[name]
        assert told.differing_values == sum(map(sum, differing)) > 0
        assert told.differing_rows == sum(map(any, zip(*differing, strict=True)))
    assert corrected.manifest.known.differing_rows == 0
    assert len(unequal(world, corrected)) >= report.differing_rows > 0


def differ(one, other, column):
    def told(found):
        return zip(*(found.table.column(name).to_pylist() for name in (column, f"{column}__status")), strict=True)

    return [repr(a) != repr(b) for a, b in zip(told(one), told(other), strict=True)]
