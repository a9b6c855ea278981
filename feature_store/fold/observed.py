"""What may be counted of the stream while it works, by whoever wants to; the stream itself keeps no statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from feature_store.fold.intake import Accepted


class Observer(Protocol):
    """Is told what becomes of records; must be quick, and must not raise."""

    def took(self, source: str, accepted: Accepted) -> None:
        """A micro-batch of a partition was read, and each of its records decided about."""

    def committed(self, values: int, seconds: float) -> None:
        """So many values (of the archiver: records) were written, and are visible; writing them took so long."""


class Unobserved:
    """Nobody counts."""

    def took(self, source: str, accepted: Accepted) -> None:
        """Nothing."""

    def committed(self, values: int, seconds: float) -> None:
        """Nothing."""


UNOBSERVED = Unobserved()
