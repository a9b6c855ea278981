"""Which offset must come next in a partition whose epochs may have ended early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from feature_store.log.protocol import pack_offset, unpack_offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Epochs:
    """One partition's known epochs."""

    ends: Mapping[int, int]
    """How many records each epoch has had, oldest first; the last one is still growing."""

    @property
    def end(self) -> int:
        """The offset that the next record will have."""
        return pack_offset(*list(self.ends.items())[-1])

    def next_offset(self, position: int) -> int | None:
        """The offset of the record that stands at `position`, stepping over ended epochs; None if the log never
        got there, which means that it lost records.
        """
        epoch, n = unpack_offset(position)
        while epoch in self.ends and n <= self.ends[epoch]:
            following = self._after(epoch)
            if n < self.ends[epoch] or following is None:
                return pack_offset(epoch, n)
            epoch, n = following, 0
        return None

    def resume(self, position: int) -> int | None:
        """The first offset of the epoch that followed the one of `position`, if one has begun."""
        following = self._after(unpack_offset(position)[0])
        return None if following is None else pack_offset(following, 0)

    def lag(self, position: int) -> int | None:
        """How many records stand from `position` to the end; None if the log never got there."""
        start = self.next_offset(position)
        if start is None:
            return None
        epoch, n = unpack_offset(start)
        return sum(count for known, count in self.ends.items() if known >= epoch) - n

    def _after(self, epoch: int) -> int | None:
        return min((known for known in self.ends if known > epoch), default=None)
