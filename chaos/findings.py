"""What a run has found, added up over rounds and seeds."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Findings:
    """Counts, and for people a line about each thing that is not as it should be."""

    seeds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """Those that happened: a fail point that nobody met did not."""
    disorder_s: float = 0.0
    """How long faults were drawn."""
    values: int = 0
    """Served values that were compared."""
    unequal: int = 0
    """Values that are not what they should have been."""
    lost: int = 0
    """Accepted events that the lake does not have, and parts of partitions that were seen without the rest."""
    duplicated: int = 0
    """Events that count twice, or that nobody has published."""
    regressed: int = 0
    """Older values that a reader was given after newer ones."""
    judged: int = 0
    """Vectors with something to believe that readers were given, and that were compared."""
    excused: int = 0
    """Such vectors whose knowledge the server lost before the lake had it: they were not."""
    unsettled: int = 0
    """Rounds after which the deployment did not come to rest."""
    told: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Faults a minute, over the time in which they were drawn."""
        return self.faults.total() * 60 / self.disorder_s if self.disorder_s else 0.0

    @property
    def is_clean(self) -> bool:
        """Whether every promise held."""
        return not (self.unequal or self.lost or self.duplicated or self.regressed or self.unsettled)

    def tell(self, line: str) -> None:
        """Note something for people."""
        self.told.append(line)
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def __str__(self) -> str:
        return (
            f"chaos: seeds={self.seeds} faults={self.faults.total()} values={self.values} unequal={self.unequal} "
            f"lost={self.lost} duplicated={self.duplicated} regressed={self.regressed}"
        )
