"""How a training set knew its events, and what hindsight would change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from feature_store.history.served import DECLARED, GUESSED, MEASURED, RowFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewKnowledge:
    """One view at the rows of a spine. Rows with a null join key know nothing and are in none of the three kinds."""

    measured: int = 0
    """Rows whose knowledge follows from commit records, or from when batch rows were there."""
    declared: int = 0
    """Rows of which an event's arrival was recorded, but not when it became visible."""
    assumed: int = 0
    """Rows with an event that counts as arrived when it happened, or with a batch row that counts as there at its time."""
    recomputed: int = 0
    """Rows with a window that held events which were not known by the row's time."""
    differing_rows: int = 0
    """Rows of which hindsight would change a value."""
    differing_values: int = 0
    """Values that hindsight would change."""

    @classmethod
    def of(cls, facts: RowFacts) -> ViewKnowledge:
        """The counts of one view."""
        return cls(
            measured=int((facts.kind == MEASURED).sum()),
            declared=int((facts.kind == DECLARED).sum()),
            assumed=int((facts.kind == GUESSED).sum()),
            recomputed=int(facts.recomputed.sum()),
            differing_rows=int((facts.differing > 0).sum()),
            differing_values=int(facts.differing.sum()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeReport:
    """What `served` and `corrected` knowledge have apart, in all views. Under `corrected` nothing is compared."""

    rows: int
    differing_rows: int
    """Rows with a value that hindsight would change, in any view."""
    differing_values: int
    views: Mapping[str, ViewKnowledge]
    """`view@version`, with the prefix of its role."""

    @classmethod
    def of(cls, facts: Mapping[str, RowFacts | None], *, rows: int) -> KnowledgeReport:
        """The report on a training set of so many rows."""
        told = [found for found in facts.values() if found is not None]
        differing = np.sum([found.differing for found in told], axis=0) if told else np.zeros(rows, dtype=np.int64)
        return cls(
            rows=rows,
            differing_rows=int((differing > 0).sum()),
            differing_values=int(differing.sum()),
            views={name: ViewKnowledge() if one is None else ViewKnowledge.of(one) for name, one in facts.items()},
        )

    def __str__(self) -> str:
        lines = [
            f"{self.differing_rows:,} of {self.rows:,} rows differ from hindsight, in {self.differing_values:,} values"
        ]
        for name, view in self.views.items():
            kinds = f"measured {view.measured:,}, declared {view.declared:,}, assumed {view.assumed:,} rows"
            lines.append(f"{name}: {kinds}; {view.differing_values:,} values differ in {view.differing_rows:,}")
        return "\n".join(lines)
