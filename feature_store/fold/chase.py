"""Catching up with the end of a partition, which moves on."""

from __future__ import annotations

import math


class Chase:
    """Reads up to where the end is, and then to where it is by then, until that gets no shorter: it ends however fast
    events come, and as near to the end as whoever reads can get.
    """

    def __init__(self) -> None:
        self.caught_up = False
        self.end: int | None = None
        """The end that is to be reached; None: ask where it is before the next records are read."""
        self._read, self._read_before = 0, math.inf

    def move(self, records: int, position: int) -> None:
        """Note that so many records were read, up to a position.

        A log may leave numbers out before its end, and in a new epoch without records the end lies beyond every
        position that can be reached: nothing to read means that the end has been reached.
        """
        self._read += records
        if records and (self.end is None or position < self.end):
            return
        self.caught_up = self.caught_up or not records or 2 * self._read > self._read_before
        self.end, self._read, self._read_before = None, 0, self._read
