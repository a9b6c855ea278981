"""`lake migrate`: from a lake in the home directory to one that several machines share."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from feature_store.cli.looks import counted
from feature_store.errors import InputError
from feature_store.settings import PREFIX, Settings

app = typer.Typer(help="Where the lake is kept.")


@app.callback()
def lake() -> None:
    """Where the lake is kept."""


@app.command()
def migrate(
    *,
    to_catalog: Annotated[str, typer.Option(help="`postgres:env:NAME` or `postgres://user@host/database`; empty")],
    to_data: Annotated[str, typer.Option(help="`s3://bucket/prefix`, or a directory that all machines have; empty")],
) -> None:
    """Copy the local lake, with all environments and snapshots, to Postgres and shared storage. The source stays."""
    from feature_store.lake import LakeLocation
    from feature_store.lake.migration import migrate as copy_lake

    settings = Settings()
    source = LakeLocation.of(settings)
    if source.is_shared:
        raise InputError(
            f"the settings name a shared lake already ({source}); "
            f"unset {PREFIX}LAKE_CATALOG and {PREFIX}LAKE_DATA to migrate the local one"
        )
    target = LakeLocation(source.directory, to_catalog, to_data)
    done = copy_lake(source, target)
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{target}: {counted(done.tables, 'table')} with {counted(done.rows, 'row')}, "
        f"{counted(done.files, 'file')} of {done.bytes:,} bytes, snapshot {done.snapshot}; read back and the same"
    )
    console.print(
        f"start everything with {PREFIX}LAKE_CATALOG={to_catalog} {PREFIX}LAKE_DATA={to_data}; {source} is as it was"
    )
