"""Finding (entity, time) among the rows of a sorted row set."""

import numpy as np

from feature_store.transforms.ordering import INT64_MAX, Ints, run_starts, search_ranges
from feature_store.transforms.rowset import RowSet


class Locator:
    """Searches of one row set: one over packed keys where (entity, time) fits 63 bits, else one within each entity."""

    __slots__ = ("_bounds", "_entities", "_keys", "_least", "_span", "_time")

    def __init__(self, rows: RowSet) -> None:
        starts = run_starts(rows.entity)
        self._entities = rows.entity[starts]
        self._bounds = np.append(starts, len(rows))
        self._time = rows.time
        self._least = int(rows.time.min(initial=INT64_MAX))
        self._span = max(int(rows.time.max(initial=self._least)) - self._least + 2, 2)
        self._keys = self._pack(rows.time) if (len(starts) + 1) * self._span <= INT64_MAX else None

    def _pack(self, time: Ints) -> Ints:
        ranks = np.arange(len(self._entities), dtype=np.int64) * self._span - self._least
        keys = np.repeat(ranks, np.diff(self._bounds))
        keys += time
        return keys

    def locate(self, entity: Ints, time: Ints) -> Ints:
        """Return the first row of each entity at or after the time, or where it would stand. Fast where sorted."""
        rank, present = self._rank(entity)
        if self._keys is None:
            return search_ranges(self._time, self._bounds[rank], self._bounds[rank + present], target=time)
        key = np.clip(time, self._least, self._least + self._span - 1)
        key -= self._least
        key *= present
        key += rank * self._span
        return np.searchsorted(self._keys, key).astype(np.int64, copy=False)

    def span(self, entity: Ints) -> tuple[Ints, Ints]:
        """Return the range of all rows of each entity."""
        rank, present = self._rank(entity)
        return self._bounds[rank], self._bounds[rank + present]

    def _rank(self, entity: Ints) -> tuple[Ints, Ints]:
        """Return each entity's ordinal among those of the rows, and 1 where it is there, else 0."""
        rank = np.searchsorted(self._entities, entity).astype(np.int64, copy=False)
        if len(self._entities) == 0:
            return rank, np.zeros(len(entity), dtype=np.int64)
        found = self._entities[np.minimum(rank, len(self._entities) - 1)]
        return rank, (found == entity).astype(np.int64)
