"""Which tables there are, how large the lake is, a table's days, a table's columns, as the catalog says."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.lake.connection import CATALOG, METADATA, literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from feature_store.lake.session import Session

OTHER = ""
"""What belongs to no column: the footers of files, and files of which the catalog does not know the columns' sizes."""

_TABLES = f"""
    SELECT t.table_id, t.table_name FROM {METADATA}.ducklake_table AS t
    JOIN {METADATA}.ducklake_schema AS s ON s.schema_id = t.schema_id AND s.end_snapshot IS NULL
    WHERE t.end_snapshot IS NULL AND s.schema_name = $env AND t.table_name IN (SELECT unnest($tables::VARCHAR[]))
"""

_THEN = "begin_snapshot <= $snapshot AND ({0}.end_snapshot IS NULL OR {0}.end_snapshot > $snapshot)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How large a lake is, with all its environments."""

    files: int
    """Data files that the newest snapshot reads."""
    size_bytes: int
    snapshots: int


def extent(session: Session) -> Extent:
    """What the lake holds now."""
    with session.reading() as cursor:
        files, size = cursor.execute(
            "SELECT coalesce(sum(file_count), 0), coalesce(sum(file_size_bytes), 0) "
            f"FROM ducklake_table_info('{CATALOG}')"
        ).fetchall()[0]
        snapshots = cursor.execute(f"SELECT count(*) FROM ducklake_snapshots('{CATALOG}')").fetchall()[0][0]
    return Extent(files=int(files), size_bytes=int(size), snapshots=int(snapshots))


def size_of(session: Session, table: str, days: tuple[date, date]) -> int:
    """Bytes of the files that the newest snapshot reads of some days of a table, both ends included."""
    first, last = (literal(day.isoformat()) for day in days)
    with session.reading() as cursor:
        row = cursor.execute(
            f"""SELECT coalesce(sum(data_file_size_bytes), 0)
            FROM ducklake_list_files({literal(CATALOG)}, {literal(table)}, schema => {literal(session.env)})
            WHERE regexp_extract(data_file, '_day=([0-9-]+)', 1) BETWEEN {first} AND {last}"""
        ).fetchone()
    return int(row[0]) if row else 0


def tables_at(session: Session, snapshot: int) -> frozenset[str]:
    """The tables of an environment at a snapshot: one question takes as long as whether one of them is there."""
    with session.reading() as cursor:
        rows = cursor.execute(
            f"""SELECT t.table_name FROM {METADATA}.ducklake_table AS t
            JOIN {METADATA}.ducklake_schema AS s ON s.schema_id = t.schema_id
            WHERE s.schema_name = $env AND t.{_THEN.format("t")} AND s.{_THEN.format("s")}""",
            {"env": session.env, "snapshot": snapshot},
        ).fetchall()
    return frozenset(str(name) for (name,) in rows)


def rows_by_day(session: Session, tables: Sequence[str], *, snapshot: int) -> dict[str, dict[date, int]]:
    """Table -> day -> rows at a snapshot of tables that are partitioned by day, each of which is written and removed as a whole."""
    with session.reading() as cursor:
        rows = cursor.execute(
            f"""SELECT t.table_name, CAST(v.partition_value AS DATE), sum(f.record_count - coalesce(d.delete_count, 0))::BIGINT
            FROM ({_TABLES}) AS t
            JOIN {METADATA}.ducklake_data_file AS f ON f.table_id = t.table_id AND f.{_THEN.format("f")}
            JOIN {METADATA}.ducklake_file_partition_value AS v ON v.data_file_id = f.data_file_id
            LEFT JOIN {METADATA}.ducklake_delete_file AS d ON d.data_file_id = f.data_file_id AND d.{_THEN.format("d")}
            GROUP BY ALL""",
            {"env": session.env, "tables": list(tables), "snapshot": snapshot},
        ).fetchall()
    found: dict[str, dict[date, int]] = {table: {} for table in tables}
    for table, day, count in rows:
        found[table][day] = count
    return found


def column_bytes(session: Session, tables: Sequence[str]) -> dict[str, dict[str, int]]:
    """Table -> column -> bytes in the files that the newest snapshot reads, `OTHER` among the columns; of those there are."""
    with session.reading() as cursor:
        files = cursor.execute(
            f"""SELECT t.table_name, sum(f.file_size_bytes)::BIGINT FROM ({_TABLES}) AS t
            JOIN {METADATA}.ducklake_data_file AS f ON f.table_id = t.table_id AND f.end_snapshot IS NULL GROUP BY ALL""",
            {"env": session.env, "tables": list(tables)},
        ).fetchall()
        columns = cursor.execute(
            f"""SELECT t.table_name, c.column_id, c.parent_column, c.column_name, coalesce(sum(z.column_size_bytes), 0)::BIGINT
            FROM ({_TABLES}) AS t
            JOIN {METADATA}.ducklake_column AS c ON c.table_id = t.table_id AND c.end_snapshot IS NULL
            JOIN {METADATA}.ducklake_data_file AS f ON f.table_id = t.table_id AND f.end_snapshot IS NULL
            LEFT JOIN {METADATA}.ducklake_file_column_stats AS z
                ON z.data_file_id = f.data_file_id AND z.column_id = c.column_id
            GROUP BY ALL""",
            {"env": session.env, "tables": list(tables)},
        ).fetchall()
    parents = {(table, number): (parent, name) for table, number, parent, name, _ in columns}
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for table, number, *_, size in columns:
        above, name = parents[table, number]
        while above is not None:  # the parts of a list or a struct are columns of their own, below it
            above, name = parents[table, above]
        found[table][name] += size
    for table, size in files:
        found[table][OTHER] = max(size - sum(found[table].values()), 0)
    return {table: dict(sizes) for table, sizes in found.items()}
