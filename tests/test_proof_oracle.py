"""The second opinion knows every aggregate, stands on its own, and disagrees where it should."""

import ast
import inspect
from dataclasses import replace

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest
from pandera.typing import Series
from proof_world import SERVICE, Ride, World, city, lived

from feature_store import FeatureService, FeatureStore, FeatureView, Registry, agg
from feature_store.declare import Feature
from feature_store.errors import InputError
from feature_store.proof import ServedLog, operands, oracle, prove
from feature_store.proof.layout import conform, served_layout
from feature_store.proof.operands import operand
from feature_store.proof.oracle import consult
from feature_store.reader import Status
from feature_store.transforms.catalogue import CATALOGUE


@pytest.fixture(scope="module")
def world(valkey, tmp_path_factory, module_environment):
    made = World(valkey.url, tmp_path_factory.mktemp("oracle"), module_environment, seed=3, shards=1)
    made.record = conform(served_layout(made.store.compiled, SERVICE), lived(made, hours=2))
    yield made
    made.close()


def opinion(world, record):
    compiled, lake = world.store.compiled, world.store.lake
    return consult(lake, served_layout(compiled, SERVICE), record, snapshot=lake.snapshot())


def feature_of(aggregate, column="x"):
    return Feature(name="f", aggregate=aggregate, column=column, window_us=None, hop_us=1)


def test_every_aggregate_is_asked_and_agreed_upon(world):
    found = opinion(world, world.record)

    asked = {feature.aggregate for view in world.store.registry.views for feature in view.declared}
    assert asked == set(CATALOGUE)
    assert found.unequal == 0, found.differences[:5]
    assert found.values > 1000


@pytest.mark.parametrize("feature", ["every__fare_stddev_6h", "every__count", "hourly__fare_mean_12h", "mixed"])
def test_it_disagrees_with_a_value_that_is_off_by_the_last_bit(world, feature):
    statuses = world.record.column(f"{feature}__status").to_pylist()
    values = world.record.column(feature).to_pylist()
    row = statuses.index(int(Status.PRESENT))
    values[row] += abs(values[row]) * 2**-52 if isinstance(values[row], float) else 1
    place = world.record.schema.get_field_index(feature)

    field = world.record.schema.field(feature)
    found = opinion(world, world.record.set_column(place, field, pa.array(values, field.type)))

    assert found.unequal == 1
    assert [difference[1] for difference in found.differences] == [row]


class Charged(Ride):
    tariff: Series[str] = pandera.Field(default="std")
    surcharge: Series[pd.Int64Dtype] = pandera.Field(default=3)


class Evolved(World):
    """A deployment whose source gets columns with defaults; some producers write them, some do not or write null."""

    def evolve(self):
        before = self.store
        source = replace(before.registry.source("rides"), schema=Charged)
        features = [agg.sum("surcharge", over=["6h", None]), agg.last("tariff", over="1d"), agg.count(over="1h")]
        charged = FeatureView("charged", entity=city, source=source, where="tariff <> 'night'", features=features)
        hourly = FeatureView(
            "charged_hourly",
            entity=city,
            source=source,
            features=features,
            online="batch",
            every="1h",
            freshness_sla="3h",
        )
        views = [*(replace(view, source=source) for view in before.registry.views), charged, hourly]
        services = [*before.registry.services, FeatureService("charges", features=[charged, hourly])]
        self.store = FeatureStore(Registry(views=views, services=services), settings=before.settings, clock=self.clock)
        before.close()
        self.store.apply()
        self.served, self.service, self.published = ServedLog(), "charges", (*self.published, "charged_hourly")

    def _rows(self, *span, **options):
        rows = super()._rows(*span, **options)
        if self.service != "charges":
            return rows
        pick = self.random.choice
        more = [{"tariff": pick([None, "night", "day"]), "surcharge": pick([None, 0, 9])} for _ in rows]
        return [row | pick([{}, new]) for row, new in zip(rows, more, strict=True)]


def test_events_from_before_a_column_are_proved_with_its_default(valkey, tmp_path, environment):
    # loaded history | live events, archived | evolved: live events with and without the columns
    world = Evolved(valkey.url, tmp_path, environment, seed=5, shards=1)
    lived(world, hours=1)
    world.evolve()
    table = lived(world, hours=1)
    compiled, lake = world.store.compiled, world.store.lake
    record = conform(served_layout(compiled, "charges"), table)

    found = consult(lake, served_layout(compiled, "charges"), record, snapshot=lake.snapshot())
    proof = prove(compiled, lake, table, sample=30)

    assert (found.unequal, proof.unequal, proof.report.unknown) == (0, 0, 0), (
        found.differences[:3],
        proof.report.differences[:3],
    )
    assert found.values > 100
    known = {value for value in record.column("charged__tariff_last_1d").to_pylist() if value is not None}
    assert known == {"std", "day"}
    lifetime = record.column("charged__surcharge_sum").to_pylist()
    spoilt = record.set_column(
        record.schema.get_field_index("charged__surcharge_sum"),
        record.schema.field("charged__surcharge_sum"),
        pa.array([None if value is None else value - 3 for value in lifetime], pa.int64()),  # as if one had no default
    )
    assert consult(lake, served_layout(compiled, "charges"), spoilt, snapshot=lake.snapshot()).unequal > 0
    world.close()


@pytest.mark.parametrize("module", [oracle, operands])
def test_it_shares_no_code_with_the_transforms(module):
    tree = ast.parse(inspect.getsource(module))

    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert not [name for name in imported if "transforms" in name or name.endswith(("history", "fold"))]


def test_an_aggregate_that_it_does_not_know_is_refused_by_name():
    with pytest.raises(InputError, match="the oracle does not know the aggregate 'median' of feature 'f'"):
        operand(feature_of("median"), "BIGINT")


@pytest.mark.parametrize(
    ("aggregate", "parts", "answer"),
    [
        ("sum", (2, 2**63), (None, Status.ERROR)),
        ("sum", (2, 2**63 - 1), (2**63 - 1, Status.PRESENT)),
        ("sum", (None, None), (0, Status.EMPTY)),
        ("mean", (0, None), (None, Status.EMPTY)),
        ("mean", (3, 10), (10 / 3, Status.PRESENT)),
        ("variance", (1, 5, 0, 25), (None, Status.EMPTY)),
        ("variance", (2, 2**32, 1, 0), (2.0**63, Status.PRESENT)),  # 0 and 2^32
        ("stddev", (2, 6, 0, 26), (8**0.5, Status.PRESENT)),  # 1 and 5
        ("last_n", ([1, 2, 3],), ([3], Status.PRESENT)),
        ("last_n", (None,), ([], Status.EMPTY)),
        ("count_distinct", (None,), (0, Status.EMPTY)),
    ],
)
def test_parts_are_finished_as_the_declaration_says(aggregate, parts, answer):
    assert operand(feature_of(aggregate), "BIGINT").finish(parts) == answer
