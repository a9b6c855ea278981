"""The rows of windows that were already visible to their query: what a served value could know."""

from collections.abc import Iterator

import numpy as np

from feature_store.transforms.ordering import Ints, expand, sizes
from feature_store.transforms.rowset import RowSet


def known_rows(
    rows: RowSet, lo: Ints, *, hi: Ints, visible: Ints, cutoff: Ints, limit: int = 4_000_000
) -> Iterator[tuple[slice, RowSet]]:
    """Yield the rows of each window that were visible by its query's cutoff, in chunks of queries.

    Args:
        rows: the row set, with no more columns than will be asked for: every window's rows are copied.
        lo: int64[q], where the windows start; give only the queries that have unknown rows.
        hi: int64[q], where they end.
        visible: int64[n], when each row became visible, in microseconds.
        cutoff: int64[q]; rows with `visible <= cutoff` are known.
        limit: rows of windows per chunk (a window larger than that makes a chunk of its own).

    Yields:
        the chunk's queries as a slice of all, and their known rows, whose `entity` is the ordinal of the query among
        all; the windows of the chunk are the `RangeIndex.span` of these ordinals.
    """
    ends = np.cumsum(sizes(lo, hi))
    first = 0
    while first < len(lo):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + limit, side="right")))
        index, owner = expand(lo[first:last], hi[first:last])
        owner += first
        known = visible[index] <= cutoff[owner]
        found = rows.take(index[known])
        yield slice(first, last), RowSet(entity=owner[known], time=found.time, columns=found.columns)
        first = last
