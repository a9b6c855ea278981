"""Whether objects can be written, read and deleted where a lake keeps its files, in the way in which a lake does it."""

from __future__ import annotations

import tempfile
import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import duckdb

from feature_store.duck import distrust, literal, load_extension
from feature_store.lake.connection import SHARED, connect
from feature_store.lake.outage import first_line
from feature_store.loaders.s3 import S3

if TYPE_CHECKING:
    from collections.abc import Iterator

_STEPS = (
    ("written", "s3:PutObject", ("CREATE TABLE probe.tried AS SELECT 1 AS n",)),
    ("read", "s3:GetObject", ("SELECT n FROM probe.tried",)),
    (
        "deleted",
        "s3:DeleteObject",
        (
            "DROP TABLE probe.tried",
            "CALL ducklake_expire_snapshots('probe', older_than => now())",
            "CALL ducklake_cleanup_old_files('probe', cleanup_all => true)",
        ),
    ),
)


class Refused(NamedTuple):
    """What cannot be done with objects."""

    done: str
    """`written`, `read` or `deleted`."""
    permission: str
    """As S3 calls it."""
    why: str


def try_objects(files: str) -> Iterator[Refused]:
    """What cannot be done below a prefix: DuckDB deletes objects for a lake alone, so a lake of one row is made and unmade there.

    An object that may be written and not deleted stays.

    Args:
        files: `s3://bucket/prefix`, without a slash at the end.

    Raises:
        LakeError, InputError: a package or a credential is missing.
    """
    with tempfile.TemporaryDirectory() as scratch, closing(connect(temp=Path(scratch), options={})) as connection:
        load_extension(connection, "duckdb_extension_sqlite_scanner")
        S3().connect(connection, extra=SHARED)
        distrust(connection)
        connection.execute(
            f"ATTACH {literal(f'ducklake:sqlite:{scratch}/probe.sqlite')} AS probe "
            f"(DATA_PATH {literal(f'{files}/.probe-{uuid.uuid4().hex}/')}, DATA_INLINING_ROW_LIMIT 0)"
        )
        for done, permission, statements in _STEPS:
            try:
                for statement in statements:
                    connection.execute(statement).fetchall()
            except duckdb.Error as error:
                yield Refused(done, permission, first_line(error))
                if done == "written":
                    return
