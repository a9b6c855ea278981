"""The second opinion knows every aggregate, stands on its own, and disagrees where it should."""

import ast
import inspect

import pyarrow as pa
import pytest
from proof_world import SERVICE, World, lived

from feature_store.declare import Feature
from feature_store.errors import InputError
from feature_store.proof import operands, oracle
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
