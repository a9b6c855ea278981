"""Rows told good from Arrow columns are those that Pandera finds good."""

import math
from typing import Annotated

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.row_checks import row_rule
from feature_store.schema import _judge, _to_frame, check_rows


class Reading(pandera.DataFrameModel):
    name: str = pandera.Field(str_length={"min_value": 1, "max_value": 3})
    kind: str = pandera.Field(isin=["a", "b"], nullable=True)
    code: str = pandera.Field(str_matches=r"^[a-z]$", nullable=True, notin=["z"])
    at: Annotated[pd.DatetimeTZDtype, "us", "UTC"]
    level: pd.Int64Dtype = pandera.Field(ge=-1, lt=100, ne=7, nullable=True)
    count: pd.Int64Dtype = pandera.Field(gt=0)
    heat: float = pandera.Field(nullable=True, in_range={"min_value": -1, "max_value": 2.5, "include_max": False})
    load: float = pandera.Field(le=1)
    flag: pd.BooleanDtype = pandera.Field(nullable=True)


SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("kind", pa.string()),
        ("code", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("level", pa.int64()),
        ("count", pa.int64()),
        ("heat", pa.float64()),
        ("load", pa.float64()),
        ("flag", pa.bool_()),
    ]
)

texts = st.sampled_from([None, "", "a", "b", "abc", "abcd", "ä\u0308x", "\U0001f600" * 3, "a\n", "z", "A"])
floats = st.sampled_from([None, math.nan, math.inf, -math.inf, -1.0, 2.5, 2.4, 1.0, 1.0000001, -0.0, 5e-324])
integers = st.sampled_from([None, -2, -1, 0, 1, 7, 99, 100, 2**63 - 1, -(2**63)])
rows = st.fixed_dictionaries(
    {
        **dict.fromkeys(("name", "kind", "code"), texts),
        "at": st.sampled_from([None, 0, 1_700_000_000_000_000]),
        **dict.fromkeys(("level", "count"), integers),
        **dict.fromkeys(("heat", "load"), floats),
        "flag": st.sampled_from([None, True, False]),
    }
)


def table_of(drawn):
    columns = {f.name: pa.array([row[f.name] for row in drawn], type=f.type) for f in SCHEMA}
    return pa.table(columns, schema=SCHEMA)


@pytest.mark.filterwarnings("ignore:The behavior of DataFrame concatenation:FutureWarning")  # inside Pandera
@settings(max_examples=40)
@given(drawn=st.lists(rows, max_size=12))
def test_the_short_way_says_what_pandera_says(drawn):
    table = table_of(drawn)
    assert row_rule(Reading, SCHEMA, _to_frame) is not None

    found, wanted = check_rows(Reading, table), _judge(Reading, table)

    assert [row for row, _ in found.rejected] == [row for row, _ in wanted.rejected]
    assert found.rejected == wanted.rejected
    assert str(found.good.to_pylist()) == str(wanted.good.to_pylist())  # NaN is not itself


class WithItsOwnCheck(pandera.DataFrameModel):
    a: float

    @pandera.check("a")
    def below_the_mean(cls, values: pd.Series) -> pd.Series:  # noqa: N805
        return values <= values.mean()


class WithACheckOfRows(pandera.DataFrameModel):
    a: float
    b: float

    @pandera.dataframe_check
    def grows(cls, frame: pd.DataFrame) -> pd.Series:  # noqa: N805
        return frame["a"] <= frame["b"]


class Unique(pandera.DataFrameModel):
    a: str = pandera.Field(unique=True)


class WithABorrowedName(pandera.DataFrameModel):
    a: float

    @pandera.check("a", name="less_than")
    def odd(cls, values: pd.Series) -> pd.Series:  # noqa: N805
        return values % 2 == 1


@pytest.mark.parametrize("model", [WithItsOwnCheck, WithACheckOfRows, Unique, WithABorrowedName])
def test_a_model_that_says_more_than_built_in_checks_is_left_to_pandera(model):
    kinds = {"str": pa.string(), "float64": pa.float64()}
    schema = pa.schema([(name, kinds[str(c.dtype)]) for name, c in model.to_schema().columns.items()])

    assert row_rule(model, schema, _to_frame) is None


def test_a_custom_check_still_rejects_rows():
    table = pa.table({"a": [1.0, 2.0, 3.0]})

    assert [row for row, _ in check_rows(WithItsOwnCheck, table).rejected] == [2]


def test_the_flights_are_checked_the_short_way():
    from feature_store.schema import arrow_schema
    from features import declarations

    for source in (declarations.departures, declarations.arrivals, declarations.cancellations, declarations.weather):
        assert row_rule(source.schema, arrow_schema(source), _to_frame) is not None


def test_plain_booleans_are_taken_and_a_null_among_them_costs_its_row():
    class Switch(pandera.DataFrameModel):
        name: str
        on: bool
        level: int = pandera.Field(ge=0)

    schema = pa.schema([("name", pa.string()), ("on", pa.bool_()), ("level", pa.int64())])
    rows = [("a", True, 1), ("b", None, 2), ("c", False, -1), ("d", False, 0)]
    table = pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)

    checked = check_rows(Switch, table)

    assert checked.good.column("name").to_pylist() == ["a", "d"]
    assert checked.rejected == [
        (1, "column 'on': not_nullable, got null"),
        (2, "column 'level': greater_than_or_equal_to(0), got -1"),
    ]
