"""What the API answers, as types: the OpenAPI document is made of them, and what is told of services and keys is encoded from them."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Annotated

import msgspec

from feature_store.access.grants import Grants

Time = Annotated[datetime, msgspec.Meta(tz=True)]
Scalar = bool | int | float | str | None


class StatusName(enum.Enum):
    """What a value is worth (`feature_store.status.Status`)."""

    PRESENT = "PRESENT"
    EMPTY = "EMPTY"
    UNKNOWN = "UNKNOWN"
    STALE = "STALE"
    AHEAD = "AHEAD"
    ERROR = "ERROR"


class Row(msgspec.Struct, kw_only=True):
    """One row of an answer; `features` of the answer names the values of its service."""

    service: str
    values: list[Scalar | list[Scalar]]
    statuses: list[StatusName]
    event_times: list[Time | None] | msgspec.UnsetType = msgspec.UNSET


class Batch(msgspec.Struct, kw_only=True):
    """The rows of a read, in the order in which they were asked for."""

    features: Annotated[
        dict[str, list[str]],
        msgspec.Meta(description="`name@version` of what was served -> its features, in the order of `values`"),
    ]
    rows: list[Row]


class RefusedEvent(msgspec.Struct, kw_only=True):
    """What is wrong with an event."""

    event: Annotated[int, msgspec.Meta(description="Its place in the request, from 0")]
    reason: str


class ProblemDetails(msgspec.Struct, kw_only=True, omit_defaults=True):
    """RFC 9457; the type is a path of this server that explains it, and says which of the other members there are."""

    type: str
    title: str
    status: int
    detail: str
    name: Annotated[str | msgspec.UnsetType, msgspec.Meta(description="What is not known")] = msgspec.UNSET
    known: Annotated[list[str] | msgspec.UnsetType, msgspec.Meta(description="What is")] = msgspec.UNSET
    offered: Annotated[list[str] | msgspec.UnsetType, msgspec.Meta(description="Media types")] = msgspec.UNSET
    limit: Annotated[int | msgspec.UnsetType, msgspec.Meta(description="What is allowed")] = msgspec.UNSET
    grant: Annotated[str | msgspec.UnsetType, msgspec.Meta(description="What it would take")] = msgspec.UNSET
    feature: Annotated[str | msgspec.UnsetType, msgspec.Meta(description="Whose value is refused")] = msgspec.UNSET
    status_of_value: StatusName | msgspec.UnsetType = msgspec.UNSET
    events: Annotated[
        list[RefusedEvent] | msgspec.UnsetType, msgspec.Meta(description="The first of those that do not fit")
    ] = msgspec.UNSET


class Place(msgspec.Struct, kw_only=True):
    """Where an event stands in the log."""

    partition: int
    offset: str


class Published(msgspec.Struct, kw_only=True):
    """The places of events, in their order."""

    positions: list[Place]


class Service(msgspec.Struct, kw_only=True):
    """A feature service as it is told of."""

    name: str
    id: Annotated[str, msgspec.Meta(description="`name@version` of what is served under the name")]
    versions: list[str]
    owner: str | None
    description: str
    keys: Annotated[dict[str, str], msgspec.Meta(description="Column of a row -> int, str, bool, date or bytes")]
    inputs: Annotated[dict[str, str], msgspec.Meta(description="Column that on-demand features take -> its kind")]
    features: Annotated[dict[str, str], msgspec.Meta(description="Feature -> the kind of its values")]
    defaults: Annotated[
        dict[str, Scalar], msgspec.Meta(description="Feature -> what stands for a value that is UNKNOWN")
    ]
    on_stale: Annotated[
        str, msgspec.Meta(description="What is done with a value that is STALE: serve, default or fail")
    ]
    on_ahead: Annotated[str, msgspec.Meta(description="The same for one that is AHEAD")]


class Key(msgspec.Struct, kw_only=True):
    """An API key without its secret."""

    id: str
    name: str
    grants: Grants
    state: Annotated[str, msgspec.Meta(description="active, expired or revoked")]
    created: Time
    expires: Time | None


class Health(msgspec.Struct, kw_only=True):
    """The process runs."""

    status: str


class Readiness(msgspec.Struct, kw_only=True):
    """The server can serve."""

    status: str
    environment: str


class ProblemKind(msgspec.Struct, kw_only=True):
    """What a type of problem means."""

    status: int
    title: str
    about: str
