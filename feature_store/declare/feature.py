"""One named value of a view, and the functions that declare it: `agg.count(over="1h")`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from feature_store.errors import InputError, shown
from feature_store.time_rule import DAY_US, MAX_TILES, default_hop_us, format_duration, parse_duration

Duration = str | timedelta
AS = " as "
"""Stands between a feature and the role in which it is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """An aggregate of an expression over a window, as the registry and both paths see it."""

    name: str
    aggregate: str
    """Its row in `transforms.catalogue`."""
    column: str | None
    """SQL over the source's columns; None for `count`."""
    window_us: int | None
    """None: every event before the asked time."""
    hop_us: int
    """The step of the window's tail; a day for lifetimes, whose tail never moves."""
    cap: int | None = None
    """How many values `last_n` keeps and `count_distinct` counts at most."""
    description: str = ""

    @property
    def window_error(self) -> float:
        """By how much of its length the window may be too long: hop / window."""
        return 0.0 if self.window_us is None else self.hop_us / self.window_us


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSpec:
    """What `agg.*` returns: one declaration, one feature per window."""

    aggregate: str
    column: str | None
    over: Sequence[Duration | None]
    hop: Duration | None
    cap: int | None
    name: str | None
    description: str

    def features(self) -> list[Feature]:
        """The features of this declaration, one per window.

        Raises:
            ValueError: if a duration, the hop or the name breaks a rule.
        """
        if self.name is not None and len(self.over) > 1:
            raise ValueError(f"`name` must stand with one window, got name={self.name!r} and {len(self.over)} windows")
        return [self._feature(over) for over in self.over]

    def _feature(self, over: Duration | None) -> Feature:
        window = None if over is None else parse_duration(over)
        return Feature(
            name=self.name or self._derived_name(over),
            aggregate=self.aggregate,
            column=None if self.column is None else self.column.strip(),
            window_us=window,
            hop_us=self._hop_us(window),
            cap=self.cap,
            description=self.description,
        )

    def _hop_us(self, window_us: int | None) -> int:
        if window_us is None:
            return DAY_US
        if self.hop is None:
            return _checked_default(window_us)
        hop = parse_duration(self.hop, name="hop")
        if window_us % hop:
            raise ValueError(f"`hop` must divide the window {format_duration(window_us)}, got {format_duration(hop)}")
        return hop

    def _derived_name(self, over: Duration | None) -> str:
        if self.column is not None and not re.fullmatch(r"[A-Za-z_]\w*", self.column.strip()):
            raise ValueError(f"`name` must be given for the expression {self.column!r}")
        parts = [self.column.strip()] if self.column else []
        parts.append(f"{self.aggregate}{self.cap}" if self.aggregate == "last_n" else self.aggregate)
        if over is not None:
            parts.append(
                format_duration(parse_duration(over)) if isinstance(over, timedelta) else over.replace(" ", "")
            )
        return "_".join(parts).replace("last_n", "last_")


def _checked_default(window_us: int) -> int:
    """The default hop, unless it makes so many tiles that they must be asked for."""
    hop = default_hop_us(window_us)
    if window_us // hop > MAX_TILES:
        raise ValueError(
            f"`hop` must be given for the window {format_duration(window_us)}, because the default of "
            f"{format_duration(hop)} makes {window_us // hop} tiles, more than {MAX_TILES}"
        )
    return hop


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """In which a view is read: by which columns, and under which names."""

    prefix: str
    """Stands before the view's name in the names of its features."""
    columns: Sequence[tuple[str, str]]
    """(join key, column that holds its value instead), where they differ."""


OWN = Role(prefix="", columns=())
"""The role of a view that is read by its own join keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRef:
    """A feature of a view, by name: `view:feature` or `view@version:feature`."""

    view: str
    version: int | None
    feature: str
    role: Role = OWN

    @classmethod
    def parse(cls, text: str) -> FeatureRef:
        """Read `view:feature` or `view@2:feature`.

        Raises:
            InputError: for any other form.
        """
        match = re.fullmatch(r"(\w+)(?:@(\d{1,9}))?:(\w+)", text) if type(text) is str else None
        if match is None:
            raise InputError(f"a feature must be named as 'view:feature' or 'view@2:feature', got {shown(text)}")
        return cls(view=match[1], version=int(match[2]) if match[2] else None, feature=match[3])

    def __str__(self) -> str:
        return f"{self.read_id}:{self.feature}"

    @property
    def meaning(self) -> str:
        """What is read, in full: `view@2:feature`, in a role `view@2:feature as dest_(origin=dest)`."""
        plain = f"{self.view_id}:{self.feature}"
        columns = ", ".join(f"{key}={column}" for key, column in sorted(self.role.columns))
        return plain if self.role == OWN else f"{plain}{AS}{self.role.prefix}({columns})"

    @property
    def name(self) -> str:
        """`view:feature`, with the role's prefix: under which it is served."""
        return f"{self.role.prefix}{self.view}:{self.feature}"

    @property
    def view_id(self) -> str:
        """`view@version`."""
        return self.view if self.version is None else f"{self.view}@{self.version}"

    @property
    def read_id(self) -> str:
        """`view@version`, with the role's prefix."""
        return f"{self.role.prefix}{self.view_id}"

    @property
    def refs(self) -> tuple[FeatureRef, ...]:
        """The stored features that it is made of: itself."""
        return (self,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """One stored feature divided by another, computed when it is read: in training and in serving alike."""

    name: str
    numerator: FeatureRef
    denominator: FeatureRef
    empty: float | None
    """The value when a part has none or the denominator is zero."""
    description: str = field(default="")

    @property
    def refs(self) -> tuple[FeatureRef, ...]:
        """The stored features that it is made of."""
        return (self.numerator, self.denominator)
