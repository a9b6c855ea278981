"""One declaration, two paths, the same numbers: batch == stream == reference, bit for bit, over random scenarios."""

import struct

import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from strategies import arrow_events, declared, entity_of, expected, scenarios

from feature_store.transforms.catalogue import Status
from feature_store.transforms.evaluate import evaluate
from feature_store.transforms.expressions import Expressions
from feature_store.transforms.families import History, event_rows
from feature_store.transforms.plan import compile_view
from feature_store.transforms.project import KEY, project_sql

FEW_HUNDRED = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def connection():
    import duckdb

    with duckdb.connect(":memory:", config={"threads": 1}) as opened:
        yield opened


@pytest.fixture(scope="module")
def expressions():
    from strategies import event_source

    from feature_store.schema import arrow_schema

    return Expressions(arrow_schema(event_source()))


def bits(value):
    """A value in which equal means equal to the last bit, and 1, 1.0 and True differ."""
    if isinstance(value, float):
        return "float", struct.pack("<d", value)
    if isinstance(value, list | tuple):
        return "list", [bits(item) for item in value]
    return type(value).__name__, value


def plain(value):
    """A NumPy scalar as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def answers(values, statuses):
    """Values and statuses of one feature as the reference would give them; only those that count."""
    found = []
    for value, status in zip(values, statuses, strict=True):
        name = Status(int(status)).name
        found.append((bits(plain(value)) if name == "PRESENT" else None, name))
    return found


def wanted(table, position):
    return [(bits(row[position][0]) if row[position][1] == "PRESENT" else None, row[position][1]) for row in table]


def offline(scenario, connection, expressions):
    """Feature name -> Values over the scenario's spine, computed as a training set is."""
    view = declared(scenario.view)
    plan = compile_view(view, expressions)
    kept = reference.deduplicate(scenario.events)[0]
    events = arrow_events(kept)  # noqa: F841 - DuckDB finds it by name
    projected = connection.execute(project_sql(plan, "SELECT * FROM events")).to_arrow_table()
    numbers = {}
    entity = [numbers.setdefault(key, len(numbers)) for key in projected.column(KEY).to_pylist()]
    rows = event_rows(plan, projected, np.array(entity, dtype=np.int64))
    asked = [numbers.get(entity_of(scenario.view, row), -1) for row in scenario.spine]
    times = [row["t_us"] for row in scenario.spine]
    return evaluate(plan, History(rows), np.array(asked, dtype=np.int64), time_us=np.array(times, dtype=np.int64))


@FEW_HUNDRED
@given(scenario=scenarios())
def test_a_training_row_is_what_the_reference_says(scenario, connection, expressions):
    table = expected(scenario)

    found = offline(scenario, connection, expressions)

    for position, feature in enumerate(scenario.view.features):
        values = found[feature["name"]]
        assert answers(values.values, values.status) == wanted(table, position), feature
