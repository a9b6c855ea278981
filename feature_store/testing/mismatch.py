"""What is raised when the computations of a replay do not agree, and what it means to agree."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

from feature_store.status import Status
from feature_store.time_rule import to_us

if TYPE_CHECKING:
    import pyarrow as pa

Found = tuple[object, Status]
"""A value and what it is worth."""


class ReplayMismatch(AssertionError):  # noqa: N818 - a mismatch is what it is
    """Computations that must agree do not: a bug in the library, or an expression that is not deterministic."""

    def __init__(
        self,
        message: str,
        *,
        view: str | None = None,
        feature: str | None = None,
        entity: Mapping[str, object] | None = None,
        time: datetime | None = None,
        found: Mapping[str, Found] | None = None,
    ) -> None:
        """All but the message are None where the events themselves were taken differently."""
        self.view, self.feature, self.entity, self.time = view, feature, entity, time
        self.found = None if found is None else dict(found)
        super().__init__(message)


def check_agreement(
    found: Mapping[str, Found],
    *,
    view: str | None,
    feature: str,
    entity: Mapping[str, object],
    time: datetime,
    seed: int,
) -> None:
    """Compare one value as several computations gave it; `view` is None for a ratio.

    Raises:
        ReplayMismatch: they are not equal to the last bit, or differ in status.
    """
    if len({(bits(value), status) for value, status in found.values()}) == 1:
        return
    whose = ", ".join(f"{name}={value!r}" for name, value in entity.items())
    what = f"feature '{feature}'" if view is None else f"view '{view}', feature '{feature}'"
    width = max(map(len, found)) + 1
    lines = [f"  {name + ':':<{width}} {value!r} ({status.name})" for name, (value, status) in found.items()]
    message = f"{what} of {whose} at {time.isoformat()} was computed differently (seed={seed}):\n" + "\n".join(lines)
    raise ReplayMismatch(message, view=view, feature=feature, entity=entity, time=time, found=found)


def check_events(found: Mapping[str, pa.Table], *, source: str, id_columns: Sequence[str], seed: int) -> None:
    """Compare the events that two computations start from.

    Raises:
        ReplayMismatch: one takes an event that the other does not take, or takes otherwise.
    """
    (one, some), (other, more) = (
        (name, {tuple(row[each] for each in id_columns): row for row in table.to_pylist()})
        for name, table in found.items()
    )
    for event_id in {**some, **more}:
        if bits(some.get(event_id)) != bits(more.get(event_id)):
            raise ReplayMismatch(
                f"source '{source}': {one} and {other} take event {_shown(event_id)} differently (seed={seed}):\n"
                f"  {one}: {some.get(event_id, 'not taken')}\n  {other}: {more.get(event_id, 'not taken')}"
            )


def _shown(event_id: Sequence[object]) -> str:
    return ", ".join(map(repr, event_id))


def bits(value: object) -> object:
    """What is equal only for the same value of the same type, to the last bit."""
    if isinstance(value, Mapping):
        return "row", *((name, bits(each)) for name, each in value.items())
    if isinstance(value, list | tuple):
        return ("list", *map(bits, value))
    if isinstance(value, float):
        return "float", struct.pack("<d", value)
    if isinstance(value, datetime):  # before its base class, `date`
        return "time", to_us(value)
    return ("date", value.toordinal()) if isinstance(value, date) else (type(value).__name__, value)
