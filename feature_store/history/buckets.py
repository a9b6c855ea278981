"""Events divided by entity: one pass over the lake writes them to files, of which each fits in memory.

A bucket needs neither lake nor declarations any more, so any process that sees the files can compute it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.duck import in_memory, literal

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    import pyarrow as pa

BUCKET = "_bucket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Rows of some entities, and how they are read."""

    files: tuple[Path, ...]
    """Of this bucket alone; none where there are no rows."""
    schema: pa.Schema
    order: str
    """SQL that the rows are sorted by."""
    memory_mb: int | None

    def rows(self) -> pa.Table:
        """All rows, sorted.

        Raises:
            FileNotFoundError: this process does not see a file.
        """
        if not self.files:
            return self.schema.empty_table()
        for file in self.files:
            file.stat()
        connection = in_memory(threads=1, memory_mb=self.memory_mb, spill=self.files[0].parent / "spill")
        try:
            listed = ", ".join(literal(str(file)) for file in self.files)
            columns = ", ".join(f'"{name}"' for name in self.schema.names)
            return connection.execute(
                f"SELECT {columns} FROM read_parquet([{listed}], hive_partitioning => false) ORDER BY {self.order}"
            ).to_arrow_table()
        finally:
            connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Divided:
    """What a query returned, in buckets."""

    buckets: tuple[Bucket, ...]
    rows: int


def divide(
    cursor: duckdb.DuckDBPyConnection,
    query: str,
    *,
    by: str,
    count: int,
    order: str,
    folder: Path,
    memory_mb: int | None,
) -> Divided:
    """Write the rows of a query to files, a folder per bucket.

    Args:
        cursor: where the query finds its tables.
        query: the rows, each with its entity.
        by: SQL, an integer from 0 that is the same for all rows of an entity; modulo `count` it is the bucket.
        count: how many buckets.
        order: SQL that a bucket's rows are read in the order of.
        folder: exists; the caller removes it.
        memory_mb: for sorting one bucket.
    """
    schema = cursor.execute(f"SELECT * FROM ({query}) LIMIT 0").to_arrow_table().schema
    copied = cursor.execute(
        f"COPY (SELECT *, ({by}) % {count} AS {BUCKET} FROM ({query})) TO {literal(str(folder / 'events'))} "
        f"(FORMAT parquet, PARTITION_BY ({BUCKET}))"
    ).fetchone()
    folders = [folder / "events" / f"{BUCKET}={number}" for number in range(count)]
    buckets = (
        Bucket(files=tuple(sorted(one.glob("*.parquet"))), schema=schema, order=order, memory_mb=memory_mb)
        for one in folders
    )
    return Divided(buckets=tuple(buckets), rows=int(copied[0]) if copied else 0)
