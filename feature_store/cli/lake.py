"""`lake`: moving it to where several machines share it, and keeping it small."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from feature_store.cli.looks import counted
from feature_store.errors import InputError
from feature_store.settings import PREFIX, Settings
from feature_store.store import FeatureStore
from feature_store.time_rule import DAY_US

app = typer.Typer(help="Where the lake is kept, and keeping it small.")


@app.callback()
def lake() -> None:
    """Where the lake is kept, and keeping it small."""


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


@app.command()
def compact() -> None:
    """Merge the small files of every table. Old snapshots read the same."""
    console = Console(highlight=False, soft_wrap=True)
    with FeatureStore() as store:
        merged = store.lake.upkeep.compact_all()
    for table, files in merged.items():
        console.print(f"{table}: {counted(files, 'file')} fewer")
    if not merged:
        console.print("nothing to merge")


@app.command()
def expire(
    *,
    days: Annotated[int, typer.Option(help="Keep every snapshot of so many days", min=0)] = 30,
    environment: Annotated[
        list[str] | None, typer.Option(help="Another environment of this lake, whose old snapshots go too; repeatable")
    ] = None,
) -> None:
    """Forget old snapshots and delete their files. Pinned ones stay: those of training sets."""
    with FeatureStore() as store:
        older_than_us = store.clock.now_us() - days * DAY_US
        gone = store.lake.upkeep.expire(older_than_us=older_than_us, environments=environment or ()).snapshots
        kept = store.lake.pins()
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{counted(gone, 'snapshot')} older than {counted(days, 'day')} forgotten, {len(kept)} pinned")
