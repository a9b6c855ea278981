"""Tiles of past days, sorted for finding few entities: files beside the lake, each made once, of one build of a day.

To find some hundred entities of a hundred thousand, all of a Parquet file's keys must be read. These are sorted by a hash of the
key, in a file that is mapped into memory, so that looking an entity up touches some pages of it. A file is named by the build
that it was made of: it is what that day's tiles are for ever, and a day that is built again has another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.history.kept import start_us
from feature_store.history.mapped import drop_older, map_table, write_table
from feature_store.lake.days import DAY, in_days
from feature_store.time_rule import DAY_US
from feature_store.transforms.project import HOP, KEY, TILE

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from feature_store.history.spine import SpineKeys
    from feature_store.transforms.catalogue import Ints

CODE = "_code"
_HASH, _SPARE = "_hash", 7


@dataclass(frozen=True, slots=True, kw_only=True)
class DayTiles:
    """The tiles of a view whose hop is a day."""

    folder: Path
    """Where the files are."""
    table: str
    """SQL of the tiles."""
    columns: Sequence[str]
    """Those that are kept beside the key."""
    days: int
    """How many days the view's windows hold: files of twice as many stay, and a week's more."""
    _mapped: dict[str, pa.Table] = field(default_factory=dict)

    def of(
        self, cursor: duckdb.DuckDBPyConnection, builds: Mapping[date, str], keys: SpineKeys, *, entities: str
    ) -> pa.Table:
        """The tiles of some entities: `_code`, `_tile_us`, `_day` and the columns.

        Args:
            cursor: where the table is read, of days of which there is no file yet.
            builds: day -> the build that holds.
            keys: the entities.
            entities: what the cursor knows them by.
        """
        hashed = cursor.execute(f"SELECT hash({KEY}) AS {_HASH} FROM {entities} ORDER BY {CODE}").to_arrow_table()
        asked = hashed.column(_HASH).to_numpy()
        order = np.argsort(asked)
        parts = [_found(self._tiles(cursor, day, build), asked[order]) for day, build in builds.items()]
        found, codes = pa.concat_tables([part for part, _ in parts]), order[np.concatenate([at for _, at in parts])]
        counts = [len(at) for _, at in parts]
        starts = np.repeat([start_us(day) for day in builds], counts)
        found = found.append_column(CODE, pa.array(codes)).append_column(TILE, pa.array(starts))
        found = found.append_column(DAY, pa.array(starts // DAY_US, type=pa.int32()).cast(pa.date32()))
        # Two keys may have one hash.
        same = pc.equal(found.column(KEY), keys.text.take(pa.array(codes)))
        return found.filter(same).drop_columns([_HASH, KEY])

    def _tiles(self, cursor: duckdb.DuckDBPyConnection, day: date, build: str) -> pa.Table:
        name = f"{day}_{build}"
        if name not in self._mapped:
            path = self._folder / f"{name}.arrow"
            try:
                self._mapped[name] = map_table(path)
            except FileNotFoundError:
                write_table(path, self._sorted(cursor, day))
                self._mapped[name] = map_table(path)
                drop_older(self.folder.glob("*/*.arrow"), keep=2 * self.days + _SPARE)
        return self._mapped[name]

    @property
    def _folder(self) -> Path:
        """Of these columns, and this version's hash."""
        meaning = repr((sorted(self.columns), duckdb.__version__)).encode()
        return self.folder / hashlib.blake2b(meaning, digest_size=8).hexdigest()

    def _sorted(self, cursor: duckdb.DuckDBPyConnection, day: date) -> pa.Table:
        listed = ", ".join([KEY, *self.columns])
        tiles = cursor.execute(
            f"SELECT hash({KEY}) AS {_HASH}, {listed} FROM {self.table} WHERE {in_days([day])} AND {HOP} = {DAY_US}"
        ).to_arrow_table()
        return tiles.take(pa.array(np.argsort(tiles.column(_HASH).to_numpy()))).combine_chunks()


def _found(tiles: pa.Table, hashes: Ints) -> tuple[pa.Table, Ints]:
    """The tiles with one of some hashes, which are sorted, and the place of each among these."""
    there = tiles.column(_HASH).to_numpy()
    first, end = np.searchsorted(there, hashes), np.searchsorted(there, hashes, side="right")
    count = end - first
    at = np.repeat(np.arange(len(hashes)), count)
    places = np.arange(len(at)) + np.repeat(first + count - np.cumsum(count), count)
    return tiles.take(pa.array(places)), at
