"""What a training set was made from: with it, the same bytes can be made again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from feature_store.errors import InputError
from feature_store.history.knowledge import KnowledgeReport

Knowledge = Literal["served", "corrected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The declarations, the state of the lake and the spine behind a training set."""

    service: str | None
    """`name@version`, or None for a list of features."""
    features: Sequence[str]
    """`view@version:feature`, or the name of a ratio, in the order of the columns."""
    fingerprints: Mapping[str, str]
    """Feature (`view@version:feature`, with its role), ratio, label or service -> digest of its definition."""
    knowledge: Knowledge
    snapshot: int
    """The lake's snapshot at which everything was read."""
    positions: Mapping[str, Mapping[int, int]]
    """Source -> partition -> the first offset of the log that the snapshot does not have."""
    time_column: str
    statuses: bool
    allow_incomplete: bool
    until_us: int
    """Until when windows of labels could have closed; without labels beyond any time."""
    spine_digest: str
    rows: int
    known: KnowledgeReport
    """How the rows knew their events, and what hindsight would change."""
    stale_days: Mapping[str, Sequence[str]]
    """Batch view -> days whose rows were built before their events changed."""
    labels: Mapping[str, int]
    """Label -> rows that are null because its window had not closed."""

    @property
    def recomputed(self) -> Mapping[str, int]:
        """`view@version` -> rows with a window that held events which were not known by the row's time."""
        return {name: view.recomputed for name, view in self.known.views.items()}

    def to_json(self) -> str:
        """As JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """What `to_json` wrote.

        Raises:
            InputError: it is something else.
        """
        import msgspec

        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError as error:
            raise InputError(f"this is no manifest of a training set: {error}") from error
