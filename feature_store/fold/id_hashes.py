"""Which event ids may have been seen, of all history: eight bytes each, so that only likely ones are looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from feature_store.lake.events import live_table, loaded_table
from feature_store.transforms.project import ID

if TYPE_CHECKING:
    from feature_store.lake import Lake

Hashes: TypeAlias = NDArray[np.uint64]

_READ: WeakValueDictionary[tuple[str, str, str, int], Hashes] = WeakValueDictionary()
"""What a snapshot held never changes, so all partitions that one process reads share one array."""


class IdHashes:
    """A set of 64-bit hashes that only grows: sorted arrays, each at least twice as long as the next one."""

    def __init__(self, held: Hashes | None = None) -> None:
        """Begin with `held`, which is sorted and stays as it is."""
        self._held = held if held is not None and len(held) else None
        self._added: list[Hashes] = []

    def __len__(self) -> int:
        return sum(map(len, self._parts()))

    def add(self, hashes: Hashes) -> None:
        """Put hashes in; each is moved a logarithmic number of times as the set grows."""
        part = np.sort(hashes)
        while self._added and len(self._added[-1]) <= 2 * len(part):
            part = np.sort(np.concatenate([self._added.pop(), part]), kind="stable")
        self._added.append(part)

    def contains(self, hashes: Hashes) -> NDArray[np.bool_]:
        """For each hash whether it is in."""
        found = np.zeros(len(hashes), dtype=np.bool_)
        for part in self._parts():
            at = np.minimum(np.searchsorted(part, hashes), len(part) - 1)
            found |= part[at] == hashes
        return found

    def _parts(self) -> list[Hashes]:
        return self._added if self._held is None else [self._held, *self._added]


def hash_sql(text: str) -> str:
    """The hash of a text, equal within one version of DuckDB; kept in memory only."""
    return f"hash({text})"


def held_hashes(lake: Lake, source: str, snapshot: int) -> Hashes:
    """The hashes of every event id that the lake held at a snapshot, sorted."""
    place = (str(lake.location), lake.env, source, snapshot)
    held = _READ.get(place)
    if held is None:
        held = _READ[place] = _read(lake, source, snapshot)
    return held


def _read(lake: Lake, source: str, snapshot: int) -> Hashes:
    days = lake.days(source, snapshot=snapshot)
    names = [name(source) for name, held in ((loaded_table, days.loaded), (live_table, days.live)) if held]
    if not names:  # a table without rows costs DuckLake a question for each column
        return np.empty(0, dtype=np.uint64)
    tables = (lake.table_sql(name, snapshot=snapshot) for name in names)
    with lake.reading() as cursor:
        found = cursor.execute(" UNION ALL ".join(f"SELECT {hash_sql(ID)} AS h FROM {table}" for table in tables))
        hashes = np.ascontiguousarray(found.fetchnumpy()["h"], dtype=np.uint64)
    hashes.sort()
    return hashes
