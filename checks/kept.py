"""Samples of days, kept in files of the home, so that a day's values are drawn once and not for each day that looks back at it."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.history.day_tiles import drop_older
from feature_store.lake.days import DAY
from feature_store.store import FeatureStore

KEPT_SAMPLES = 100
"""Days of a source or a view whose samples stay; older ones are drawn again if anybody asks for them."""
SNAPSHOT = b"snapshot"
"""In a file's metadata: the snapshot of the lake at which it was drawn."""

Draw = Callable[[Sequence[date]], Mapping[Path, pa.Table]]
"""Days -> folder -> rows of these days, with `_day`."""


def folder_of(store: FeatureStore, name: str, meaning: object) -> Path:
    """Where samples of a source or a view are kept; what means something else has another folder."""
    digest = hashlib.blake2b(repr(meaning).encode(), digest_size=8).hexdigest()
    return samples_folder(store) / name / digest


def samples_folder(store: FeatureStore) -> Path:
    """Where all of them are."""
    return store.settings.home / "samples" / store.settings.environment


def kept_days(store: FeatureStore, folder: Path, days: Sequence[date], draw: Draw, *, anew: bool) -> pa.Table | None:
    """The rows of some days in a folder; None for no days.

    Args:
        store: the deployment.
        folder: where they are kept.
        days: the days, in order.
        draw: draws what is missing, and what comes with it for other folders.
        anew: whether what was drawn at another snapshot than the newest counts as missing; a reference may be older.
    """
    snapshot = str(store.lake.snapshot()).encode() if anew else None
    paths = {day: folder / f"{day}.parquet" for day in days}
    found = {day: _read(path) for day, path in paths.items() if _is_kept(path, snapshot)}
    missing = [day for day in days if day not in found]
    if missing:
        drawn_at = snapshot or str(store.lake.snapshot()).encode()
        drawn = draw(missing)
        for each, table in drawn.items():
            for day in missing:
                _keep(each / f"{day}.parquet", table.filter(pc.equal(table.column(DAY), day)), drawn_at)
        found |= {day: _read(paths[day]) for day in missing}
        for each in drawn:  # last, since more days may be asked for than stay
            drop_older(each.glob("*.parquet"), keep=KEPT_SAMPLES)
    return pa.concat_tables([found[day] for day in days]) if days else None


def _read(path: Path) -> pa.Table:
    with pq.ParquetFile(
        path
    ) as file:  # `read_table` looks for a data set first, which takes longer than these few rows
        return file.read()


def _is_kept(path: Path, snapshot: bytes | None) -> bool:
    if snapshot is None or not path.exists():
        return path.exists()
    return (pq.read_schema(path).metadata or {}).get(SNAPSHOT) == snapshot


def _keep(path: Path, table: pa.Table, snapshot: bytes) -> None:
    """Whole or not at all, whoever else does the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}")
    pq.write_table(table.replace_schema_metadata({SNAPSHOT: snapshot}), scratch)
    scratch.replace(path)
