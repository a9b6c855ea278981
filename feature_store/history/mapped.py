"""Arrow files that are mapped into memory: small tables that are read often open in a tenth of the time of Parquet."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def map_table(path: Path) -> pa.Table:
    """The table of a file; FileNotFoundError."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def write_table(path: Path, table: pa.Table) -> None:
    """Whole or not at all, whoever else does the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}")
    with pa.OSFile(str(scratch), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    scratch.replace(path)


def drop_older(files: Iterable[Path], *, keep: int) -> None:
    """Delete all files but those that were written last."""
    written = sorted(((path.stat().st_mtime_ns, path) for path in files), reverse=True)
    for _, path in written[keep:]:
        path.unlink(missing_ok=True)
