"""What features are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing that has features: a customer, an airport, or a pair such as (origin, carrier)."""

    name: str
    join_keys: Sequence[str] = field(kw_only=True)
    """Columns that identify it, in the order in which they form its key: integers, text, booleans, dates or bytes."""
    description: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        keys = (self.join_keys,) if isinstance(self.join_keys, str) else tuple(self.join_keys)
        object.__setattr__(self, "join_keys", keys)


GLOBAL = Entity("global", join_keys=(), description="Everything")
"""What a view without an entity is about: there is one of it."""


def or_everything(entity: Entity | None) -> Entity:
    """The entity, or what stands for None."""
    return GLOBAL if entity is None else entity
