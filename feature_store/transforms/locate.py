"""Finding (entity, time) among the rows of a sorted row set."""

import numpy as np

from feature_store.transforms.ordering import INT64_MAX, Ints, run_starts, search_ranges
from feature_store.transforms.rowset import RowSet


class Segments:
    """Where each entity's rows stand. Right for any times; best for few queries, as nothing else is prepared."""

    __slots__ = ("_time", "bounds", "entities")

    def __init__(self, rows: RowSet) -> None:
        starts = run_starts(rows.entity)
        self._time = rows.time
        self.entities: Ints = rows.entity[starts]
        """The entities, ascending."""
        self.bounds: Ints = np.append(starts, len(rows))
        """Where the rows of each start, and the number of rows."""

    def rank(self, entity: Ints) -> tuple[Ints, Ints]:
        """Return each entity's ordinal among those of the rows, and 1 where it is there, else 0."""
        rank = np.searchsorted(self.entities, entity).astype(np.int64, copy=False)
        if len(self.entities) == 0:
            return rank, np.zeros(len(entity), dtype=np.int64)
        found = self.entities[np.minimum(rank, len(self.entities) - 1)]
        return rank, (found == entity).astype(np.int64)

    def span(self, entity: Ints) -> tuple[Ints, Ints]:
        """Return the range of all rows of each entity, empty where it would stand if it has none."""
        rank, present = self.rank(entity)
        return self.bounds[rank], self.bounds[rank + present]

    def locate(self, entity: Ints, time: Ints) -> Ints:
        """Return the first row of each entity at or after the time, or where it would stand."""
        lo, hi = self.span(entity)
        return search_ranges(self._time, lo, hi, target=time)


class Locator:
    """Many searches of one row set: one over packed keys where (entity, time) fits 63 bits, else within segments."""

    __slots__ = ("_keys", "_least", "_segments", "_span")

    def __init__(self, rows: RowSet) -> None:
        self._segments = Segments(rows)
        self._least = int(rows.time.min(initial=INT64_MAX))
        self._span = max(int(rows.time.max(initial=self._least)) - self._least + 2, 2)
        fits = (len(self._segments.entities) + 1) * self._span <= INT64_MAX
        self._keys = self._pack(rows.time) if fits else None

    def _pack(self, time: Ints) -> Ints:
        ranks = np.arange(len(self._segments.entities), dtype=np.int64) * self._span - self._least
        keys = np.repeat(ranks, np.diff(self._segments.bounds))
        keys += time
        return keys

    def locate(self, entity: Ints, time: Ints) -> Ints:
        """Return the first row of each entity at or after the time, or where it would stand. Fast where sorted."""
        if self._keys is None:
            return self._segments.locate(entity, time)
        rank, present = self._segments.rank(entity)
        key = np.clip(time, self._least, self._least + self._span - 1)
        key -= self._least
        key *= present
        key += rank * self._span
        return np.searchsorted(self._keys, key).astype(np.int64, copy=False)

    def span(self, entity: Ints) -> tuple[Ints, Ints]:
        """Return the range of all rows of each entity."""
        return self._segments.span(entity)
