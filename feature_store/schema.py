"""A source's Pandera model as Arrow types, and rows divided into good and rejected by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.errors import DeclarationError
from feature_store.long_keys import Keys, too_long
from feature_store.row_checks import row_rule
from feature_store.time_rule import EARLIEST_US, LATEST_US

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa_pandas

    from feature_store.declare.key import KeyKind
    from feature_store.declare.source import EventSource

_TYPES = {
    "string": pa.string(),
    "string[python]": pa.string(),
    "string[pyarrow]": pa.string(),
    "str": pa.string(),
    "object": pa.string(),
    "bool": pa.bool_(),
    "boolean": pa.bool_(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "date": pa.date32(),
    "binary[pyarrow]": pa.binary(),
    **{f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


DEFAULT = b"default"
"""Metadata of an Arrow field: the text of what stands where an event has no value."""


UNKNOWN = b"unknown"
"""Metadata of an Arrow schema whose events keep what their payload had beside the columns."""


PATH = b"path"
"""Metadata of an Arrow field: where in the payload it comes from, if that is not its own name."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Rows that fit, and those that do not with the reason: (row number, reason)."""

    good: pa.Table
    rejected: Sequence[tuple[int, str]]


def arrow_schema(source: EventSource) -> pa.Schema:
    """The Arrow schema of a source's columns; times are microseconds UTC.

    A column with a default may be missing in an event, so it is nullable here until `with_defaults` has filled it.

    Raises:
        DeclarationError: naming each column whose name has quotation marks, whose type has no equivalent, or whose default
            is no value of it.
    """
    fields, problems = [], []
    for name, column in source.schema.to_schema().columns.items():
        try:
            field = pa.field(_checked_name(name), _arrow_type(str(column.dtype)), nullable=bool(column.nullable))
            own = name in (source.event_time, *source.id_columns)
            fields.append(field if column.default is None else _with_default(field, column.default, own=own))
        except ValueError as error:
            problems.append(f"source '{source.name}', column '{name}': {error}")
    if problems:
        raise DeclarationError(problems)
    inside = dict(getattr(innermost(source.decode), "fields", ()))
    fields = [
        each.with_metadata({**(each.metadata or {}), PATH: inside[each.name].encode()}) if each.name in inside else each
        for each in fields
    ]
    return pa.schema(
        fields,
        metadata={UNKNOWN: b"keep"} if getattr(innermost(source.decode), "unknown_fields", "") == "keep" else None,
    )


def _checked_name(name: str) -> str:
    if not name.isprintable() or '"' in name:
        raise ValueError("a name must be printable and without quotation marks")
    return name


def _with_default(field: pa.Field, default: object, *, own: bool) -> pa.Field:
    if own:
        raise ValueError("an event has its own time and id, so there is no default for them")
    if pa.types.is_binary(field.type):
        raise ValueError("bytes have no default")
    try:
        text = pa.scalar(default, type=field.type).cast(pa.string()).as_py()
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError) as error:
        raise ValueError(f"the default must be a value of {field.type}, got {default!r}") from error
    return field.with_nullable(True).with_metadata({DEFAULT: text.encode()})


def default_of(field: pa.Field) -> str | None:
    """The text of a column's default, as Arrow and DuckDB cast it; None if it has none."""
    text = (field.metadata or {}).get(DEFAULT)
    return None if text is None else text.decode()


def path_of(field: pa.Field) -> list[str]:
    """Where in a payload a column comes from, step by step."""
    path = (field.metadata or {}).get(PATH)
    return [field.name] if path is None else path.decode().split(".")


def innermost(decoder: object) -> object:
    """The decoder that reads what others have unpacked."""
    inner = getattr(decoder, "decoder", None)
    return decoder if inner is None else innermost(inner)


def with_defaults(schema: pa.Schema, table: pa.Table) -> pa.Table:
    """A table with `schema`'s columns among its own; a null becomes the default of its column, if that has one.

    The one place where events get their defaults: loaded, archived and folded ones alike.
    """
    for field in schema:
        default = default_of(field)
        if default is not None and table.column(field.name).null_count:
            value = pa.scalar(default, type=pa.string()).cast(field.type)
            filled = pc.fill_null(table.column(field.name), value)
            number = table.schema.get_field_index(field.name)
            table = table.set_column(number, table.schema.field(number), filled)
    return table


def _arrow_type(dtype: str) -> pa.DataType:
    name = dtype.lower()
    if name in _TYPES:
        return _TYPES[name]
    if name.startswith("datetime64") and "," in name:
        return pa.timestamp("us", tz="UTC")
    if name.startswith("decimal"):
        precision, scale = name.removeprefix("decimal(").rstrip(")").split(",")
        return pa.decimal128(int(precision), int(scale))
    hint = "; use a datetime with a time zone" if name.startswith("datetime64") else ""
    raise ValueError(f"the type {dtype} cannot be stored{hint}")


def key_kind(kind: pa.DataType) -> KeyKind:
    """What a column is as a join key.

    Raises:
        ValueError: its values have no canonical text.
    """
    kinds: list[tuple[Callable[[pa.DataType], bool], KeyKind]] = [
        (pa.types.is_string, "str"),
        (pa.types.is_integer, "int"),
        (pa.types.is_boolean, "bool"),
        (pa.types.is_date, "date"),
        (pa.types.is_binary, "bytes"),
    ]
    for is_a, found in kinds:
        if is_a(kind):
            return found
    raise ValueError(f"must be an integer, text, a boolean, a date or bytes, but is {kind}, which has no one text")


def check_rows(schema: type[pa_pandas.DataFrameModel], table: pa.Table, *, keys: Keys = ()) -> Checked:
    """Divide a table with the source's columns by its model (types, nullability, ranges, custom checks) and by its keys.

    The good rows come back in their order, with the table's own Arrow types.
    """
    outside = {**too_long(table, keys), **_outside(table)}
    if outside:
        numbers = [row for row in range(table.num_rows) if row not in outside]
        return _with_rejected(check_rows(schema, table.take(pa.array(numbers, type=pa.int64()))), numbers, outside)
    rule = row_rule(schema, table.schema, _to_frame)
    if rule is None:
        return _judge(schema, table)
    passing = rule.passing(table)
    if passing is None:
        return Checked(table, [])
    doubtful = np.flatnonzero(~passing.to_numpy(zero_copy_only=False))
    judged = _judge(schema, table.take(doubtful)).rejected
    if not judged:
        return Checked(table, [])
    rejected = [(int(doubtful[row]), reason) for row, reason in judged]
    kept = np.ones(table.num_rows, dtype=bool)
    kept[[row for row, _ in rejected]] = False
    return Checked(table.filter(pa.array(kept)), rejected)


_YEARS = {
    "timestamp": (EARLIEST_US, LATEST_US),
    "date32": ((date.min - date(1970, 1, 1)).days, (date.max - date(1970, 1, 1)).days),
}


def _outside(table: pa.Table) -> dict[int, str]:
    """Rows with a time or a date that Python does not have, and why they are none: whatever reads them would fail."""
    found: dict[int, str] = {}
    for field in table.schema:
        first, last = _YEARS.get(str(field.type).partition("[")[0], (0, -1))
        if first > last:
            continue
        column = table.column(field.name).cast(pa.int32() if pa.types.is_date(field.type) else pa.int64())
        bounds = pc.min_max(column).as_py()
        if bounds["min"] is not None and not first <= bounds["min"] <= bounds["max"] <= last:
            wrong = pc.or_(pc.less(column, first), pc.greater(column, last)).fill_null(False)
            reason = f"column '{field.name}': must lie in the years 1 to 9999, UTC"
            found |= dict.fromkeys(np.flatnonzero(wrong.to_numpy()).tolist(), reason)
    return found


def _with_rejected(checked: Checked, numbers: Sequence[int], rejected: Mapping[int, str]) -> Checked:
    """What was found of some rows by the numbers that they have among all, with others that are rejected."""
    return Checked(checked.good, sorted([*rejected.items(), *((numbers[row], why) for row, why in checked.rejected)]))


def _judge(schema: type[pa_pandas.DataFrameModel], table: pa.Table) -> Checked:
    """What Pandera says. It has no place for a null in a column of plain booleans, so such rows are judged here."""
    lacking = {
        row: f"column '{name}': not_nullable, got null"
        for name in _plain_booleans(schema)
        for row in np.flatnonzero(table.column(name).is_null().to_numpy()).tolist()
    }
    if not lacking:
        return _judge_frame(schema, table)
    numbers = [row for row in range(table.num_rows) if row not in lacking]
    return _with_rejected(_judge_frame(schema, table.take(pa.array(numbers, type=pa.int64()))), numbers, lacking)


def _judge_frame(schema: type[pa_pandas.DataFrameModel], table: pa.Table) -> Checked:
    import pandera.errors

    try:
        schema.validate(_to_frame(schema, table), lazy=True)
    except pandera.errors.SchemaErrors as errors:
        return _divide(table, errors.failure_cases)
    return Checked(table, [])


def _to_frame(schema: type[pa_pandas.DataFrameModel], table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(types_mapper=_pandas_type, date_as_object=True)
    return frame.astype(dict.fromkeys(_plain_booleans(schema), "bool"))


@lru_cache(maxsize=256)
def _plain_booleans(schema: type[pa_pandas.DataFrameModel]) -> tuple[str, ...]:
    """The columns that are NumPy's booleans for Pandera, not pandas' nullable ones."""
    return tuple(name for name, column in schema.to_schema().columns.items() if str(column.dtype) == "bool")


def _divide(table: pa.Table, cases: pd.DataFrame) -> Checked:
    whole = cases[cases["index"].isna()]
    if len(whole):
        reason = "; ".join(_reason(case) for case in whole.to_dict("records"))
        return Checked(table.slice(0, 0), [(row, reason) for row in range(table.num_rows)])
    reasons: dict[int, str] = {}
    for case in cases.to_dict("records"):
        row = int(case["index"])
        reasons[row] = f"{reasons[row]}; {_reason(case)}" if row in reasons else _reason(case)
    mask = [row not in reasons for row in range(table.num_rows)]
    return Checked(table.filter(pa.array(mask)), sorted(reasons.items()))


def _reason(case: dict[object, object]) -> str:
    value = case["failure_case"]
    missing = value is None or value != value  # noqa: PLR0124 - NaN
    return f"column '{case['column']}': {case['check']}, got {'null' if missing else repr(value)}"


def _pandas_type(arrow_type: pa.DataType) -> object:
    """Pandas types that keep nulls apart from values: nullable integers and booleans."""
    import pandas as pd

    nullable = {
        **{getattr(pa, f"int{b}")(): getattr(pd, f"Int{b}Dtype")() for b in (8, 16, 32, 64)},
        **{getattr(pa, f"uint{b}")(): getattr(pd, f"UInt{b}Dtype")() for b in (8, 16, 32, 64)},
        pa.bool_(): pd.BooleanDtype(),
        pa.binary(): pd.ArrowDtype(pa.binary()),
    }
    return nullable.get(arrow_type)
