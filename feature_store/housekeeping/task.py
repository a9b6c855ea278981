"""What every task of housekeeping is given, and what it tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from feature_store.deployment import Deployment

SNAPSHOT_DAYS = 30
"""For how many days every snapshot stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What may go."""

    dry_run: bool = False
    """Only say what would go: the same figures, and nothing is changed."""
    days: int = SNAPSHOT_DAYS
    """Every snapshot of the lake of so many days stays."""
    environments: Sequence[str] = ()
    """Other environments of this lake, whose old snapshots go too."""
    retire: bool = False
    """Views and services that are declared no more go too, where nothing uses them."""


class Kept(NamedTuple):
    """Something that stays although it is old."""

    what: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidied:
    """What a task did, or in a dry run would do."""

    task: str
    figures: Mapping[str, int]
    """What was counted -> how much: `files`, `bytes`, `records`."""
    examined: int = 0
    """How many things were looked at, where that is not plain."""
    details: Mapping[str, str] = field(default_factory=dict)
    """What went, by name: a table, a source, a view."""
    kept: Sequence[Kept] = ()


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "file"), counted(2000, "file")
    ('1 file', '2,000 files')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task."""

    name: str
    about: str
    run: Callable[[Deployment, Options], Tidied]
