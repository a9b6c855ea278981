"""What a model was trained on, as the reference of drift: the manifest that somebody pinned for its service, else the newest."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.declare.feature import FeatureRef
from feature_store.errors import InputError
from feature_store.history.asked import asked_columns
from feature_store.history.columns import column_names
from feature_store.history.definitions import changed, definitions
from feature_store.history.manifest import Manifest

if TYPE_CHECKING:
    from feature_store.clock import Clock
    from feature_store.declare.service import FeatureService
    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled

BASELINES = "baselines"
"""Table: one row per pinning; the newest of a service is the one that counts."""
KEPT_ROWS = 10_000
"""A reference of more rows is thinned to so many: a distribution needs no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A training set as a reference."""

    service: str
    """`name@version`."""
    manifest: Manifest
    path: str
    """Where the manifest was, when it was pinned."""
    rows: pa.Table
    """Its features under the names of a training set's columns, the time column, and what it takes to ask for its entities
    as far as the training set has it; a thinned copy."""
    pinned_us: int | None
    """When it was pinned; None: nobody did, it is the newest."""

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.path} ({'not pinned' if self.pinned_us is None else 'pinned'})"


def pin_baseline(compiled: Compiled, lake: Lake, service: FeatureService, path: Path, *, clock: Clock) -> Baseline:
    """Make a training set the reference of a service; the lake keeps what is needed of it, and its snapshot.

    Raises:
        InputError: there is no such file, it is no manifest of this service, its rows are gone, or features are defined
            otherwise by now.
    """
    found = read_baseline(compiled, service, path)
    now_us = clock.now_us()
    buffer = io.BytesIO()
    pq.write_table(found.rows, buffer, compression="zstd")
    row = {
        "service": service.id,
        "manifest": found.manifest.to_json(),
        "path": found.path,
        "rows": buffer.getvalue(),
        "at_us": now_us,
    }
    lake.pin(found.manifest.snapshot, reason=f"baseline of {service.id}, {found.path}")
    lake.append(BASELINES, pa.Table.from_pylist([row]))
    return Baseline(service=service.id, manifest=found.manifest, path=found.path, rows=found.rows, pinned_us=now_us)


def pinned_baseline(lake: Lake, service: FeatureService) -> Baseline | None:
    """The newest that was pinned for a service."""
    return lake.once((BASELINES, service.id), lambda: _pinned(lake, service))


def _pinned(lake: Lake, service: FeatureService) -> Baseline | None:
    if not lake.exists(BASELINES):
        return None
    with lake.reading() as cursor:
        # Sorted, with a limit, DuckDB reads the table twice, which takes four times as long.
        row = "{'manifest': manifest, 'path': path, 'rows': rows, 'at_us': at_us}"
        [(found,)] = cursor.execute(
            f"SELECT max_by({row}, (at_us, rowid)) FROM {BASELINES} WHERE service = ?", [service.id]
        ).fetchall()
    if found is None:
        return None
    return Baseline(
        service=service.id,
        manifest=Manifest.from_json(found["manifest"]),
        path=found["path"],
        rows=pq.read_table(io.BytesIO(found["rows"])),
        pinned_us=found["at_us"],
    )


def baselines(
    compiled: Compiled, lake: Lake, service: FeatureService, folder: Path
) -> tuple[Baseline | None, Baseline | None]:
    """The baseline that is pinned for a service, and the newest training set of its folder, unless it is the pinned one.

    A training set that was made from other definitions is none.
    """
    pinned, path = pinned_baseline(lake, service), newest_manifest(folder)
    if path is None or (pinned is not None and pinned.path == str(path.absolute())):
        return pinned, None
    try:
        return pinned, read_baseline(compiled, service, path)
    except InputError:
        return pinned, None


def newest_manifest(folder: Path) -> Path | None:
    """The manifest of the newest training set in a folder."""
    written = [path for path in folder.glob("*.json") if path.with_suffix(".parquet").exists()]
    return max(written, key=lambda path: (path.stat().st_mtime_ns, path.name), default=None)


def read_baseline(compiled: Compiled, service: FeatureService, path: Path) -> Baseline:
    """A training set from its manifest and the rows beside it.

    Raises:
        InputError: as `pin_baseline`.
    """
    try:
        manifest = Manifest.from_json(path.read_text())
    except OSError as error:
        raise InputError(f"the manifest '{path}' cannot be read: {error.strerror or error}") from error
    if manifest.service != service.id:
        raise InputError(
            f"'{path}' must be a manifest of service '{service.id}', but it is one of '{manifest.service}'"
        )
    resolved = compiled.registry.resolve(service)
    other = changed(
        {name: each for name, each in manifest.fingerprints.items() if not name.startswith("label ")},
        definitions(compiled, service, resolved, []),
    )
    if other:
        raise InputError(f"'{path}' was made when these were defined otherwise: {', '.join(other)}; train again")
    names = [*feature_columns(compiled, service), manifest.time_column]
    rows = _rows(path, names, more=asked_columns(compiled.registry, service, optional=True))
    return Baseline(service=service.id, manifest=manifest, path=str(path.absolute()), rows=rows, pinned_us=None)


def feature_columns(compiled: Compiled, service: FeatureService) -> dict[str, str]:
    """Column of a service's training sets -> the feature's name, `view:feature` or that of what is computed."""
    resolved = compiled.registry.resolve(service)
    stored = iter(column_names([item for item in resolved if isinstance(item, FeatureRef)]))
    return {next(stored) if isinstance(item, FeatureRef) else item.name: item.name for item in resolved}


def _rows(manifest: Path, names: list[str], *, more: list[str]) -> pa.Table:
    """Columns that must be there, and more of those that are."""
    path = manifest.with_suffix(".parquet")
    try:
        present = pq.read_schema(path).names
        if missing := [name for name in names if name not in present]:
            raise InputError(f"'{path}' lacks the columns {', '.join(missing)}")
        wanted = dict.fromkeys([*names, *(name for name in more if name in present)])
        table = pq.read_table(path, columns=[*wanted])
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"the rows of '{manifest}' must stand beside it, in '{path.name}': {error}") from error
    return table.take(pa.array(list(_thinned(table.num_rows))))


def _thinned(rows: int) -> Iterator[int]:
    """Places of the rows that are kept, evenly over all."""
    yield from np.unique(np.linspace(0, max(rows - 1, 0), min(rows, KEPT_ROWS)).astype(int)).tolist() if rows else []
