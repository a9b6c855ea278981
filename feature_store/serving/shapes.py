"""The request and the answer of a feature service, as types: what a body must be, and what the OpenAPI document says.

They follow from what `apply` has published, so a server knows them without the declarations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Optional, TypedDict

import msgspec

from feature_store.errors import InputError, unknown_name
from feature_store.serving.answers import StatusName
from feature_store.serving.media import JSON, MSGPACK
from feature_store.serving.problem import Problem
from feature_store.status import Status
from feature_store.untrusted import decoded

if TYPE_CHECKING:
    from feature_store.online.layout import ServiceLayout
    from feature_store.reader.plan import ReadPlan

Moment = Annotated[
    datetime, msgspec.Meta(tz=True, description="The time asked, with its zone; without it each value is of now")
]

_KEYS: Mapping[str, type] = {"int": int, "str": str, "bool": bool, "date": date, "bytes": bytes}
_VALUES: Mapping[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "timestamp": Annotated[datetime, msgspec.Meta(tz=True)],
    "date": date,
}
_TAKEN: Mapping[str, Any] = {
    **_VALUES,
    "timestamp": Annotated[datetime, msgspec.Meta(tz=True, description="With its zone")],
}
"""What on-demand features take from a request."""


class Asked(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every request may say."""

    as_of: Optional[Moment] = None  # noqa: UP045 - msgspec looks at it when it runs
    event_times: bool = False
    """Whether to tell when the newest event happened that each value knows."""


class Listed(Asked, forbid_unknown_fields=True, kw_only=True):
    """A read of any features."""

    features: Annotated[
        list[str], msgspec.Meta(min_length=1, description="`view:feature`, or `view@2:feature` for a version")
    ]
    rows: list[
        Annotated[
            dict[str, Any],
            msgspec.Meta(
                description="Columns of the join keys",
                extra_json_schema={"additionalProperties": {"type": ["string", "number", "boolean", "null"]}},
            ),
        ]
    ]


class Body:
    """A type of body, and how it is read."""

    def __init__(self, kind: type[Any]) -> None:
        self.type = kind
        self._decoders: dict[str, Any] = {JSON: msgspec.json.Decoder(kind), MSGPACK: msgspec.msgpack.Decoder(kind)}

    def decode(self, body: bytes, media_type: str) -> Any:
        """A body as a value of the type.

        Raises:
            Problem: it is malformed, or breaks a rule; says where.
        """
        try:
            return decoded(self._decoders[media_type].decode, body)
        except msgspec.ValidationError as error:
            raise Problem("invalid", _place_first(str(error))) from None
        except msgspec.DecodeError as error:
            raise Problem("malformed", f"the body is no {media_type.partition('/')[2]}: {error}") from None


LISTED = Body(Listed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceShape:
    """One version of a feature service, as a client sees it."""

    id: str
    """`name@version`."""
    name: str
    keys: Mapping[str, str]
    """Column of the request -> what it is: int, str, bool, date, bytes."""
    inputs: Mapping[str, str]
    """Column of the request that on-demand features take, and no join key -> what it is: int, float, bool, str, timestamp, date."""
    features: Mapping[str, str]
    """Feature -> what its value is, as `FeatureVector.kinds` says."""
    one: Body
    """The request for one row."""
    many: Body
    """The request for many."""
    values: type[msgspec.Struct]
    statuses: type[msgspec.Struct]
    layout: ServiceLayout
    """As it is published."""
    personal: tuple[str, ...] = ()
    """Views with personal data that it reads."""

    def plain(self, asked: Any) -> dict[str, object]:
        """The row of a request for one row, as the reader takes it."""
        return {**asked.keys, **_named(self.inputs, asked.inputs)} if self.inputs else asked.keys

    def rows(self, asked: Any) -> Sequence[dict[str, object]]:
        """The rows of a request for many."""
        if not self.inputs:
            return asked.rows  # type: ignore[no-any-return]
        columns = (*self.keys, *self.inputs)
        return [_named(columns, row) for row in asked.rows]

    def check_columns(self, given: Iterable[str]) -> None:
        """Refuse columns that the service does not take, if on-demand features take some: one that may be left out may be misspelt.

        Raises:
            InputError: there is such a column.
        """
        if self.inputs:
            for name in given:
                if name not in self.keys and name not in self.inputs:
                    raise InputError(unknown_name(f"column of service '{self.name}'", name, (*self.keys, *self.inputs)))


def shape_of(plan: ReadPlan) -> ServiceShape:
    """The shape of the service that a plan reads."""
    keys: dict[str, str] = {}
    for entity in plan.entities:
        keys.update(zip(entity.columns, entity.kinds, strict=True))
    kinds = dict(zip(plan.names.features, plan.names.kinds, strict=True))
    called = title(plan.service.name, str(plan.service.version))
    asked = {each.column: each for each in plan.requests if each.column not in keys}
    own = {name: Optional[_KEYS[kind]] for name, kind in keys.items()}  # noqa: UP045
    given = {name: Optional[_TAKEN[each.kind]] for name, each in asked.items()}  # noqa: UP045
    optional = {name: each.default for name, each in asked.items() if each.default is not None}
    one: dict[str, Any] = {"keys": _columns(f"{called}Keys", own)}
    if asked:
        one["inputs"] = _struct(f"{called}Inputs", given, defaults=optional, closed=True)
    row = _struct(f"{called}Row", own | given, defaults=optional, closed=True) if asked else one["keys"]
    rows: Any = list.__class_getitem__(row)
    return ServiceShape(
        id=plan.service.id,
        name=plan.service.name,
        keys=keys,
        inputs={name: each.kind for name, each in asked.items()},
        features=kinds,
        one=_request(f"{called}Request", one, optional=["inputs"] if len(optional) == len(asked) else []),
        many=_request(f"{called}BatchRequest", {"rows": rows}),
        values=_struct(f"{called}Values", {name: _value(kind) for name, kind in kinds.items()}),
        statuses=_struct(f"{called}Statuses", dict.fromkeys(kinds, StatusName)),
        layout=plan.service,
        personal=plan.names.personal_views,
    )


def status_names(statuses: Sequence[Status]) -> tuple[str, ...]:
    """Statuses as text."""
    return _names_of(bytes(statuses))


@lru_cache(maxsize=1024)  # most rows have the statuses of other rows
def _names_of(statuses: bytes) -> tuple[str, ...]:
    return tuple(Status(status).name for status in statuses)


def _columns(name: str, fields: Mapping[str, Any]) -> type[Any]:
    """A type of dictionaries with keys of any name, all of them required."""
    made: type[Any] = TypedDict(name, dict(fields))  # type: ignore[misc]
    return made


def _struct(
    name: str, fields: Mapping[str, Any], *, defaults: Mapping[str, object] = {}, closed: bool = False
) -> type[msgspec.Struct]:
    """A type with fields of any name, required unless they have a default; `closed`: it takes no others."""
    listed: list[Any] = [
        (f"f{i}", kind, msgspec.field(name=field, default=defaults.get(field, msgspec.NODEFAULT)))
        for i, (field, kind) in enumerate(fields.items())
    ]
    return msgspec.defstruct(name, listed, kw_only=True, forbid_unknown_fields=closed)


def _named(columns: Iterable[str], row: msgspec.Struct) -> dict[str, object]:
    """The fields of such a type, by their names."""
    return dict(zip(columns, msgspec.structs.astuple(row), strict=True))


def _request(name: str, fields: Mapping[str, Any], *, optional: Sequence[str] = ()) -> Body:
    """A type of request: what every one may say, and fields that it must have, but for those of which all may be left out."""
    listed: list[Any] = [
        (field, kind, msgspec.field(default_factory=kind)) if field in optional else (field, kind)
        for field, kind in fields.items()
    ]
    return Body(msgspec.defstruct(name, listed, bases=(Asked,), kw_only=True, forbid_unknown_fields=True))


def _value(kind: str) -> object:
    """The type of a value: JSON has null for NaN, also in a list."""
    element = _VALUES[kind.removeprefix("list of ")]
    if not kind.startswith("list"):
        return Optional[element]  # noqa: UP045
    within: Any = Optional[element] if element is float else element  # noqa: UP045
    return Optional[list[within]]  # noqa: UP045


def title(name: str, version: str = "") -> str:
    """The name of a service or source as types are called: letters of ASCII, different for different names.

    >>> title("arrival_delay", "2"), title("top_10"), title("arrivalDelay", "2"), title("AB"), title("größe")
    ('ArrivalDelayV2', 'Top_10', 'arrivalDelay.V2', 'AB.', 'gr.f6..df.e.')
    """
    shown = f"V{version}" if version else ""
    if re.fullmatch(r"[a-z0-9_]+", name):
        return re.sub(r"(?:^|(?<=[a-z0-9])_)([a-z])", lambda found: found[1].upper(), name) + shown
    return "".join(char if char.isascii() else f".{ord(char):x}." for char in name) + f".{shown}"


def _place_first(said: str) -> str:
    """`Expected int, got str - at $.keys.id` the other way round."""
    rule, found, place = said.rpartition(" - at `$")
    return f"`{place.strip('`').lstrip('.')}`: {rule[:1].lower()}{rule[1:]}" if found and place != "`" else said
