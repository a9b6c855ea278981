"""What to fetch for a service and where each value goes: worked out once per service, used by every read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain

import msgspec

from feature_store.online.keys import features_prefix
from feature_store.online.layout import (
    OnDemandItem,
    RatioItem,
    ServiceLayout,
    StoredItem,
    Value,
    ViewLayout,
    parse_layout,
)
from feature_store.reader.commands import Heads
from feature_store.reader.fast import FastRead, fast_read
from feature_store.reader.places import EntityRead, FunctionRead, Places, RatioRead, RequestRead, Slot
from feature_store.reader.vector import Names

KNOWN = 64
"""Layouts that a reader remembers of a view: each added feature makes one."""
HASHES = 1 << 32
"""How many hashes of an entity there are."""


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

    def slots_of(self, layout_id: int) -> tuple[Slot, ...] | None:
        """Of the layout of a row; None if it is not known yet. A row may name any number: so many are asked for, no more."""
        found = self.layouts.get(layout_id)
        return self._of({}) if found is None and len(self.layouts) >= KNOWN else found

    def learn(self, layout_id: int, value: bytes | None) -> None:
        """Prepare for rows that were written with another layout.

        One that nobody knows, or that cannot be read, is one without features: their values are UNKNOWN.
        """
        names: dict[str, int] = {}
        with suppress(msgspec.DecodeError):
            layout = None if value is None else parse_layout(value)
            if layout is not None and (layout.id, layout.layout_id) == (self.id, layout_id):
                names = {feature.name: i for i, feature in enumerate(layout.features)}
        self.layouts[layout_id] = self._of(names)

    def _of(self, items: Mapping[str, int]) -> tuple[Slot, ...]:
        mine = [feature.name for feature in self.layout.features]
        return tuple(slot._replace(item=items.get(mine[slot.item], -1)) for slot in self.slots)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """One HMGET per row: the views of one entity under one key."""

    entity: int
    """Position among the plan's entities."""
    prefix: str
    fields: tuple[str, ...]
    views: tuple[ViewRead, ...]
    heads: Heads
    """Of its commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPlan:
    """Everything that reads of one service share."""

    service: ServiceLayout
    names: Names
    width: int
    """Values, with those that only what is computed needs."""
    entities: tuple[EntityRead, ...]
    fetches: tuple[Fetch, ...]
    ratios: tuple[RatioRead, ...]
    requests: tuple[RequestRead, ...]
    """Columns that a request must have beside its join keys."""
    functions: tuple[FunctionRead, ...]
    """Each after those whose outputs it takes."""
    asked: int | None
    """Where the time asked goes, if a function takes it."""
    defaults: tuple[Value, ...]
    fast: FastRead | None
    """None where something is computed."""
    log_below: int
    """Vectors of entities whose hash lies below are logged (`sample.is_chosen`)."""

    @property
    def personal(self) -> bool:
        """Whether a view with personal data is among what it reads."""
        return bool(self.names.personal_views)

    @property
    def divisible(self) -> bool:
        """Whether rows of one request may be read apart: nothing is computed over all of them, no row fails the others."""
        return self.fast is not None and "fail" not in (self.service.on_stale, self.service.on_ahead)

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
    places = Places(service, layouts)
    places.walk()
    fetches = _fetches(env, places)
    return ReadPlan(
        service=service,
        names=_names(
            service,
            [view.name for fetch in fetches for view in fetch.views],
            tuple(places.kind(item) for item in service.features),
            frozenset(item.name for item in service.features if places.is_personal(item)),
            tuple(sorted({view.layout.view for fetch in fetches for view in fetch.views if view.layout.personal})),
        ),
        width=places.width,
        entities=tuple(places.entities.values()),
        fetches=fetches,
        ratios=tuple(places.ratios),
        requests=tuple(places.requests),
        functions=tuple(places.functions),
        asked=places.asked,
        defaults=tuple(_default(service, item) for item in service.features),
        fast=None if places.ratios or places.functions else fast_read(fetches, entities=len(places.entities)),
        log_below=round(service.log_rate * HASHES),
    )


def _fetches(env: str, places: Places) -> tuple[Fetch, ...]:
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
    return tuple(_fetch(entity, prefix, views) for (entity, prefix), views in reads.items())


def _fetch(entity: int, prefix: str, views: Sequence[ViewRead]) -> Fetch:
    fields = tuple(view.id for view in views)
    return Fetch(entity=entity, prefix=prefix, fields=fields, views=tuple(views), heads=Heads(prefix, fields))


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


def _default(service: ServiceLayout, item: StoredItem | RatioItem | OnDemandItem) -> Value:
    """The declared default of a feature, under its name with or without the view's version."""
    if isinstance(item, StoredItem):
        pinned = f"{item.read_id}:{item.feature}"
        return service.defaults.get(item.name, service.defaults.get(pinned))
    return service.defaults.get(item.name)


def keys_of(plan: ReadPlan, rows: Sequence[Mapping[str, object]]) -> list[str | None]:
    """The entity keys of all rows, row by row; one flat list, because every container costs the collector."""
    columns = [entity.keys(rows) for entity in plan.entities]
    return columns[0] if len(columns) == 1 else list(chain.from_iterable(zip(*columns, strict=True)))
