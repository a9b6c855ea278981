"""`baseline`: which training set the drift of a service is measured against."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from feature_store.cli.looks import age, counted
from feature_store.store import FeatureStore

if TYPE_CHECKING:
    from feature_store.declare.service import FeatureService
    from feature_store.history.baseline import Baseline


_UNLESS = (
    "if it was made while drift was over its limit, it does not count yet: the newest evaluation of the check `drift` in "
    "Dagster says what does"
)
"""What only Dagster's books know, which a command of the library does not read."""


def baseline(
    service: Annotated[str, typer.Argument(help="A feature service, `name` or `name@version`")],
    manifest: Annotated[
        Path | None, typer.Argument(help="The manifest to pin, with its rows beside it; without one, show what counts")
    ] = None,
) -> None:
    """Pin the training set that drift is measured against, or show it and the candidate for its place."""
    console = Console(highlight=False, soft_wrap=True)
    with FeatureStore() as store:
        if manifest is not None:
            found = store.pin_baseline(service, manifest)
            only = _only(store, store.registry.service(service), found)
            console.print(f"{found.service}: {_told(found)}; drift is measured against it from now on{only}")
            return
        declared, pinned, newest = store.registry.service(service), *store.baselines(service)
        only = _only(store, declared, pinned or newest)
        against = f"; drift is measured against it{only}" if only else ""
        if pinned is not None and pinned.pinned_us is not None:
            ago = age(store.clock.now_us() - pinned.pinned_us)
            console.print(f"{declared.id}: {_told(pinned)}; pinned {ago}{against}")
        elif newest is not None:
            console.print(f"{declared.id}: {_told(newest)}; the newest training set, nothing is pinned{against}")
            console.print(_UNLESS)
        else:
            before = f"drift is measured against the days before{only}"
            console.print(f"{declared.id}: no baseline and no training set; {before}")
        if newest is not None:
            command = f"feature-store baseline {service} {newest.path}"
            console.print(f"candidate: {_told(newest)}; accept it with `{command}`")


def _only(store: FeatureStore, service: FeatureService, found: Baseline | None) -> str:
    """What limits the measuring of drift: neither events nor the rows of the baseline have what it takes to ask."""
    from feature_store.history.asked import asked_columns, asking_source

    columns = asked_columns(store.registry, service)
    if asking_source(store.compiled, store.lake, service) or (found and {*columns} <= {*found.rows.column_names}):
        return ""
    neither = f"no source has all the columns {', '.join(columns)}{', nor has the training set' if found else ''}"
    return f", only where vectors are logged: {neither}"


def _told(found: Baseline) -> str:
    return f"{found.path}, {counted(found.manifest.rows, 'row')} of snapshot {found.manifest.snapshot}"
