"""Which events have been seen: what was accepted last in memory, everything before it, of any age, in the lake."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import compress
from typing import Protocol

import numpy as np

from feature_store.fold.id_hashes import Hashes, IdHashes
from feature_store.log.protocol import unpack_offset
from feature_store.time_rule import DAY_US

RECENT = 100_000
"""Ids accepted last that stay in memory as they are, in portions of so many; older ones wait there for the lake."""


class LookUp(Protocol):
    """Asks the lake."""

    def __call__(self, event_ids: Sequence[str], days: tuple[int, int] | None, before: int) -> Mapping[str, int]:
        """Id -> digest of the payload, of those that the lake has of what lies before an offset.

        Args:
            event_ids: the ids.
            days: the first and the last day (since the epoch) of event time to look at; None: all.
            before: the log from this offset on counts as not read yet, though the lake may have it already.
        """


class Seen(Enum):
    """What is known of an event id."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class _Portion:
    """Ids that were accepted one after the other, between two offsets."""

    ids: Sequence[str]
    hashes: Hashes
    begin: int
    end: int


class KnownIds:
    """The event ids of one partition, with a digest of their payload.

    An id leaves memory once the lake has its event; eight bytes of it stay, so that the lake is asked about ids which it
    very likely has, and about no others.
    """

    def __init__(
        self,
        *,
        held: IdHashes | None = None,
        look_up: LookUp | None = None,
        archived: Callable[[], int] | None = None,
        recent: int = RECENT,
    ) -> None:
        """Start with what the lake holds.

        Args:
            held: the ids that may be asked for with `look_up`.
            look_up: asks the lake.
            archived: the offset up to which the lake has the partition by now; without it nothing ever leaves memory.
            recent: how many ids make a portion.
        """
        self._held = held or IdHashes()
        self._look_up, self._archived, self._recent = look_up, archived, recent
        self._digests: dict[str, int] = {}
        self._portions: list[_Portion] = []
        self._ids: list[str] = []
        self._begin = 0
        self._hashes: list[Hashes] = []

    def __len__(self) -> int:
        """How many ids are in memory as they are."""
        return len(self._digests)

    def check(
        self,
        event_ids: Sequence[str],
        event_us: Sequence[int],
        digests: Sequence[int],
        *,
        hashes: Hashes,
        span: tuple[int, int],
    ) -> list[Seen]:
        """What each event of a batch is, in order; new ones are remembered.

        `span` is the batch's first offset and the one after its last.
        """
        old = self._old(event_ids, event_us, hashes, before=span[0])
        known, found, fresh = self._digests, [], []
        for row, (event_id, digest) in enumerate(zip(event_ids, digests, strict=True)):
            before = known.get(event_id, old.get(event_id))
            if before is None:
                known[event_id] = digest
                fresh.append(row)
                found.append(Seen.NEW)
            else:
                found.append(Seen.DUPLICATE if before == digest else Seen.CONFLICT)
        self._remember([event_ids[row] for row in fresh], hashes[fresh], span)
        return found

    def _old(
        self, event_ids: Sequence[str], event_us: Sequence[int], hashes: Hashes, *, before: int
    ) -> Mapping[str, int]:
        """Digests of those ids that left memory or were never in it: first looked for on the days of the events."""
        if self._look_up is None:
            return {}
        likely = self._held.contains(hashes)
        if not likely.any():
            return {}
        days = [time_us // DAY_US for time_us in compress(event_us, likely)]
        wanted = list(compress(event_ids, likely))
        found = dict(self._look_up(wanted, (min(days), max(days)), before))
        missing = [event_id for event_id in wanted if event_id not in found and event_id not in self._digests]
        return found | dict(self._look_up(missing, None, before)) if missing else found

    def _remember(self, event_ids: Sequence[str], hashes: Hashes, span: tuple[int, int]) -> None:
        self._begin = self._begin if self._ids else span[0]
        self._ids.extend(event_ids)
        self._hashes.append(hashes)
        if len(self._ids) >= self._recent and self._archived is not None:
            self._portions.append(_Portion(self._ids, np.concatenate(self._hashes), self._begin, span[1]))
            self._ids, self._hashes = [], []
            self._release(self._archived())

    def _release(self, archived: int) -> None:
        """Let go of the ids that can be looked up."""
        while self._portions and self._portions[0].end <= archived:
            portion = self._portions.pop(0)
            self._held.add(portion.hashes)
            for event_id in self._within_the_lake(portion, archived):
                del self._digests[event_id]

    def _within_the_lake(self, portion: _Portion, archived: int) -> Iterable[str]:
        """Those that the lake has. It passes the end of an epoch without what the log lost there, which comes again."""
        if self._look_up is None or unpack_offset(portion.begin)[0] == unpack_offset(archived)[0]:
            return portion.ids
        return self._look_up(portion.ids, None, portion.end).keys() & self._digests.keys()
