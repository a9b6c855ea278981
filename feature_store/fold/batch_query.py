"""One SQL query over many micro-batches: planned once, because planning costs more than running it on a few rows."""

from __future__ import annotations

import pyarrow as pa

from feature_store.duck import scratch


class BatchQuery:
    """A query over the relation `batch`, run on one Arrow table after the other. For one thread."""

    def __init__(self, sql: str) -> None:
        """`sql` reads from `batch`; rows come out in the order in which they went in."""
        self._sql = sql
        self._connection = scratch(threads=1)
        self._batch = _Batch()
        self._schema: pa.Schema | None = None

    def run(self, batch: pa.Table) -> pa.Table:
        """The query's result over the rows of one batch."""
        self._batch.table = batch
        if batch.schema != self._schema:
            self._prepare(batch.schema)
        try:
            return self._connection.execute("EXECUTE query").to_arrow_table()
        finally:
            self._batch.table = batch.schema.empty_table()

    def _prepare(self, schema: pa.Schema) -> None:
        if self._schema is not None:
            self._connection.execute("DEALLOCATE query")
        self._connection.register("batch", self._batch)
        self._connection.execute(f"PREPARE query AS {self._sql}")
        self._schema = schema


class _Batch:
    """Stands for the batch in DuckDB, which asks it for its rows at each run (the Arrow PyCapsule interface)."""

    table: pa.Table

    def __arrow_c_schema__(self) -> object:
        return self.table.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)
