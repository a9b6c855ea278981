"""What to fetch for a service and where each value goes: worked out once per service, used by every read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, NamedTuple

from feature_store.declare.entity import entity_key
from feature_store.errors import InputError, UnknownNameError
from feature_store.online.keys import features_prefix
from feature_store.online.layout import FeatureLayout, RatioItem, ServiceLayout, StoredItem, Value, ViewLayout
from feature_store.reader.vector import Names
from feature_store.time_rule import from_us

Convert = Callable[[Any], object]
Command = tuple[str | bytes, ...]


class Slot(NamedTuple):
    """One feature of a packed row and where its value goes."""

    position: int
    """In the vector; parts of ratios that are not served stand behind the served ones."""
    item: int
    """Among the items of a packed row; -1: rows of this layout do not have it."""
    convert: Convert | None
    """Of timestamps and dates, from the integers as which they travel."""
    empty: Value | list[Value]
    """The value of an empty window."""


@dataclass(slots=True, kw_only=True)
class ViewRead:
    """What a read takes from one view."""

    id: str
    layout: ViewLayout
    is_stream: bool
    """True if the flow keeps it fresh, False if rows of it are published."""
    layouts: dict[int, tuple[Slot, ...]] = field(default_factory=dict)
    """Of each layout that rows may still have."""

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Of the layout in use."""
        return self.layouts[self.layout.layout_id]

    def learn(self, layout: ViewLayout) -> None:
        """Prepare for rows that were written with another layout."""
        names = {feature.name: i for i, feature in enumerate(layout.features)}
        mine = [feature.name for feature in self.layout.features]
        self.layouts[layout.layout_id] = tuple(
            slot._replace(item=names.get(mine[slot.item], -1)) for slot in self.slots
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityRead:
    """One entity that a request must name."""

    name: str
    join_keys: tuple[str, ...]

    def key(self, row: Mapping[str, object]) -> str | None:
        """The canonical key of a row's entity; None if a join key is null.

        Raises:
            InputError: if a join key is missing.
        """
        try:
            parts = [row[name] for name in self.join_keys]
        except KeyError as error:
            raise InputError(f"entity '{self.name}' needs the join key `{error.args[0]}`, got {_listed(row)}") from None
        if len(parts) == 1 and type(parts[0]) is str and parts[0].isalnum():
            return parts[0]  # the usual case: one text without anything to escape
        # NaN is how a column of floats spells null, and the only value that is not itself.
        return entity_key([None if isinstance(part, float) and part != part else part for part in parts])  # noqa: PLR0124


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """One HMGET per row: the views of one entity under one key."""

    key: int
    prefix: str
    fields: tuple[str, ...]
    views: tuple[int, ...]


class RatioRead(NamedTuple):
    """A quotient and the positions of its parts."""

    position: int
    numerator: int
    denominator: int
    empty: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPlan:
    """Everything that reads of one service share."""

    service: ServiceLayout
    names: Names
    width: int
    """Values with those that only ratios need."""
    entities: tuple[EntityRead, ...]
    fetches: tuple[Fetch, ...]
    views: tuple[ViewRead, ...]
    ratios: tuple[RatioRead, ...]
    defaults: tuple[Value, ...]


def plan_read(env: str, service: ServiceLayout, layouts: Mapping[str, ViewLayout]) -> ReadPlan:
    """The plan of a service.

    Args:
        env: the environment.
        service: what is read.
        layouts: the layouts in use by `view@version`.

    Raises:
        UnknownNameError: if a view or a feature of the service is not served online.
    """
    builder = _Builder(layouts)
    for position, item in enumerate(service.features):
        if isinstance(item, StoredItem):
            builder.place(item, position)
    width = len(service.features)
    ratios: list[RatioRead] = []
    for position, item in enumerate(service.features):
        if isinstance(item, RatioItem):
            top = builder.position_of(item.numerator, width)
            width = max(width, top + 1)
            bottom = builder.position_of(item.denominator, width)
            width = max(width, bottom + 1)
            ratios.append(RatioRead(position, top, bottom, item.empty))
    return ReadPlan(
        service=service,
        names=_names(service, builder),
        width=width,
        entities=tuple(builder.entities),
        fetches=_fetches(env, builder),
        views=builder.view_reads(),
        ratios=tuple(ratios),
        defaults=tuple(_default(service, item) for item in service.features),
    )


class _Builder:
    """Collects views, entities and slots while a service's features are walked through."""

    def __init__(self, layouts: Mapping[str, ViewLayout]) -> None:
        self.layouts = layouts
        self.views: dict[str, ViewLayout] = {}
        self.entities: list[EntityRead] = []
        self.slots: dict[str, list[Slot]] = {}
        self.positions: dict[tuple[str, str], int] = {}

    def position_of(self, item: StoredItem, free: int) -> int:
        """Where a feature stands; at `free` if it stood nowhere before."""
        key = (f"{item.view}@{item.version}", item.feature)
        if key not in self.positions:
            self.place(item, free)
        return self.positions[key]

    def place(self, item: StoredItem, position: int) -> None:
        view = self._view(f"{item.view}@{item.version}")
        names = [feature.name for feature in view.features]
        if item.feature not in names:
            raise UnknownNameError(f"feature of view '{view.id}'", item.feature, names)
        index = names.index(item.feature)
        self.slots[view.id].append(_slot(position, index, view.features[index]))
        self.positions.setdefault((view.id, item.feature), position)

    def _view(self, view_id: str) -> ViewLayout:
        if view_id not in self.layouts:
            raise UnknownNameError("online view", view_id, [name for name in self.layouts if "#" not in name])
        view = self.views.setdefault(view_id, self.layouts[view_id])
        self.slots.setdefault(view_id, [])
        entity = EntityRead(name=view.entity, join_keys=tuple(view.join_keys))
        if entity not in self.entities:
            self.entities.append(entity)
        return view

    def entity_of(self, view: ViewLayout) -> int:
        return self.entities.index(EntityRead(name=view.entity, join_keys=tuple(view.join_keys)))

    def view_reads(self) -> tuple[ViewRead, ...]:
        return tuple(
            ViewRead(
                id=view.id,
                layout=view,
                is_stream=view.online == "stream",
                layouts={view.layout_id: tuple(self.slots[view.id])},
            )
            for view in self.views.values()
        )


def _fetches(env: str, builder: _Builder) -> tuple[Fetch, ...]:
    views: dict[tuple[int, str], list[int]] = {}
    ids = list(builder.views)
    for i, view in enumerate(builder.views.values()):
        prefix = features_prefix(env, view.entity, personal=view.personal)
        views.setdefault((builder.entity_of(view), prefix), []).append(i)
    return tuple(
        Fetch(key=key, prefix=prefix, fields=tuple(ids[i] for i in members), views=tuple(members))
        for (key, prefix), members in views.items()
    )


def _names(service: ServiceLayout, builder: _Builder) -> Names:
    positions: dict[str, int] = {}
    view_of: list[int | None] = []
    ids = list(builder.views)
    for position, item in enumerate(service.features):
        positions[item.name] = position
        if isinstance(item, StoredItem):
            positions.setdefault(f"{item.view}@{item.version}:{item.feature}", position)
        view_of.append(ids.index(f"{item.view}@{item.version}") if isinstance(item, StoredItem) else None)
    return Names(service.name, tuple(item.name for item in service.features), positions, tuple(ids), tuple(view_of))


def _default(service: ServiceLayout, item: StoredItem | RatioItem) -> Value:
    """The declared default of a feature, under its name with or without the view's version."""
    if isinstance(item, StoredItem):
        pinned = f"{item.view}@{item.version}:{item.feature}"
        return service.defaults.get(item.name, service.defaults.get(pinned))
    return service.defaults.get(item.name)


def _slot(position: int, index: int, feature: FeatureLayout) -> Slot:
    convert: Convert | None = None
    if feature.dtype in ("timestamp", "date"):
        convert = _to_time if feature.dtype == "timestamp" else _to_date
        convert = _each(convert) if feature.is_list else convert
    return Slot(position, index, convert, feature.empty)


def _to_time(micros: int) -> object:
    return from_us(micros)


def _to_date(days: int) -> object:
    return date(1970, 1, 1) + timedelta(days=days)


def _each(convert: Convert) -> Convert:
    return lambda values: [convert(value) for value in values]


def _listed(row: Mapping[str, object]) -> str:
    return ", ".join(f"`{name}`" for name in row) or "no keys"


def commands_of(plan: ReadPlan, keys: Sequence[Sequence[str | None]]) -> list[Command]:
    """One HMGET for every row, entity and kind of key, except for null keys; row by row."""
    return [
        ("HMGET", f"{fetch.prefix}{key}}}", *fetch.fields)
        for row in keys
        for fetch in plan.fetches
        if (key := row[fetch.key]) is not None
    ]
