"""Which events have been seen: the recent ones in memory, older ones looked up in the lake."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from feature_store.time_rule import DAY_US

LookUp = Callable[[Sequence[str], int], Mapping[str, int]]
"""(event ids, day number since the epoch) -> digest of the payload of those that the lake held for that day at the start."""

RECENT_DAYS = 3
"""How many days of event time are in memory from the start. What is accepted later stays there as well."""


class Seen(Enum):
    """What is known of an event id."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


class KnownIds:
    """Event ids with a digest of their payload."""

    def __init__(self, *, complete_from_day: int, look_up: LookUp | None = None) -> None:
        """Start with nothing seen.

        Args:
            complete_from_day: `remember` is told every id of this day (since the epoch) and later ones.
            look_up: answers for earlier days.
        """
        self._digests: dict[str, int] = {}
        self._complete_from = complete_from_day
        self._look_up = look_up

    def __len__(self) -> int:
        return len(self._digests)

    def remember(self, event_ids: Sequence[str], digests: Sequence[int]) -> None:
        """Take ids as seen, such as those that the lake already holds at start."""
        self._digests.update(zip(event_ids, digests, strict=True))

    def check(self, event_ids: Sequence[str], event_us: Sequence[int], digests: Sequence[int]) -> list[Seen]:
        """What each event of a batch is, in order; new ones are remembered."""
        self._look_up_old(event_ids, event_us)
        known, found = self._digests, []
        for event_id, digest in zip(event_ids, digests, strict=True):
            before = known.get(event_id)
            if before is None:
                self._digests[event_id] = digest
                found.append(Seen.NEW)
            else:
                found.append(Seen.DUPLICATE if before == digest else Seen.CONFLICT)
        return found

    def _look_up_old(self, event_ids: Sequence[str], event_us: Sequence[int]) -> None:
        if self._look_up is None or (event_us and min(event_us) // DAY_US >= self._complete_from):
            return
        wanted: dict[int, list[str]] = defaultdict(list)
        for event_id, time_us in zip(event_ids, event_us, strict=True):
            day = time_us // DAY_US
            if day < self._complete_from and event_id not in self._digests:
                wanted[day].append(event_id)
        for day, ids in wanted.items():
            self._digests.update(self._look_up(ids, day))
