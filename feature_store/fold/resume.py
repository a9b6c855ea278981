"""Going on where a log begins, when its retention has passed what the lake has of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.errors import LogGap, LogTailLost
from feature_store.fold.intake import no_events
from feature_store.log.protocol import unpack_offset

if TYPE_CHECKING:
    from feature_store.lake import Lake
    from feature_store.log.protocol import EventLog
    from feature_store.transforms.compiled import Compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """What a partition lost to retention before the lake had it."""

    position: int
    """Where the lake stood."""
    first: int
    """Where it goes on: the first record that is left."""
    arrived_us: int | None
    """When that one arrived; None if there is none yet."""

    @property
    def records(self) -> int | None:
        """How many are gone; None if that cannot be said, because an epoch ended among them."""
        (epoch, n), (first_epoch, first_n) = unpack_offset(self.position), unpack_offset(self.first)
        return first_n - n if epoch == first_epoch else None


def resume(compiled: Compiled, lake: Lake, log: EventLog, source: str) -> dict[int, GivenUp]:
    """Go on where the log begins, in every partition whose retention has passed the lake's position.

    The records between are given up; load their days from the source's history. Stop the archiver before.

    Raises:
        PositionConflict: an archiver has committed meanwhile; nothing was changed.
        LogError: the log cannot be read.
    """
    positions = lake.positions(source)
    given_up = {p: gap for p, position in positions.items() if (gap := _given_up(log, p, position)) is not None}
    if given_up:
        lake.append_live(
            source,
            no_events(compiled.registry.source(source), compiled.schemas[source]),
            owner="resume",
            start={p: gap.position for p, gap in given_up.items()},
            end={p: gap.first for p, gap in given_up.items()},
        )
    return given_up


def _given_up(log: EventLog, partition: int, position: int) -> GivenUp | None:
    try:
        log.read(partition, position, max_records=1)
    except LogGap as gap:
        left = log.read(partition, gap.first, max_records=1)
        arrived_us = left[0].arrived_us if left else None
        return GivenUp(position=position, first=gap.first, arrived_us=arrived_us)
    except LogTailLost:
        return None  # nothing that the lake lacks is gone; the stream goes on by itself
    return None
