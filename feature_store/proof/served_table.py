"""The lake's table of served vectors: records of all services, each vector once.

Services share columns where names and types agree. A column of a type that the table does not have it in stands beside
it with the type in its name: one service's text `customer`, and another's whole number `customer__bigint`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.lake.connection import quote
from feature_store.lake.tables import Columns, arrow_columns
from feature_store.proof.layout import ServedLayout, conform, served_layout, served_layout_of
from feature_store.proof.served_log import SERVED, SERVICE, VECTOR

if TYPE_CHECKING:
    from feature_store.lake import Commit, Lake
    from feature_store.transforms.compiled import Compiled

SERVED_TABLE = "served_vectors"


def append_served(compiled: Compiled, lake: Lake, served: pa.Table) -> Commit | None:
    """Append a record of one service (`ServedLog.table`); vectors whose ids the lake has already are left out.

    Returns None if there was nothing new.

    Raises:
        InputError: the record is of several services or lacks a column.
        LakeError: the lake cannot be written.
    """
    record = conform(served_layout_of(compiled, served), served)
    names = _stored_names(lake, record.schema)
    commit = lake.append(SERVED_TABLE, record.rename_columns(list(names.values())), once=(SERVED, VECTOR))
    return commit if commit.rows else None


def read_served(compiled: Compiled, lake: Lake, service: str, *, where: str = "TRUE") -> pa.Table:
    """The record of a service that the lake holds; `where` is SQL over its columns.

    What a vector did not have yet when it was served (a feature that its view gained since) is null, status and all.

    Raises:
        UnknownNameError: no such service.
    """
    layout = served_layout(compiled, service)
    if not lake.exists(SERVED_TABLE):
        return layout.schema.empty_table()
    names, existing = _stored_names(lake, layout.schema), lake.columns(SERVED_TABLE)
    listed = ", ".join(
        f"{quote(stored) if stored in existing else 'NULL'} AS {quote(name)}" for name, stored in names.items()
    )
    table, recorded = lake.table_sql(SERVED_TABLE), _recorded_as(compiled, layout)
    marks = ", ".join("?" for _ in recorded)
    with lake.reading() as cursor:
        found = cursor.execute(
            f"SELECT {listed} FROM {table} WHERE {SERVICE} IN ({marks}) AND ({where}) ORDER BY {VECTOR}", recorded
        ).to_arrow_table()
    return found.cast(layout.schema)


def _recorded_as(compiled: Compiled, layout: ServedLayout) -> list[str]:
    """Under which names vectors of a service are recorded: `name` alone is the newest version."""
    service = layout.service
    newest = compiled.registry.service(service.name).id == service.id
    return [service.id, service.name] if newest else [service.id]


def _stored_names(lake: Lake, schema: pa.Schema) -> dict[str, str]:
    """Column of a record -> column of the table."""
    existing: Columns = lake.columns(SERVED_TABLE) if lake.exists(SERVED_TABLE) else {}
    return {
        name: name if existing.get(name, kind) == kind else f"{name}__{re.sub(r'[^a-z0-9]+', '_', kind.lower())}"
        for name, kind in arrow_columns(schema).items()
    }
