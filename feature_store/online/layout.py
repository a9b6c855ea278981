"""What a reader must know of views and services to serve without their declarations: layouts, kept in Redis as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from feature_store.computed.kinds import Kind
from feature_store.declare.computed import AskedTime, Computed, Input, OnDemand, RequestInput, functions_of
from feature_store.declare.feature import OWN, FeatureRef, Ratio
from feature_store.declare.key import KeyKind
from feature_store.declare.service import FeatureService, served_names
from feature_store.online.keys import layouts_key, services_key
from feature_store.untrusted import decoded

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.transforms.plan import FeaturePlan, ViewPlan

Value = float | int | str | bool | None
Policy = Literal["serve", "default", "fail"]


class FeatureLayout(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of a packed row."""

    name: str
    dtype: Kind
    """Of the value, or of its elements. Timestamps travel as microseconds since the epoch, dates as days."""
    is_list: bool = False
    empty: Value | list[Value] = None
    """The value of an empty window."""


class ViewLayout(msgspec.Struct, frozen=True, kw_only=True):
    """The order and types of a view's packed row, and how fresh it must be."""

    view: str
    version: int
    layout_id: int
    """Digest of everything that decoding a row depends on."""
    entity: str
    join_keys: list[str]
    key_kinds: list[KeyKind] = []
    """What each join key is; text where an older version of the library did not say."""
    features: list[FeatureLayout]
    online: Literal["stream", "batch"]
    sla_us: int
    personal: bool = False

    def __post_init__(self) -> None:
        if len({feature.name for feature in self.features}) < len(self.features):
            raise ValueError("two features have one name")
        if self.key_kinds and len(self.key_kinds) != len(self.join_keys):
            raise ValueError("`key_kinds` and `join_keys` differ in length")

    @property
    def id(self) -> str:
        """`view@version`: the name of its field in an entity's hash."""
        return f"{self.view}@{self.version}"


class StoredItem(msgspec.Struct, frozen=True, kw_only=True, tag="stored"):
    """A feature of a view in a service."""

    view: str
    version: int
    feature: str
    name: str
    """Under which it is served: `view:feature`."""

    @property
    def view_id(self) -> str:
        """`view@version`."""
        return f"{self.view}@{self.version}"

    @property
    def read_id(self) -> str:
        """What tells reads of one view apart: `view@version`, with the prefix of its role."""
        return self.view_id


class KeyedItem(StoredItem, frozen=True, kw_only=True, tag="keyed"):
    """A feature of a view whose join keys come from other columns of the request."""

    prefix: str
    columns: dict[str, str]
    """Join key -> column, where they differ."""

    @property
    def read_id(self) -> str:
        """`view@version`, with the prefix."""
        return f"{self.prefix}{self.view_id}"


class RatioItem(msgspec.Struct, frozen=True, kw_only=True, tag="ratio"):
    """A quotient of two stored features, computed when it is read."""

    name: str
    numerator: StoredItem | KeyedItem
    denominator: StoredItem | KeyedItem
    empty: float | None = None


class RequestItem(msgspec.Struct, frozen=True, kw_only=True, tag="request"):
    """A column of the request, as an input of a function."""

    column: str
    dtype: Kind
    default: Value = None
    """Taken where it is null or missing; without one a null is no value, and the column must be there."""


class AskedItem(msgspec.Struct, frozen=True, kw_only=True, tag="asked_time"):
    """The time that is asked for, or the reader's own, as an input of a function."""


class OnDemandItem(msgspec.Struct, frozen=True, kw_only=True, tag="on_demand"):
    """What a function gives: one of its outputs."""

    name: str
    function: int
    """Among the service's functions."""
    output: int
    """Among the function's outputs."""


class InputLayout(msgspec.Struct, frozen=True, kw_only=True):
    """What a parameter of a function is given."""

    source: StoredItem | KeyedItem | RatioItem | RequestItem | AskedItem | OnDemandItem
    fill: Value = None
    """Taken where the source has no value."""


class OutputLayout(msgspec.Struct, frozen=True, kw_only=True):
    """What a function returns."""

    dtype: Kind
    empty: Value = None
    """The value where an input has none, or the function gives none."""


class FunctionLayout(msgspec.Struct, frozen=True, kw_only=True):
    """A function of a service. Its code is not here: a reader has it by itself, or it is an encoding of the catalogue."""

    name: str
    digest: str
    """Of what it means; a reader that has no function with this digest serves its features as ERROR."""
    encoding: str = ""
    """Of the catalogue: its name and options."""
    inputs: list[InputLayout]
    outputs: list[OutputLayout]


class ServiceLayout(msgspec.Struct, frozen=True, kw_only=True):
    """What a service reads, in order, each view with its version pinned."""

    name: str
    version: int
    features: list[StoredItem | KeyedItem | RatioItem | OnDemandItem]
    functions: list[FunctionLayout] = []
    """Each after those whose outputs it takes."""
    defaults: dict[str, Value] = {}
    on_stale: Policy = "serve"
    on_ahead: Policy = "serve"
    log_rate: float = 0.01
    """Share of the entities whose served vectors are logged."""

    def __post_init__(self) -> None:
        if not 0 <= self.log_rate <= 1:
            raise ValueError(f"`log_rate` must be between 0 and 1, got {self.log_rate}")

    @property
    def id(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


_decode_view = msgspec.json.Decoder(ViewLayout).decode
_decode_service = msgspec.json.Decoder(ServiceLayout).decode


class Resolver(Protocol):
    """What pins the features of a service: the registry."""

    def resolve(self, features: FeatureService, /) -> Sequence[FeatureRef | Ratio | Computed]:
        """The features in order, each with its view's version."""


def view_layout(plan: ViewPlan) -> ViewLayout:
    """The layout of a view that is served.

    Raises:
        ValueError: if the view is for training only.
    """
    view = plan.view
    if view.online is None:
        raise ValueError(f"view '{view.name}' is for training only (`online=None`), so it has no layout")
    features = [
        FeatureLayout(
            name=feature.feature.name,
            dtype=feature.kind,
            is_list=feature.is_list,
            empty=_empty_value(feature),
        )
        for feature in plan.features
    ]
    layout = ViewLayout(
        view=view.name,
        version=view.version,
        layout_id=0,
        entity=view.entity.name,
        join_keys=list(plan.key_kinds),
        key_kinds=list(plan.key_kinds.values()),
        features=features,
        online=view.online,
        sla_us=view.freshness_sla_us,
        personal=view.is_personal,
    )
    return with_id(layout)


def with_id(layout: ViewLayout) -> ViewLayout:
    """The layout with the digest of its content as its id (31 bits, so it is a positive int32 everywhere)."""
    content = msgspec.json.encode([layout.view, layout.version, layout.entity, layout.join_keys, layout.features])
    digest = int.from_bytes(hashlib.blake2b(content, digest_size=4).digest(), "big") & 0x7FFFFFFF
    return msgspec.structs.replace(layout, layout_id=digest)


def service_layout(service: FeatureService, registry: Resolver) -> ServiceLayout:
    """The layout of a service: its features resolved to versions, in order."""
    resolved = registry.resolve(service)
    functions = list(functions_of(resolved))
    named = zip(served_names(resolved), resolved, strict=True)
    items = [_item(each, functions, name=name) for name, each in named]
    return ServiceLayout(
        name=service.name,
        version=service.version,
        features=items,
        functions=[_function(function, functions) for function in functions],
        defaults=dict(service.defaults),
        on_stale=service.on_stale,
        on_ahead=service.on_ahead,
        log_rate=service.log_rate,
    )


def publish_layouts(
    client: Redis, env: str, views: Iterable[ViewLayout], services: Iterable[ServiceLayout] = ()
) -> None:
    """Write layouts and services for the readers of an environment, all at once."""
    layouts, published = layout_fields(views), service_fields(services)
    pipeline = client.pipeline(transaction=True)
    if layouts:
        pipeline.hset(layouts_key(env), mapping=layouts)  # type: ignore[arg-type]
    if published:
        pipeline.hset(services_key(env), mapping=published)  # type: ignore[arg-type]
    if layouts or published:
        pipeline.execute()


def layout_fields(views: Iterable[ViewLayout]) -> dict[str, bytes]:
    """The fields of `layouts:<env>`: the layout in use under `view@version`, and each for ever under its id."""
    fields: dict[str, bytes] = {}
    for view in views:
        fields[view.id] = fields[f"{view.id}#{view.layout_id}"] = msgspec.json.encode(view)
    return fields


def service_fields(services: Iterable[ServiceLayout]) -> dict[str, bytes]:
    """The fields of `services:<env>`: each service under `name@version`, the newest version under `name`."""
    fields: dict[str, bytes] = {}
    for service in sorted(services, key=lambda service: service.version):
        fields[service.id] = msgspec.json.encode(service)
        fields[service.name] = b"%d" % service.version
    return fields


def parse_layout(value: bytes) -> ViewLayout:
    """A view's layout from its JSON.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return decoded(_decode_view, value)


def layouts_in_use(fields: Mapping[bytes, bytes]) -> dict[str, ViewLayout]:
    """The layouts in use of the hash `layouts:<env>`, by `view@version`.

    One that cannot be read, such as that of another version of this library, is as good as none: others are served.
    """
    found: dict[str, ViewLayout] = {}
    for field, value in fields.items():
        if b"#" not in field:
            with suppress(msgspec.DecodeError):
                layout = parse_layout(value)
                if layout.id.encode() == field:
                    found[layout.id] = layout
    return found


def parse_service(value: bytes) -> ServiceLayout:
    """A service from its JSON.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return decoded(_decode_service, value)


def _item(
    resolved: FeatureRef | Ratio | Computed, functions: Sequence[OnDemand], *, name: str | None = None
) -> StoredItem | RatioItem | OnDemandItem:
    if isinstance(resolved, Computed):
        return OnDemandItem(name=resolved.name, function=functions.index(resolved.of), output=resolved.place)
    if isinstance(resolved, Ratio):
        return RatioItem(
            name=resolved.name,
            numerator=_stored(resolved.numerator),
            denominator=_stored(resolved.denominator),
            empty=resolved.empty,
        )
    return _stored(resolved, name=name)


def _function(declared: OnDemand, functions: Sequence[OnDemand]) -> FunctionLayout:
    function = declared.function
    return FunctionLayout(
        name=declared.name,
        digest=function.digest,
        encoding=function.encoding,
        inputs=[_input(each, functions) for each in declared.inputs],
        outputs=[OutputLayout(dtype=output.kind, empty=output.empty) for output in function.outputs],
    )


def _input(given: Input, functions: Sequence[OnDemand]) -> InputLayout:
    source = given.source
    if isinstance(source, RequestInput):
        asked = RequestItem(column=source.column, dtype=source.kind, default=source.default)
        return InputLayout(source=asked, fill=given.fill)
    item = AskedItem() if isinstance(source, AskedTime) else _item(source, functions)
    return InputLayout(source=item, fill=given.fill)


def _stored(ref: FeatureRef, *, name: str | None = None) -> StoredItem:
    item = StoredItem(
        view=ref.view,
        version=ref.version or 1,
        feature=ref.feature,
        name=name or ref.name,
    )
    if ref.role == OWN:
        return item
    return KeyedItem(**msgspec.structs.asdict(item), prefix=ref.role.prefix, columns=dict(ref.role.columns))


def _empty_value(feature: FeaturePlan) -> Value | list[Value]:
    """The aggregate's empty value in the feature's own type: no sum of floats is the whole number 0."""
    empty = feature.aggregate.empty
    if isinstance(empty, tuple):
        return list(empty)
    return float(empty) if feature.kind == "float" and isinstance(empty, int) else empty  # type: ignore[return-value]
