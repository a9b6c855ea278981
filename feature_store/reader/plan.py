"""What to fetch for a service and where each value goes: worked out once per service, used by every read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, NamedTuple

from feature_store.declare.key import KeyKind, entity_key
from feature_store.errors import InputError, UnknownNameError
from feature_store.online.keys import features_prefix
from feature_store.online.layout import (
    FeatureLayout,
    KeyedItem,
    RatioItem,
    ServiceLayout,
    StoredItem,
    Value,
    ViewLayout,
)
from feature_store.reader.vector import Names
from feature_store.time_rule import from_us

HASHES = 1 << 32
"""How many hashes of an entity there are."""

Convert = Callable[[Any], object]
Command = tuple[str | bytes, ...]
EntityId = tuple[str, tuple[str, ...]]
"""An entity and the columns of a request that name it."""


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
    name: str
    """As which it is read: its id, with the prefix of its role."""
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

    def give_up(self, layout_id: int) -> None:
        """Take a layout that nobody knows for one without features: their values are UNKNOWN."""
        self.layouts[layout_id] = tuple(slot._replace(item=-1) for slot in self.slots)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityRead:
    """One entity that a request must name."""

    told: str
    """What it is, for errors."""
    join_keys: tuple[str, ...]
    columns: tuple[str, ...]
    """Of the request, which hold their values."""
    kinds: tuple[KeyKind, ...]

    def key(self, row: Mapping[str, object]) -> str | None:
        """The canonical key of a row's entity; None if a join key is null.

        Raises:
            InputError: if a column is missing, or its value is no key of its kind.
        """
        try:
            parts = [row[name] for name in self.columns]
        except KeyError as error:
            raise self._missing(error.args[0], row) from None
        if len(parts) == 1 and type(parts[0]) is str and self.kinds[0] == "str" and parts[0].isalnum():
            return parts[0]  # the usual case: one text without anything to escape
        try:
            return entity_key(parts, self.kinds, columns=self.columns)
        except InputError as error:
            raise InputError(f"{self.told}: {error}") from None

    def _missing(self, column: str, row: Mapping[str, object]) -> InputError:
        key = self.join_keys[self.columns.index(column)]
        needs = f"the join key `{key}`" if key == column else f"the column `{column}` for its join key `{key}`"
        return InputError(f"{self.told} needs {needs}, got {_listed(row)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """One HMGET per row: the views of one entity under one key."""

    entity: int
    """Position among the plan's entities."""
    prefix: str
    fields: tuple[str, ...]
    views: tuple[ViewRead, ...]


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
    """Values, with those that only ratios need."""
    entities: tuple[EntityRead, ...]
    fetches: tuple[Fetch, ...]
    ratios: tuple[RatioRead, ...]
    defaults: tuple[Value, ...]
    log_below: int
    """Vectors of entities whose hash lies below are logged (`sample.is_chosen`)."""

    @property
    def personal(self) -> bool:
        """Whether a view with personal data is among what it reads."""
        return bool(self.names.personal_views)

    @property
    def layouts(self) -> dict[str, int]:
        """`view@version` -> layout in use."""
        return {view.id: view.layout.layout_id for fetch in self.fetches for view in fetch.views}


def plan_read(env: str, service: ServiceLayout, layouts: Mapping[str, ViewLayout]) -> ReadPlan:
    """The plan of a service.

    Args:
        env: the environment.
        service: what is read.
        layouts: the layouts in use by `view@version`.

    Raises:
        UnknownNameError: if a view or a feature of the service is not served online.
    """
    places = _Places(service, layouts)
    for position, item in enumerate(service.features):
        if isinstance(item, StoredItem):
            places.place(item, position)
    ratios = tuple(
        RatioRead(position, places.find(item.numerator), places.find(item.denominator), item.empty)
        for position, item in enumerate(service.features)
        if isinstance(item, RatioItem)
    )
    fetches = _fetches(env, places)
    return ReadPlan(
        service=service,
        names=_names(
            service,
            [view.name for fetch in fetches for view in fetch.views],
            tuple(_kind(item, layouts) for item in service.features),
            frozenset(item.name for item in service.features if _is_personal(item, layouts)),
            tuple(sorted({view.layout.view for fetch in fetches for view in fetch.views if view.layout.personal})),
        ),
        width=places.width,
        entities=tuple(places.entities.values()),
        fetches=fetches,
        ratios=ratios,
        defaults=tuple(_default(service, item) for item in service.features),
        log_below=round(service.log_rate * HASHES),
    )


class _Places:
    """Where the features of a service go, collected while it is walked through."""

    def __init__(self, service: ServiceLayout, layouts: Mapping[str, ViewLayout]) -> None:
        self.width = len(service.features)
        self.reads: dict[str, tuple[ViewLayout, EntityId]] = {}
        self.slots: dict[str, list[Slot]] = {}
        self.entities: dict[EntityId, EntityRead] = {}
        self._service, self._layouts = service, layouts
        self._positions: dict[tuple[str, str], int] = {}

    def find(self, item: StoredItem) -> int:
        """Where a feature stands; behind all others if it is not served itself."""
        key = (item.read_id, item.feature)
        if key not in self._positions:
            self.place(item, self.width)
            self.width += 1
        return self._positions[key]

    def place(self, item: StoredItem, position: int) -> None:
        """Put a feature at a position."""
        if item.view_id not in self._layouts:
            raise UnknownNameError("online view", item.view_id, self._layouts)
        view = self._layouts[item.view_id]
        names = [feature.name for feature in view.features]
        if item.feature not in names:
            raise UnknownNameError(f"feature of view '{item.view_id}'", item.feature, names)
        if item.read_id not in self.reads:
            self.reads[item.read_id] = (view, self._entity(item, view))
        index = names.index(item.feature)
        self.slots.setdefault(item.read_id, []).append(_slot(position, index, view.features[index]))
        self._positions.setdefault((item.read_id, item.feature), position)

    def _entity(self, item: StoredItem, view: ViewLayout) -> EntityId:
        """The entity of which a view is read: views that take it from the same columns share it."""
        told, renamed = f"entity '{view.entity}'", dict[str, str]()
        if isinstance(item, KeyedItem):
            told, renamed = f"service '{self._service.name}', role '{item.prefix}': {told}", item.columns
        columns = tuple(renamed.get(key, key) for key in view.join_keys)
        kinds: list[KeyKind] = view.key_kinds or ["str"] * len(columns)
        self.entities.setdefault(
            (view.entity, columns),
            EntityRead(told=told, join_keys=tuple(view.join_keys), columns=columns, kinds=tuple(kinds)),
        )
        return view.entity, columns


def _fetches(env: str, places: _Places) -> tuple[Fetch, ...]:
    """Views of one entity together, personal ones apart."""
    entities = list(places.entities)
    reads: dict[tuple[int, str], list[ViewRead]] = {}
    for name, (view, entity) in places.reads.items():
        prefix = features_prefix(env, view.entity, personal=view.personal)
        read = ViewRead(
            id=view.id,
            name=name,
            layout=view,
            is_stream=view.online == "stream",
            layouts={view.layout_id: tuple(places.slots[name])},
        )
        reads.setdefault((entities.index(entity), prefix), []).append(read)
    return tuple(
        Fetch(entity=entity, prefix=prefix, fields=tuple(view.id for view in views), views=tuple(views))
        for (entity, prefix), views in reads.items()
    )


def _names(
    service: ServiceLayout,
    views: Sequence[str],
    kinds: tuple[str, ...],
    personal: frozenset[str],
    personal_views: tuple[str, ...],
) -> Names:
    positions = {item.name: position for position, item in enumerate(service.features)}
    view_of: list[int | None] = []
    for position, item in enumerate(service.features):
        if isinstance(item, StoredItem):
            view_of.append(views.index(item.read_id))
            positions.setdefault(f"{item.read_id}:{item.feature}", position)
        else:
            view_of.append(None)
    features = tuple(item.name for item in service.features)
    return Names(service.id, features, positions, tuple(views), tuple(view_of), kinds, personal, personal_views)


def _is_personal(item: StoredItem | RatioItem, layouts: Mapping[str, ViewLayout]) -> bool:
    parts = [item.numerator, item.denominator] if isinstance(item, RatioItem) else [item]
    return any(layouts[part.view_id].personal for part in parts)


def _kind(item: StoredItem | RatioItem, layouts: Mapping[str, ViewLayout]) -> str:
    """What a value is, as `Names.kinds` says."""
    if isinstance(item, RatioItem):
        return "float"
    [feature] = [each for each in layouts[item.view_id].features if each.name == item.feature]
    return f"list of {feature.dtype}" if feature.is_list else feature.dtype


def _default(service: ServiceLayout, item: StoredItem | RatioItem) -> Value:
    """The declared default of a feature, under its name with or without the view's version."""
    if isinstance(item, StoredItem):
        pinned = f"{item.read_id}:{item.feature}"
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


def keys_of(plan: ReadPlan, rows: Sequence[Mapping[str, object]]) -> list[str | None]:
    """The entity keys of all rows, row by row; one flat list, because every container costs the collector."""
    return [entity.key(row) for row in rows for entity in plan.entities]


def commands_of(plan: ReadPlan, keys: Sequence[str | None]) -> list[Command]:
    """One HMGET for every row, entity and kind of key, except for null keys; row by row."""
    return [
        ("HMGET", f"{fetch.prefix}{key}}}", *fetch.fields)
        for start in range(0, len(keys), len(plan.entities) or 1)
        for fetch in plan.fetches
        if (key := keys[start + fetch.entity]) is not None
    ]
