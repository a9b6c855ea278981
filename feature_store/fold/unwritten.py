"""What a shard has taken in while it wrote nothing: which entities, and what somebody else must know to have written them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from feature_store.online.commits import CommitRecord
    from feature_store.online.ready import Positions
    from feature_store.transforms.catalogue import Ints

FOLDS_KEPT = 4096
"""Of more folds than that, every second one of the older half is forgotten: what it touched counts to the next one."""
_NOT = -1


class Unwritten:
    """The entities touched, by view, each with the fold that touched it last."""

    def __init__(self) -> None:
        self._last: dict[str, Ints] = {}
        self._folds: list[CommitRecord] = []

    def add(self, touched: Mapping[str, Ints], fold: CommitRecord) -> None:
        """Note what a fold touched; folds come in their order."""
        if not touched:
            return
        for name, entities in touched.items():
            last = self._last[name] = _with_room(self._last.get(name), int(entities[-1]))
            last[entities] = fold.n
        # A clock may be set back; what was released before that is known nevertheless.
        latest_us = max(fold.now_us, self._folds[-1].now_us if self._folds else fold.now_us)
        self._folds.append(msgspec.structs.replace(fold, now_us=latest_us))
        if len(self._folds) > FOLDS_KEPT:
            del self._folds[: FOLDS_KEPT // 2 : 2]

    def drop_known(self, positions: Positions, now_us: int, *, sources: Iterable[str]) -> None:
        """Forget what somebody has written who had read to these positions when it folded at `now_us`.

        Args:
            positions: source -> partition -> the next offset that was not read.
            now_us: events stamped at or after it were read, but waited.
            sources: those that matter; of a partition that is missing, nothing was read.
        """
        some = set(sources)

        def is_known(fold: CommitRecord) -> bool:
            read = (
                (positions.get(s, {}).get(p, _NOT), at) for s in some for p, at in fold.positions.get(s, {}).items()
            )
            return fold.now_us <= now_us and all(theirs >= mine for theirs, mine in read)

        known = max((fold.n for fold in takewhile(is_known, self._folds)), default=_NOT)
        for last in self._last.values():
            last[last <= known] = _NOT

    def clear(self) -> None:
        """Forget all of it."""
        self._last, self._folds = {}, []

    def take(self, name: str) -> Ints:
        """The entities of a view that are left, sorted, and forget them."""
        last = self._last.pop(name, None)
        if not self._last:
            self._folds = []
        return np.flatnonzero(last != _NOT) if last is not None else np.zeros(0, dtype=np.int64)


def _with_room(last: Ints | None, entity: int) -> Ints:
    """The same for at least as many entities."""
    known = 0 if last is None else len(last)
    if last is not None and entity < known:
        return last
    wider = np.full(max(2 * known, entity + 1), _NOT, dtype=np.int64)
    if last is not None:
        wider[:known] = last
    return wider
