"""Which part of the events a draft works on: a share of the entities, a span of times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.errors import InputError
from feature_store.time_rule import DAY_US, from_us
from feature_store.transforms.catalogue import Ints

if TYPE_CHECKING:
    from feature_store.declare.view import FeatureView
    from feature_store.transforms.compiled import Compiled

_PARTS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A share of the entities of each kind, chosen by a hash of their keys, and the times that may be asked about.

    All events that the windows of these entities hold at these times belong to it, so their values are exact.
    """

    share: float = 1.0
    start_us: int | None = None
    """The first time that may be asked about; None: as far back as events go."""
    end_us: int | None = None
    """The last one; None: as long as the events are complete."""

    def __post_init__(self) -> None:
        share: object = self.share
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise InputError(f"`sample` must be a share of the entities, more than 0 and at most 1, got {share!r}")
        if self.start_us is not None and self.end_us is not None and self.start_us >= self.end_us:
            raise InputError(
                f"`start` must lie before `end`, got {show_time(self.start_us)} and {show_time(self.end_us)}"
            )

    @property
    def is_whole(self) -> bool:
        """True if no entity is left out."""
        return self.share == 1

    def has_sql(self, view: FeatureView, key_sql: str) -> str:
        """SQL: whether the entity of a view with this canonical key is in the sample; the one of a global view is."""
        is_in = self.is_whole or not view.entity.join_keys
        return "TRUE" if is_in else f"md5_number_upper({key_sql}) % {_PARTS} < {round(self.share * _PARTS)}"

    def events_sql(self, compiled: Compiled, source: str) -> str:
        """SQL: whether an event of the source is in the sample. What a label reads is there whole."""
        if self.is_whole or any(label.outcome.source.name == source for label in compiled.registry.labels):
            return "TRUE"
        return " OR ".join(
            f"coalesce({self.has_sql(plan.view, plan.key_sql)}, FALSE)" for plan in compiled.plans_of(source)
        )

    def span_of(self, compiled: Compiled, source: str) -> tuple[int | None, int | None]:
        """[first, last) of the event times that can matter to views and labels of a source; None: no bound."""
        back = [_reach_us(view) for view in compiled.registry.views_of(source)]
        ahead = [label.within_us for label in compiled.registry.labels if label.outcome.source.name == source]
        longest = None if None in back else max((each for each in back if each is not None), default=0)
        first = None if self.start_us is None or longest is None else self.start_us - longest
        return first, None if self.end_us is None else self.end_us + max(ahead, default=0)

    def check_times(self, times_us: Ints) -> None:
        """Refuse times outside the span.

        Raises:
            InputError: naming the span and the time asked for.
        """
        if not len(times_us):
            return
        first, last = int(times_us.min()), int(times_us.max())
        is_early = self.start_us is not None and first < self.start_us
        if is_early or (self.end_us is not None and last > self.end_us):
            raise InputError(
                f"the draft knows the times {self.span}, but {show_time(first if is_early else last)} was asked for; "
                "make one with other `start` and `end`"
            )

    @property
    def span(self) -> str:
        """The span in words."""
        if self.start_us is None and self.end_us is None:
            return "that the lake has"
        start = "the beginning" if self.start_us is None else show_time(self.start_us)
        return f"from {start} to {'the end' if self.end_us is None else show_time(self.end_us)}"


WHOLE = Sample()
"""All entities, at all times."""


def _reach_us(view: FeatureView) -> int | None:
    """How long before a time an event may be and matter to a view's value; a batch row is up to a step older."""
    longest = view.longest_window_us
    return None if longest is None else longest + (view.every_us if view.is_batch else 0)


def show_time(time_us: int) -> str:
    """A UTC time as short as it can be said."""
    moment = from_us(time_us)
    return f"{moment:%Y-%m-%d}" if time_us % DAY_US == 0 else f"{moment:%Y-%m-%d %H:%M:%S}"


def show_share(share: float) -> str:
    """A share as a percentage of at most four digits."""
    return f"{share * 100:.4g} %"
