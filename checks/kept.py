"""Samples of days, kept in files of the home, so that a day's values are drawn once and not for each day that looks back at it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.history.mapped import drop_older, map_table, write_table
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
    paths = {day: folder / f"{day}.arrow" for day in days}
    found = {day: table for day, path in paths.items() if (table := _read(path, snapshot)) is not None}
    missing = [day for day in days if day not in found]
    if missing:
        drawn_at = snapshot or str(store.lake.snapshot()).encode()
        drawn = draw(missing)
        for each, table in drawn.items():
            for day in missing:
                rows = table.filter(pc.equal(table.column(DAY), day))
                write_table(each / f"{day}.arrow", rows.replace_schema_metadata({SNAPSHOT: drawn_at}))
        found |= {day: map_table(paths[day]) for day in missing}
        for each in drawn:  # last, since more days may be asked for than stay
            drop_older(each.iterdir(), keep=KEPT_SAMPLES)
    return pa.concat_tables([found[day] for day in days]) if days else None


def _read(path: Path, snapshot: bytes | None) -> pa.Table | None:
    """What a file has, if it was drawn at a snapshot, or at any."""
    try:
        table = map_table(path)
    except FileNotFoundError:
        return None
    return table if snapshot in (None, (table.schema.metadata or {}).get(SNAPSHOT)) else None
