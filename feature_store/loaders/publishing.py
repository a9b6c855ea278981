"""A file of events to publish: read whole, or refused at its first bad cell."""

from __future__ import annotations

import glob as globbing
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.errors import InputError
from feature_store.loaders.files import csv, parquet

if TYPE_CHECKING:
    import pyarrow as pa

_ZONE = r"(Z|UTC|[+-]\d\d(:?\d\d)?)$"


def read_file(path: Path, schema: pa.Schema) -> pa.Table:
    """The rows of a `.parquet` or `.csv` file to publish; cells of a CSV become the types of `schema`.

    Columns that the schema does not know come as they are.

    Raises:
        InputError: another kind of file, or one that cannot be read; for a CSV, the first cell that does not fit, and
            a time without a zone.
    """
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"'{path}' must be a .parquet or .csv file")
    if path.suffix == ".parquet":
        return parquet(globbing.escape(str(path))).read()
    rows = csv(globbing.escape(str(path))).read()
    for position, name in enumerate(rows.schema.names):
        if name in schema.names:
            rows = rows.set_column(position, name, _typed(rows.column(name), schema.field(name), path))
    return rows


def _typed(cells: pa.ChunkedArray, field: pa.Field, path: Path) -> pa.ChunkedArray:
    import pyarrow as pa

    from feature_store.duck import in_memory

    is_time = pa.types.is_timestamp(field.type)
    with in_memory() as connection:
        connection.register("cells", pa.table({"cell": cells, "n": range(len(cells))}))
        connection.register("wanted", pa.schema([field.with_name("value")]).empty_table())
        kind = connection.execute("DESCRIBE SELECT value FROM wanted").fetchall()[0][1]
        zone = f"OR NOT regexp_matches(cell, '{_ZONE}')" if is_time else ""
        typed = f"SELECT n, cell, TRY_CAST(cell AS {kind}) AS value FROM cells"
        bad = connection.execute(
            f"SELECT n, cell FROM ({typed}) WHERE cell IS NOT NULL AND (value IS NULL {zone}) ORDER BY n LIMIT 1"
        ).fetchone()
        if bad is not None:
            rule = "a time with a zone" if is_time else str(field.type)
            raise InputError(f"'{path}', row {bad[0] + 1}, column '{field.name}': {bad[1]!r} is not {rule}")
        return connection.execute(f"SELECT value FROM ({typed}) ORDER BY n").to_arrow_table().column(0).cast(field.type)
