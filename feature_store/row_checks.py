"""Which rows surely satisfy a Pandera model, told from Arrow columns alone.

Pandera costs milliseconds a call, whatever the number of rows. A row that passes here passes there too; about the
others, and about all rows of a model that has checks of its own, nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa_pandas

Test = Callable[[pa.ChunkedArray], pa.ChunkedArray]
"""Column -> which of its values pass; null where the value is null."""

_EXACT = 2**53
"""Integers up to here are the same as floats."""


@dataclass(frozen=True, slots=True)
class ColumnRule:
    """What one column must be."""

    nullable: bool
    tests: tuple[Test, ...]


@dataclass(frozen=True, slots=True)
class RowRule:
    """What each column must be; rows do not depend on each other."""

    columns: Mapping[str, ColumnRule]

    def passing(self, table: pa.Table) -> pa.ChunkedArray | None:
        """Which rows surely satisfy the model; None: all of them."""
        failed: list[pa.ChunkedArray] = []
        for name, rule in self.columns.items():
            column = _without_nan(table.column(name))
            if not rule.nullable and column.null_count:
                failed.append(pc.is_null(column))
            for test in rule.tests:
                passed = test(column)
                if pc.all(passed).as_py() is False:
                    failed.append(pc.fill_null(pc.invert(passed), fill_value=False))
        if not failed:
            return None
        bad = failed[0]
        for more in failed[1:]:
            bad = pc.or_(bad, more)
        return pc.invert(bad)


@lru_cache(maxsize=256)
def row_rule(
    model: type[pa_pandas.DataFrameModel],
    schema: pa.Schema,
    to_frame: Callable[[type[pa_pandas.DataFrameModel], pa.Table], pd.DataFrame],
) -> RowRule | None:
    """The model as rules on columns of this Arrow schema; None if it holds anything that is not understood here.

    Args:
        model: the Pandera model.
        schema: of the tables that will be asked about.
        to_frame: how they are handed to Pandera; says whether it takes the types.
    """
    import pandera.errors

    frame_schema = model.to_schema()
    if _has_more_than_columns(model, frame_schema) or set(frame_schema.columns) != set(schema.names):
        return None
    try:
        model.validate(to_frame(model, schema.empty_table()))
    except pandera.errors.SchemaError:
        return None
    rules = {name: _column_rule(column, schema.field(name).type) for name, column in frame_schema.columns.items()}
    understood = {name: rule for name, rule in rules.items() if rule is not None}
    return RowRule(understood) if len(understood) == len(rules) else None


def _has_more_than_columns(model: type[pa_pandas.DataFrameModel], schema: pa_pandas.DataFrameSchema) -> bool:
    import pandera.pandas as pa_pandas

    own = getattr(model.validate, "__func__", None) is not getattr(
        pa_pandas.DataFrameModel.validate, "__func__", model.validate
    )
    options = (schema.checks, schema.parsers, schema.index, schema.dtype, schema.coerce, schema.unique)
    more = (schema.ordered, schema.drop_invalid_rows, schema.add_missing_columns)
    return own or any(options) or any(more)


def _column_rule(column: pa_pandas.Column, kind: pa.DataType) -> ColumnRule | None:
    plain = not (column.unique or column.coerce or column.parsers or column.regex or column.drop_invalid_rows)
    if not plain or not column.required or not _holds_only_its_type(kind):
        return None
    tests = [_test_of(check, kind) for check in column.checks or ()]
    understood = tuple(test for test in tests if test is not None)
    return ColumnRule(bool(column.nullable), understood) if len(understood) == len(tests) else None


def _holds_only_its_type(kind: pa.DataType) -> bool:
    """Types that Pandera judges by the column. It looks into decimals and dates one by one, so they are left to it."""
    types = pa.types
    return any(is_a(kind) for is_a in (types.is_string, types.is_boolean, types.is_integer, types.is_floating)) or (
        types.is_timestamp(kind) and kind.tz is not None
    )


def _test_of(check: object, kind: pa.DataType) -> Test | None:
    """A built-in check of Pandera as a function of an Arrow column, if it means the same there."""
    from pandera.api.function_dispatch import Dispatcher

    function = getattr(check, "_check_fn", None)
    options = {"ignore_na": True, "element_wise": False, "groupby": None, "raise_warning": False}
    if not isinstance(function, Dispatcher) or any(getattr(check, n, None) != v for n, v in options.items()):
        return None
    given: Mapping[str, object] = getattr(check, "_check_kwargs", {})
    name = str(function)
    if pa.types.is_string(kind):
        return _text_test(name, given)
    if name == "in_range":
        low = _compare("greater_than_or_equal_to" if given["include_min"] else "greater_than", given["min_value"], kind)
        high = _compare("less_than_or_equal_to" if given["include_max"] else "less_than", given["max_value"], kind)
        return None if low is None or high is None else lambda column: pc.and_(low(column), high(column))
    return _compare(name, next(iter(given.values())), kind) if len(given) == 1 else None


_COMPARISONS: Mapping[str, Callable[[pa.ChunkedArray, pa.Scalar], pa.ChunkedArray]] = {
    "equal_to": pc.equal,
    "not_equal_to": pc.not_equal,
    "greater_than": pc.greater,
    "greater_than_or_equal_to": pc.greater_equal,
    "less_than": pc.less,
    "less_than_or_equal_to": pc.less_equal,
}


def _compare(name: str, bound: object, kind: pa.DataType) -> Test | None:
    compare = _COMPARISONS.get(name)
    whole = pa.types.is_integer(kind) and kind != pa.uint64() and type(bound) is int
    real = kind == pa.float64() and type(bound) in (int, float)
    if compare is None or not (whole or real) or not -_EXACT <= float(str(bound)) <= _EXACT:
        return None
    limit = pa.scalar(bound, type=pa.int64() if whole else pa.float64())
    return lambda column: compare(column, limit)


def _text_test(name: str, given: Mapping[str, object]) -> Test | None:
    match name:
        case "isin":
            return _among(given["allowed_values"], wanted=True)
        case "notin":
            return _among(given["forbidden_values"], wanted=False)
        case "str_length":
            return _length(given.get("min_value"), given.get("max_value"), given.get("exact_value"))
        case "str_matches":
            return _matching(given["pattern"])
    return None


def _among(values: object, *, wanted: bool) -> Test | None:
    listed = list(values) if isinstance(values, list | tuple | set | frozenset) else []
    texts = [value for value in listed if isinstance(value, str)]
    if not listed or len(texts) < len(listed):
        return None
    known = pa.array(texts, type=pa.string())

    def test(column: pa.ChunkedArray) -> pa.ChunkedArray:
        found = pc.is_in(column, value_set=known)
        return pc.if_else(pc.is_valid(column), found if wanted else pc.invert(found), None)

    return test


def _length(least: object, most: object, exact: object) -> Test | None:
    if exact is not None or not all(bound is None or type(bound) is int for bound in (least, most)):
        return None
    bounds = [(pc.greater_equal, least), (pc.less_equal, most)]

    def test(column: pa.ChunkedArray) -> pa.ChunkedArray:
        length = pc.utf8_length(column)
        passed = pc.is_valid(column)
        for compare, bound in bounds:
            if bound is not None:
                passed = pc.and_kleene(passed, compare(length, pa.scalar(bound, type=pa.int32())))
        return passed if column.null_count == 0 else pc.if_else(pc.is_valid(column), passed, None)

    return test


def _matching(pattern: object) -> Test | None:
    if not isinstance(pattern, str):
        return None
    match = lru_cache(maxsize=10_000)(re.compile(pattern).match)

    def test(column: pa.ChunkedArray) -> pa.ChunkedArray:
        found = [None if text is None else match(text) is not None for text in column.to_pylist()]
        return pa.chunked_array([pa.array(found, type=pa.bool_())])

    return test


def _without_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """NaN is null to Pandera."""
    if not pa.types.is_floating(column.type):
        return column
    nan = pc.is_nan(column)
    return pc.if_else(nan, None, column) if pc.any(nan).as_py() else column
