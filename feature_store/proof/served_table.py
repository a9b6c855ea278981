"""The lake's table of served vectors: records of all services, each vector once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.lake.connection import quote
from feature_store.proof.layout import conform, served_layout, served_layout_of
from feature_store.proof.served_log import SERVICE, VECTOR

if TYPE_CHECKING:
    from feature_store.lake import Commit, Lake
    from feature_store.transforms.compiled import Compiled

SERVED_TABLE = "served_vectors"


def append_served(compiled: Compiled, lake: Lake, served: pa.Table) -> Commit | None:
    """Append a record of one service (`ServedLog.table`); vectors whose ids the lake has already are left out.

    Returns None if there was nothing new.

    Raises:
        InputError: the record is of several services or lacks a column.
        LakeError: a column has another type in the lake, or the lake cannot be written.
    """
    record = conform(served_layout_of(compiled, served), served)
    if lake.exists(SERVED_TABLE):
        with lake.cursor() as cursor:
            cursor.register("record", record)
            table = lake.table_sql(SERVED_TABLE)
            record = cursor.execute(
                f"SELECT r.* FROM record AS r ANTI JOIN (SELECT {VECTOR} FROM {table}) USING ({VECTOR})"
            ).to_arrow_table()
    return lake.append(SERVED_TABLE, record) if record.num_rows else None


def read_served(compiled: Compiled, lake: Lake, service: str, *, where: str = "TRUE") -> pa.Table:
    """The record of a service that the lake holds; `where` is SQL over its columns.

    Raises:
        UnknownNameError: no such service.
    """
    layout = served_layout(compiled, service)
    if not lake.exists(SERVED_TABLE) or set(layout.schema.names) - set(lake.columns(SERVED_TABLE)):
        return layout.schema.empty_table()
    listed = ", ".join(map(quote, layout.schema.names))
    sql = (
        f"SELECT {listed} FROM {lake.table_sql(SERVED_TABLE)} WHERE {SERVICE} IN (?, ?) AND ({where}) ORDER BY {VECTOR}"
    )
    with lake.cursor() as cursor:
        found = cursor.execute(sql, [layout.service.name, layout.service.id]).to_arrow_table()
    return found.cast(layout.schema)
