"""What DuckDB says when a lake cannot be used, in one line that names what is away."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import duckdb

from feature_store.lake.location import S3_SCHEME
from feature_store.loaders.database import after_address
from feature_store.loaders.s3 import S3

if TYPE_CHECKING:
    from feature_store.lake.location import LakeLocation
    from feature_store.lake.postgres import Postgres

_LOST = (
    "nable to connect to Postgres",
    "server closed the connection",
    "terminating connection",
    "no connection to the",
)
_UNUSABLE = ("disk I/O error", "database or disk is full", "unable to open database file", "database is locked")
_NOT_COMMITTED = "Failed to commit DuckLake transaction"
_OTHER_DATA = re.compile(r'does not match existing data path in the catalog "([^"]*)"')
_PATH = re.compile(r"s3://[^\s'\"]*[^\s'\":]")


def outage(error: duckdb.Error, location: LakeLocation, server: Postgres | None) -> str | None:
    """The sentence for a Postgres or an S3 server that is away, refuses or has another lake; None for any other error."""
    text = str(error)
    other = _OTHER_DATA.search(text)
    if other:
        return (
            f"`lake_data` is '{location.files}', but the catalog '{location.catalog}' belongs to the data in '{other[1]}'; "
            "correct one of them"
        )
    if server is not None and any(sign in text for sign in _LOST):
        return server.away(after_address(text))
    if location.files.startswith(S3_SCHEME) and isinstance(error, duckdb.IOException):  # what HTTP says is one as well
        found = _PATH.search(text)
        return S3().refusal(found[0] if found else location.files, text)
    return None


def unreadable(error: duckdb.Error, location: LakeLocation) -> str | None:
    """The sentence for a catalog file that SQLite cannot use: its disk is full, it is gone or locked; None otherwise."""
    if location.catalog is None and any(sign in str(error) for sign in _UNUSABLE):
        return f"the catalog of the lake at {location} cannot be used: {first_line(error)}"
    return None


def first_line(error: Exception) -> str:
    """What DuckDB says, without query excerpts and stack traces; of a commit that failed, why."""
    lines = str(error).splitlines() or [""]
    return lines[-1 if _NOT_COMMITTED in lines[0] else 0]
