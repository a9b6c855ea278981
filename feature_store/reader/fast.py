"""The fast path of a read: rows that are there and fresh are placed without a step per value.

Whatever is not, and whatever is computed from values, `decode.py` decides, which says the same of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from feature_store.online.packed import HEAD, changes_of, row_decoder
from feature_store.reader.places import Slot, is_converted, kind_of
from feature_store.reader.vector import FeatureVector
from feature_store.reader.worth import EMPTY, PRESENT
from feature_store.status import Status
from feature_store.time_rule import EARLIEST_US, LATEST_US, SECOND_US

if TYPE_CHECKING:
    from feature_store.online.layout import FeatureLayout, ViewLayout
    from feature_store.reader.plan import Fetch
    from feature_store.reader.readiness import Readiness
    from feature_store.reader.vector import Names


_T = TypeVar("_T")
_Part = tuple[tuple[object, ...], tuple[Status, ...], tuple[int | None, ...]]


class FastView(NamedTuple):
    """What is read of rows of a view that have the layout in use."""

    id: str
    entity: str
    sla_us: int
    is_stream: bool
    decode: Callable[[Any], Sequence[Any]]
    """Of a packed value, a row; raises for anything else."""
    pick: Callable[[Sequence[Any]], Sequence[Any]]
    """The values of the features that are read, of a decoded row."""
    kinds: tuple[type, ...]
    """Of all features of the layout, what they may change to; `object` for those of which that takes a look."""
    present: tuple[Status, ...]
    empty: tuple[Any, ...]
    """For each of them, the value of an empty window."""
    converted: tuple[tuple[int, Callable[[Any], object]], ...]
    """Those that travel as something else."""


class FastRead(NamedTuple):
    """What is read for a row of a request."""

    fetches: tuple[tuple[int, tuple[FastView, ...]], ...]
    """For each fetch its entity's position in the plan, and its views."""
    entities: int
    """That a row of the request names."""
    order: Callable[[Sequence[Any]], tuple[Any, ...]] | None
    """From the order of the views and their features to that of the service; None where it is the same."""


def fast_read(fetches: Sequence[Fetch], *, entities: int) -> FastRead:
    """Prepare for the rows of a service of which all features are stored."""
    positions = [slot.position for fetch in fetches for view in fetch.views for slot in view.slots]
    where = {position: i for i, position in enumerate(positions)}
    return FastRead(
        tuple((fetch.entity, tuple(_fast_view(view.layout, view.slots) for view in fetch.views)) for fetch in fetches),
        entities,
        None if positions == sorted(positions) else _picker([where[i] for i in range(len(positions))]),
    )


def _fast_view(layout: ViewLayout, slots: Sequence[Slot]) -> FastView:
    features = layout.features
    return FastView(
        id=layout.id,
        entity=layout.entity,
        sla_us=layout.sla_us,
        is_stream=layout.online == "stream",
        decode=row_decoder(layout.layout_id, [_type_of(feature) for feature in features]),
        pick=_picker([HEAD + slot.item for slot in slots]),
        kinds=tuple(object if feature.is_list else kind_of(feature) for feature in features),
        present=(PRESENT,) * len(slots),
        empty=tuple(slot.empty for slot in slots),
        converted=tuple(
            (i, slot.convert) for i, slot in enumerate(slots) if slot.convert and is_converted(features[slot.item])
        ),
    )


def _type_of(feature: FeatureLayout) -> object:
    kind: Any = kind_of(feature)
    return list.__class_getitem__(kind) if feature.is_list else kind


def _picker(indices: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Takes these elements of a sequence, as a tuple."""
    first, count = indices[0], len(indices)
    if list(indices) == list(range(first, first + count)):
        return itemgetter(slice(first, first + count))
    return itemgetter(*indices)


def fast_vectors(
    read: FastRead,
    names: Names,
    keys: Sequence[str | None],
    *,
    replies: Sequence[Sequence[bytes | None]],
    times_us: Sequence[int],
    readiness: Readiness,
) -> list[FeatureVector | None]:
    """The vectors of rows; None for one of which not all is PRESENT or EMPTY, and as it was when it was written.

    Args:
        read: what is prepared of the service.
        names: of its vectors.
        keys: row by row those of the plan's entities, none of them null.
        replies: row by row those to the plan's fetches: the packed values of its views.
        times_us: for each row the time asked, or now.
        readiness: what is known.
    """

    def answers(make: Callable[..., _T]) -> list[list[_T | None]]:
        return [
            _answers(
                view,
                make,
                names,
                [each[position] for each in replies[number :: len(read.fetches)]],
                times_us,
                _shards(view, keys[entity :: read.entities], readiness),
                readiness,
            )
            for number, (entity, views) in enumerate(read.fetches)
            for position, view in enumerate(views)
        ]

    if read.order is None and len(names.views) == 1:
        return answers(FeatureVector)[0]
    return [_joined(parts, names, read.order) for parts in zip(*answers(_part), strict=True)]


def _part(values: tuple[object, ...], statuses: tuple[Status, ...], _: Names, sources: tuple[int | None, ...]) -> _Part:
    """What a vector is made of, of one view."""
    return values, statuses, sources


def _joined(
    parts: Sequence[_Part | None], names: Names, order: Callable[[Sequence[Any]], tuple[Any, ...]] | None
) -> FeatureVector | None:
    """The vector of all views; None if one of them has nothing to say."""
    values: tuple[object, ...] = ()
    statuses: tuple[Status, ...] = ()
    sources: tuple[int | None, ...] = ()
    for part in parts:
        if part is None:
            return None
        values += part[0]
        statuses += part[1]
        sources += part[2]
    if order is not None:
        values, statuses = order(values), order(statuses)
    return FeatureVector(values, statuses, names, sources)


def _shards(view: FastView, keys: Sequence[str | None], readiness: Readiness) -> Sequence[int | None]:
    """The shards that keep entities; None for each if rows of the view are published."""
    if not view.is_stream:
        return [None] * len(keys)
    if readiness.shards == 1:
        return [0] * len(keys)
    return [readiness.shard_of(view.entity, key or "") for key in keys]


def _fresh_until_us(view: FastView, shard: int, readiness: Readiness) -> int:
    """Until when what a shard has written is within the view's SLA."""
    vouched = readiness.of(view.id, shard)
    return EARLIEST_US if vouched is None else vouched.known_us + view.sla_us


def _answers(
    view: FastView,
    make: Callable[..., _T],
    names: Names,
    packed: Sequence[bytes | None],
    times_us: Sequence[int],
    shards: Sequence[int | None],
    readiness: Readiness,
) -> list[_T | None]:
    """What a view's rows say, each made of values, statuses, names and sources; None for one that cannot be said here."""
    sla_us, pick, present, converted = view.sla_us, view.pick, view.present, view.converted
    fresh_until_us = {shard: _fresh_until_us(view, shard, readiness) for shard in set(shards) if shard is not None}
    answers: list[_T | None] = []
    asked_us = asked_s = 0
    for row, at_us, shard in zip(_rows(view, packed), times_us, shards, strict=True):
        if at_us != asked_us:
            asked_us, asked_s = at_us, at_us // SECOND_US
        from_us, until_s, change_s = row[3], row[5], row[6]
        seconds = asked_s - from_us // SECOND_US
        if (
            not from_us <= at_us <= (from_us + sla_us if shard is None else fresh_until_us[shard])
            or (until_s and seconds >= until_s)
            or (picked := pick(row) if not change_s or seconds < change_s else _picked_later(view, row, seconds))
            is None
        ):
            answers.append(None)
            continue
        age_us = row[4]
        sources = (row[1], row[2], at_us, shard, None if age_us is None else from_us - age_us)
        if converted or not (all(picked) or None not in picked):
            statuses = tuple([EMPTY if found is None else PRESENT for found in picked])
            answers.append(make(_placed(view, picked), statuses, names, sources))
        else:
            answers.append(make(picked, present, names, sources))
    return answers


_DAMAGED = (msgspec.DecodeError, RecursionError, TypeError, ValueError)
_NO_ROW = (0, 0, 0, LATEST_US + 1, None, 0, 0)
"""Begins after all times."""


def _rows(view: FastView, packed: Sequence[bytes | None]) -> Sequence[Sequence[Any]]:
    """Decoded rows; `_NO_ROW` for what is missing, or is no row of the layout in use."""
    decode = view.decode
    try:
        return [*map(decode, packed)]
    except _DAMAGED:
        return [_decoded(decode, value) for value in packed]


def _decoded(decode: Callable[[Any], Sequence[Any]], value: bytes | None) -> Sequence[Any]:
    try:
        return _NO_ROW if value is None else decode(value)
    except _DAMAGED:
        return _NO_ROW


def _picked_later(view: FastView, row: Sequence[Any], seconds: int) -> Sequence[Any] | None:
    """The values of a decoded row after a change; None if one of them is something else than its feature is."""
    values, kinds = [*row], view.kinds
    try:
        for after_s, feature, value in changes_of(row[HEAD - 2]):
            seconds -= after_s
            if seconds < 0:
                break
            if feature < 0 or (value is not None and type(value) is not kinds[feature]):
                return None
            values[HEAD + feature] = value
    except (IndexError, TypeError, ValueError):
        return None
    return view.pick(tuple(values))


def _placed(view: FastView, picked: Sequence[Any]) -> tuple[object, ...]:
    """The values of features of which some are empty or travel as something else."""
    values = [
        (empty.copy() if type(empty) is list else empty) if value is None else value
        for value, empty in zip(picked, view.empty, strict=True)
    ]
    for i, convert in view.converted:
        if picked[i] is not None:
            values[i] = convert(picked[i])
    return tuple(values)
