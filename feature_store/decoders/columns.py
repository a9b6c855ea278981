"""Values that a library decoded, as Arrow columns. What a column cannot hold rejects its row alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from feature_store.decoders.paths import Path, dotted
from feature_store.decoders.protocol import ROW, UNKNOWN, Decoded, Rejected

if TYPE_CHECKING:
    import pyarrow as pa

# What a value can do to Arrow; its own errors are of these.
_BAD_VALUE = (ValueError, TypeError, OverflowError)


def arrow_family(kind: pa.DataType) -> str:
    """What a column of this type holds, in one word; empty for what no payload can carry."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        return arrow_family(kind.value_type)
    if types.is_timestamp(kind):
        return "time" if kind.tz is not None else "local time"
    for matches, family in (
        (types.is_integer, "integer"),
        (types.is_floating, "float"),
        (types.is_boolean, "boolean"),
        (types.is_string, "string"),
        (types.is_large_string, "string"),
        (types.is_decimal, "decimal"),
        (types.is_date, "date"),
        (types.is_time, "time of day"),
        (types.is_binary, "binary"),
        (types.is_large_binary, "binary"),
        (types.is_fixed_size_binary, "binary"),
        (types.is_list, "list"),
        (types.is_large_list, "list"),
    ):
        if matches(kind):
            return family
    return ""


def decoded(
    columns: Sequence[Sequence[object]],
    kept: Sequence[int],
    *,
    schema: pa.Schema,
    paths: Sequence[Path],
    rejected: Sequence[Rejected],
) -> Decoded:
    """The table of some payloads.

    Args:
        columns: for each column of `schema` one value for each of `kept`.
        kept: the indices of the payloads that were read.
        schema: the columns.
        paths: where in the payload each column comes from, for the reasons.
        rejected: the payloads that could not be read.
    """
    try:
        return Decoded(table=_table(columns, kept, schema), rejected=sorted(rejected))
    except _BAD_VALUE:
        unfit = _unfit(columns, schema, paths)
    fit = [n for n in range(len(kept)) if n not in unfit]
    table = _table([[values[n] for n in fit] for values in columns], [kept[n] for n in fit], schema)
    more = [Rejected(kept[n], reason) for n, reason in unfit.items()]
    return Decoded(table=table, rejected=sorted([*rejected, *more]))


def merged(parts: Sequence[Decoded], schema: pa.Schema, *, rejected: Sequence[Rejected]) -> Decoded:
    """Groups of the same payloads as one, in the payloads' order; `rejected` are those of no group."""
    import pyarrow as pa

    everything = sorted([*rejected, *(one for part in parts for one in part.rejected)])
    if len(parts) == 1:
        return Decoded(table=parts[0].table, rejected=everything)
    table = pa.concat_tables([_full(schema).empty_table(), *(part.table for part in parts)])
    return Decoded(table=table.sort_by(ROW).combine_chunks(), rejected=everything)


def with_unknown(found: Decoded, rests: Mapping[int, bytes | None]) -> Decoded:
    """What was decoded with the column `_unknown`: of each payload by its index what no column came from, as JSON, or null."""
    import pyarrow as pa

    texts = [rest.decode() if (rest := rests[row]) is not None else None for row in found.table.column(ROW).to_pylist()]
    return Decoded(table=found.table.append_column(UNKNOWN, pa.array(texts, pa.string())), rejected=found.rejected)


def _full(schema: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    return schema.append(pa.field(ROW, pa.int64(), nullable=False))


def _table(columns: Sequence[Sequence[object]], kept: Sequence[int], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    full = _full(schema)
    arrays = [_array(values, field) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays([*arrays, pa.array(kept, full.field(ROW).type)], schema=full)


def _array(values: Sequence[object], field: pa.Field) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    array = pa.array(values, field.type)
    if not field.nullable and array.null_count:
        raise ValueError("must not be null")
    if pa.types.is_float32(field.type) and pc.any(pc.is_inf(array)).as_py():
        for value, narrow in zip(values, array.to_pylist(), strict=True):
            if isinstance(value, float) and math.isinf(narrow) and not math.isinf(value):
                raise ValueError(f"{value!r} is too large for a float of 32 bits")
    return array


def _unfit(columns: Sequence[Sequence[object]], schema: pa.Schema, paths: Sequence[Path]) -> dict[int, str]:
    """The rows with a value that its column cannot hold, each with the reason."""
    reasons: dict[int, str] = {}
    for values, field, path in zip(columns, schema, paths, strict=True):
        for index, value in enumerate(values):
            try:
                _array([value], field)
            except _BAD_VALUE as error:
                reasons.setdefault(index, f"{error} - at `$.{dotted(path)}`")
    return reasons
