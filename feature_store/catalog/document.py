"""What the catalog says of each thing that is declared, and the whole of it as it stands in Redis."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import msgspec

Value = float | int | str | bool | None
Asset = tuple[str, ...]
"""The key of a Dagster asset, without the environment."""
DECLARED = "declared"
"""Field of `catalog:<env>`: everything that is declared."""


class FeatureEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A feature of a view."""

    name: str
    aggregate: str
    column: str | None
    """SQL over the source's columns; None for a count."""
    window: str | None
    """Its length; None: every event."""
    hop: str | None
    """The step of its tail."""
    window_error: float
    """By how much of its length it may be too long."""
    cap: int | None
    dtype: str
    empty: Value | list[Value]
    """The value of an empty window."""
    description: str


class ViewEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a view."""

    name: str
    version: int
    entity: str
    source: str
    where: str | None
    online: str | None
    every: str | None
    """The step of a batch view's rows."""
    sla: str
    late_events: str
    lateness: str | None
    score_own_event: bool
    owner: str | None
    description: str
    tags: Mapping[str, str]
    personal: bool
    assets: Sequence[Asset]
    features: Sequence[FeatureEntry]

    @property
    def id(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


class ServedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A feature as a service serves it."""

    name: str
    kind: str
    """stored, ratio, encoding or on_demand."""
    reads: Sequence[str]
    """`view@version:feature` of what it is made of."""
    inputs: Mapping[str, str]
    """Parameter of the function, or part of the ratio -> what it is given."""
    columns: Mapping[str, str]
    """Join key -> column of the request, where a view is read in another role."""
    dtype: str
    default: Value
    code: str
    """Of an on-demand function, or the options of an encoding."""
    description: str


class ServiceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a service."""

    name: str
    version: int
    owner: str | None
    description: str
    on_stale: str
    on_ahead: str
    log_rate: float
    personal: Sequence[str]
    """Views with personal data that it reads."""
    keys: Sequence[str]
    """Columns of a request that are join keys."""
    requests: Mapping[str, str]
    """Columns of a request that on-demand features take -> their type."""
    assets: Sequence[Asset]
    features: Sequence[ServedEntry]

    @property
    def id(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def reads(self) -> set[str]:
        """`view@version:feature` of everything that it is made of."""
        return {name for feature in self.features for name in feature.reads}


class ColumnEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A column of a source."""

    name: str
    dtype: str
    nullable: bool
    description: str


class SourceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A source of events."""

    name: str
    owner: str | None
    description: str
    event_time: str
    event_id: Sequence[str]
    history: str | None
    """What loads it, by its name alone; None: it has no history."""
    log: str | None
    """The kind of its log and the topic; None: it has no present."""
    personal: bool
    assets: Sequence[Asset]
    columns: Sequence[ColumnEntry]

    @property
    def id(self) -> str:
        """Its name."""
        return self.name


class EntityEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What features are about."""

    name: str
    join_keys: Sequence[str]
    description: str

    @property
    def id(self) -> str:
        """Its name."""
        return self.name


Entry = ViewEntry | ServiceEntry | SourceEntry | EntityEntry
KINDS: Mapping[str, type[Entry]] = {
    "view": ViewEntry,
    "service": ServiceEntry,
    "source": SourceEntry,
    "entity": EntityEntry,
}


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is declared."""

    views: Sequence[ViewEntry] = ()
    services: Sequence[ServiceEntry] = ()
    sources: Sequence[SourceEntry] = ()
    entities: Sequence[EntityEntry] = ()


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """How something was declared from a time on."""

    id: str
    """`name@version`, or the name of what has no versions."""
    applied_us: int
    applied_by: str
    definition: msgspec.Raw
    """The entry as JSON."""


def kind_of(entry: Entry) -> str:
    """view, service, source or entity."""
    return next(kind for kind, found in KINDS.items() if isinstance(entry, found))


def pack(value: object) -> bytes:
    """A value as it stands in Redis: compressed JSON."""
    return zlib.compress(msgspec.json.encode(value), 6)


def unpack_catalog(value: bytes) -> Catalog:
    """What `pack` made of a catalog.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return msgspec.json.decode(_plain(value), type=Catalog)


def unpack_history(value: bytes) -> list[Revision]:
    """What `pack` made of a history.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return msgspec.json.decode(_plain(value), type=list[Revision])


def history_field(kind: str, name: str) -> str:
    """Field of `catalog:<env>`: how something was declared over time, all versions of it."""
    return f"history:{kind}:{name}"


def _plain(value: bytes) -> bytes:
    try:
        return zlib.decompress(value)
    except zlib.error as error:
        raise msgspec.DecodeError(f"what stands there is not compressed: {error}") from error
