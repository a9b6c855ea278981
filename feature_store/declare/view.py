"""A feature view: features of one entity from one source."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from feature_store.declare.check import Checks
from feature_store.declare.entity import Entity, or_everything
from feature_store.declare.feature import Feature, FeatureRef, FeatureSpec, Role
from feature_store.declare.keyed import KeyedView
from feature_store.declare.source import EventSource
from feature_store.errors import InputError, UnknownNameError
from feature_store.time_rule import DAY_US, MINUTE_US, floor_us, parse_duration

Online = Literal["stream", "batch"]
LateEvents = Literal["correct", "ignore", "recompute"]

STREAM_SLA_US = 5 * MINUTE_US
"""How old the oldest unread record of a stream view may be where nothing is declared."""


@dataclass(frozen=True, slots=True, repr=False)
class FeatureView:
    """Features of one entity from one source, kept and versioned together.

    A stream view's value at `t` is its windows at `t`. A batch view has one row per entity for every step `every`:
    the row of `T` knows the events before `T` and is the view's value from `T` until the next row.
    """

    name: str
    entity: Entity = field(kw_only=True)
    """None: the features are of everything, one row without a key."""
    source: EventSource = field(kw_only=True)
    features: Sequence[FeatureSpec | Feature] = field(kw_only=True)
    where: str | None = field(default=None, kw_only=True)
    """SQL over the source's columns; other events are not in the view."""
    online: Online | None = field(default="stream", kw_only=True)
    """'stream': kept fresh by the flow; 'batch': published by Dagster; None: for training only, computed as a stream
    view is."""
    version: int = field(default=1, kw_only=True)
    every: str | timedelta = field(default="1d", kw_only=True)
    """The step of a batch view's rows; divides a day."""
    freshness_sla: str | timedelta | None = field(default=None, kw_only=True)
    """Stream: how old the oldest unread record may be, by default 5 minutes. Batch: how old a row may be, at least `every`,
    by default half as much again and 5 minutes more at least; past it a value is STALE."""
    late_events: LateEvents = field(default="correct", kw_only=True)
    lateness: str | timedelta | None = field(default=None, kw_only=True)
    """With `late_events="ignore"`: how late an event may arrive and still count."""
    score_own_event: bool = field(default=False, kw_only=True)
    """Of a stream view: keep also what each value was just before its newest event, so that a read `as_of` that event's time
    is exact although the event counts already."""
    owner: str | None = field(default=None, kw_only=True)
    description: str = field(default="", kw_only=True)
    tags: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    checks: Checks = field(default_factory=dict, kw_only=True, hash=False)
    """As of a source, by feature."""
    drift: Mapping[str, float | None] = field(default_factory=dict, kw_only=True, hash=False)
    """As of a source, by feature."""
    problems: Sequence[str] = field(default=(), init=False, compare=False)
    """What is wrong with the features declared; the registry reports it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "entity", or_everything(self.entity))
        expanded: list[Feature] = []
        problems: list[str] = []
        for spec in self.features:
            try:
                expanded.extend([spec] if isinstance(spec, Feature) else spec.features())
            except ValueError as error:
                problems.append(f"view '{self.name}': {error}")
        object.__setattr__(self, "features", tuple(expanded))
        object.__setattr__(self, "problems", tuple(problems))

    def __repr__(self) -> str:
        names = ", ".join(feature.name for feature in self.declared)
        return f"FeatureView({self.id} of {self.entity.name} from {self.source.name}: {names})"

    def _repr_html_(self) -> str:
        from feature_store.declare.shown import view_html

        return view_html(self)

    def __getitem__(self, feature: str) -> FeatureRef:
        """A handle on one feature; the name is checked at once."""
        self.feature(feature)
        return FeatureRef(view=self.name, version=self.version, feature=feature)

    def keyed(self, *, prefix: str, **columns: str) -> KeyedView:
        """The view in a second role: `keyed(origin="dest", prefix="dest_")` reads it for the airport in `dest`.

        Args:
            prefix: stands before the view's name in the names of the features.
            columns: join key -> the column of a request or a spine that holds its value.

        Raises:
            UnknownNameError: for a join key that the view's entity does not have.
            InputError: no column is another one, or the prefix cannot begin a name.
        """
        if not re.fullmatch(r"[A-Za-z_]\w*", prefix):
            raise InputError(f"`prefix` must be letters, digits and _, as the beginning of a name, got {prefix!r}")
        for key in columns:
            if key not in self.entity.join_keys:
                raise UnknownNameError(f"join key of view '{self.name}'", key, self.entity.join_keys)
        if not columns:
            keys = ", ".join(self.entity.join_keys)
            raise InputError(f"`keyed` must name a column for at least one join key of view '{self.name}' ({keys})")
        return KeyedView(self, Role(prefix=prefix, columns=tuple(columns.items())))

    def feature(self, name: str) -> Feature:
        """The feature of that name.

        Raises:
            UnknownNameError: listing the features there are.
        """
        for feature in self.declared:
            if feature.name == name:
                return feature
        raise UnknownNameError(f"feature of view '{self.name}'", name, [f.name for f in self.declared])

    @property
    def declared(self) -> tuple[Feature, ...]:
        """The features, one per window."""
        return tuple(f for f in self.features if isinstance(f, Feature))

    @property
    def id(self) -> str:
        """`name@version`: the name of its field in Redis."""
        return f"{self.name}@{self.version}"

    @property
    def is_batch(self) -> bool:
        """True if Dagster publishes its rows; otherwise its value is computed for the very moment asked."""
        return self.online == "batch"

    @property
    def is_personal(self) -> bool:
        """True if the view is tagged as personal data."""
        return self.tags.get("pii", "none") != "none"

    @property
    def every_us(self) -> int:
        """The step of a batch view's rows in microseconds."""
        return parse_duration(self.every, name="every")

    @property
    def freshness_sla_us(self) -> int:
        """`freshness_sla` in microseconds. A batch row is the newest until the next one is built and published."""
        if self.freshness_sla is not None:
            return parse_duration(self.freshness_sla, name="freshness_sla")
        return self.every_us + max(self.every_us // 2, STREAM_SLA_US) if self.is_batch else STREAM_SLA_US

    @property
    def longest_window_us(self) -> int | None:
        """Window and hop of the longest window: how far back events matter; None if a lifetime feature is among them."""
        spans = [None if f.window_us is None else f.window_us + f.hop_us for f in self.declared]
        if None in spans:
            return None
        return max((span for span in spans if span is not None), default=DAY_US)

    @property
    def lookback_days(self) -> int | None:
        """How many days before its own a day's rows read events of, back from their first step; None: all."""
        tails = [
            None if f.window_us is None else _tail_us(self.every_us - f.window_us, hop_us=f.hop_us)
            for f in self.declared
        ]
        if None in tails:
            return None
        return max((-(tail // DAY_US) for tail in tails if tail is not None and tail < 0), default=0)


def _tail_us(time_us: int, *, hop_us: int) -> int:
    """Where a window that reaches back to a time of a day begins at the earliest; hops may stand otherwise each day."""
    return floor_us(time_us, hop_us) if DAY_US % hop_us == 0 else time_us - hop_us + 1
