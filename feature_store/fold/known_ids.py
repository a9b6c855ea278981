"""Which events have been seen: the recent ones in memory, older ones looked up in the lake."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from feature_store.time_rule import DAY_US

LookUp = Callable[[Sequence[str], int], Mapping[str, int]]
"""(event ids, day number since the epoch) -> digest of the payload of those that the lake holds for that day."""

RECENT_DAYS = 3
"""How many days of event time are kept in memory, counted back from the newest event seen."""


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
        self._by_day: dict[int, list[str]] = defaultdict(list)
        self._newest_day = complete_from_day
        self._complete_from = complete_from_day
        self._look_up = look_up

    def __len__(self) -> int:
        return len(self._digests)

    def remember(self, event_ids: Sequence[str], event_us: Sequence[int], digests: Sequence[int]) -> None:
        """Take ids as seen, such as those that the lake already holds at start."""
        for event_id, time_us, digest in zip(event_ids, event_us, digests, strict=True):
            self._add(event_id, time_us // DAY_US, digest)

    def check(self, event_ids: Sequence[str], event_us: Sequence[int], digests: Sequence[int]) -> list[Seen]:
        """What each event of a batch is, in order; new ones are remembered."""
        self._look_up_old(event_ids, event_us)
        known, found = self._digests, []
        for event_id, time_us, digest in zip(event_ids, event_us, digests, strict=True):
            before = known.get(event_id)
            if before is None:
                self._add(event_id, time_us // DAY_US, digest)
                found.append(Seen.NEW)
            else:
                found.append(Seen.DUPLICATE if before == digest else Seen.CONFLICT)
        return found

    def forget_before(self, day: int) -> None:
        """Drop the ids of earlier days from memory; only when the lake holds all of them."""
        for old in [known for known in self._by_day if known < day]:
            for event_id in self._by_day.pop(old):
                self._digests.pop(event_id, None)
        self._complete_from = max(self._complete_from, day)

    @property
    def newest_day(self) -> int:
        """The newest day of event time seen."""
        return self._newest_day

    def _add(self, event_id: str, day: int, digest: int) -> None:
        self._digests[event_id] = digest
        self._by_day[day].append(event_id)
        self._newest_day = max(self._newest_day, day)

    def _look_up_old(self, event_ids: Sequence[str], event_us: Sequence[int]) -> None:
        if self._look_up is None or (event_us and min(event_us) // DAY_US >= self._complete_from):
            return
        wanted: dict[int, list[str]] = defaultdict(list)
        for event_id, time_us in zip(event_ids, event_us, strict=True):
            day = time_us // DAY_US
            if day < self._complete_from and event_id not in self._digests:
                wanted[day].append(event_id)
        for day, ids in wanted.items():
            for event_id, digest in self._look_up(ids, day).items():
                self._add(event_id, day, digest)
