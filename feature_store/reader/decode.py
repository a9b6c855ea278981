"""Packed rows become vectors: pure, the same for every kind of reader.

A value that cannot be expressed is ERROR whatever its row is worth; all other values of a row share its status.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from feature_store.computed.functions import Functions
from feature_store.computed.ratio import ratio
from feature_store.errors import ValueRefused
from feature_store.online import packed
from feature_store.online.layout import Policy, Value
from feature_store.online.packed import PackedRow, decode_row, own_row, seconds_since
from feature_store.reader.computing import compute
from feature_store.reader.fast import FastRead, fast_vectors
from feature_store.reader.places import Slot, fitting
from feature_store.reader.plan import ReadPlan, ViewRead
from feature_store.reader.vector import FeatureVector
from feature_store.reader.worth import (
    AHEAD,
    EMPTY,
    ERROR,
    PRESENT,
    STALE,
    UNKNOWN,
    Moment,
    worth_of_nothing,
    worth_of_own,
    worth_of_row,
)
from feature_store.status import Status


class UnknownLayout(Exception):  # noqa: N818 - no error: the reader fetches the layout and decodes again
    """A row was written, or is vouched for, with a layout that the plan has not learned yet."""

    def __init__(self, view: ViewRead, layout_id: int) -> None:
        self.view, self.layout_id = view, layout_id
        super().__init__(f"{view.id}#{layout_id}")


def decode_vector(
    plan: ReadPlan, keys: Sequence[str | None], *, replies: Iterator[Sequence[bytes | None]], moment: Moment
) -> FeatureVector:
    """The vector of one row of a request.

    Args:
        plan: the service.
        keys: the canonical key of each entity of the plan; None: null.
        replies: yields, for each fetch of the plan whose key is not null, the packed values of its views.
        moment: when, and what is known then.

    Raises:
        UnknownLayout: a row has a layout that the plan must learn first.
        ValueRefused: a value is STALE or AHEAD, and the service says that this fails.
    """
    return _finished(plan, _drafted(plan, keys, replies=replies, moment=moment))


def decode_vectors(
    plan: ReadPlan,
    keys: Sequence[str | None],
    *,
    replies: Iterator[Sequence[bytes | None]],
    moment: Moment,
    as_of: Sequence[int | None],
    requests: Sequence[Sequence[object]],
    functions: Functions,
) -> list[FeatureVector]:
    """The vectors of the rows of a request; functions run once over all of them.

    Args:
        plan: the service.
        keys: the canonical keys of all rows, row by row; None: null.
        replies: as for `decode_vector`, of all rows.
        moment: now, and what is known.
        as_of: for each row the time asked; None: now.
        requests: what the rows give for functions, as `computing.requested` says.
        functions: that may be run.

    Raises:
        UnknownLayout: as `decode_vector`.
        ValueRefused: as `decode_vector`.
    """
    width = len(plan.entities)
    if plan.fast is not None and None not in keys:
        return _without_nulls(plan, plan.fast, keys, replies=replies, moment=moment, as_of=as_of)
    if not plan.functions:
        return [
            decode_vector(plan, keys[i * width : i * width + width], replies=replies, moment=_moment(moment, at_us))
            for i, at_us in enumerate(as_of)
        ]
    drafts = [
        _drafted(plan, keys[i * width : i * width + width], replies=replies, moment=_moment(moment, at_us))
        for i, at_us in enumerate(as_of)
    ]
    times_us = [moment.at_us if at_us is None else at_us for at_us in as_of]
    compute(plan, drafts, requests=requests, times_us=times_us, functions=functions)
    return [_finished(plan, draft) for draft in drafts]


def _without_nulls(
    plan: ReadPlan,
    read: FastRead,
    keys: Sequence[str | None],
    *,
    replies: Iterator[Sequence[bytes | None]],
    moment: Moment,
    as_of: Sequence[int | None],
) -> list[FeatureVector]:
    """As `decode_vectors`, of rows for which every fetch has a reply, and nothing is computed."""
    width, fetches, packed = len(plan.entities), len(plan.fetches), list(replies)
    times_us = [moment.at_us if at_us is None else at_us for at_us in as_of]
    vectors = fast_vectors(read, plan.names, keys, replies=packed, times_us=times_us, readiness=moment.readiness)
    for i, vector in enumerate(vectors):
        if vector is None:
            vectors[i] = decode_vector(
                plan,
                keys[i * width : i * width + width],
                replies=iter(packed[i * fetches : i * fetches + fetches]),
                moment=_moment(moment, as_of[i]),
            )
    return cast("list[FeatureVector]", vectors)


def _moment(now: Moment, at_us: int | None) -> Moment:
    """When a row is answered: now, or at the time asked."""
    return now if at_us is None else Moment(at_us, True, now.readiness)


def _drafted(
    plan: ReadPlan, keys: Sequence[str | None], *, replies: Iterator[Sequence[bytes | None]], moment: Moment
) -> _Draft:
    """What is stored, and its ratios."""
    draft = _Draft(plan.width)
    for fetch in plan.fetches:
        key = keys[fetch.entity]
        if key is None:
            draft.plain = False
            for _ in fetch.views:
                draft.rests_on(0, 0, moment.at_us, None, None)
            continue
        for view, value in zip(fetch.views, next(replies), strict=True):
            _read_view(draft, view, key, value=value, moment=moment)
    if plan.ratios:
        _divide(plan, draft)
    return draft


def _finished(plan: ReadPlan, draft: _Draft) -> FeatureVector:
    """What is served, under the service's policies."""
    if not draft.plain:
        _apply_policies(plan, draft)
    served = len(plan.defaults)
    if plan.width > served:
        del draft.values[served:], draft.statuses[served:]
    return FeatureVector(draft.values, draft.statuses, plan.names, draft.sources)


class _Draft:
    """A vector in the making; until something is placed, all is UNKNOWN."""

    __slots__ = ("plain", "sources", "statuses", "values")

    def __init__(self, width: int) -> None:
        self.values: list[object] = [None] * width
        self.statuses: list[Status] = [UNKNOWN] * width
        self.sources: list[int | None] = []
        self.plain = True
        """Whether all is PRESENT or EMPTY so far."""

    def rests_on(self, run: int, n: int, at_us: int, shard: int | None, event_us: int | None) -> None:
        """Note what the next view's values rest on, as `Provenance` says."""
        self.sources += (run, n, at_us, shard, event_us)


def _read_view(draft: _Draft, view: ViewRead, key: str, *, value: bytes | None, moment: Moment) -> None:
    shard = moment.readiness.shard_of(view.layout.entity, key) if view.is_stream else None
    vouched = moment.readiness.of(view.id, shard)
    if value is None:
        status, at_us = worth_of_nothing(view, moment, vouched)
        slots = view.slots if vouched is None or status is UNKNOWN else _slots(view, vouched.views[view.id])
        _place_nothing(draft, slots, status)
        draft.rests_on(vouched.run if vouched else 0, vouched.n if vouched else 0, at_us, shard, None)
        return
    try:
        row = decode_row(value)
    except ValueError:
        _place_nothing(draft, view.slots, ERROR)
        draft.rests_on(0, 0, moment.at_us, shard, None)
        return
    slots = _slots(view, row.layout_id)
    status, at_us = worth_of_row(view, row, moment, vouched)
    try:
        if status is AHEAD and (own := own_row(row, moment.at_us)) is not None:
            row, (status, at_us) = own, worth_of_own(view, moment, vouched)
        if status is UNKNOWN:
            _place_nothing(draft, slots, status)
        else:
            _place_row(draft, slots, row, status=status, at_us=at_us)
    except (
        IndexError,
        OverflowError,
        TypeError,
        ValueError,
    ):  # damaged: it decodes, but to something else than the layout says
        _place_nothing(draft, slots, ERROR)
    event_us = None if row.age_us is None or at_us <= row.from_us - row.age_us else row.from_us - row.age_us
    draft.rests_on(row.run, row.n, at_us, shard, event_us)


def _slots(view: ViewRead, layout_id: int) -> tuple[Slot, ...]:
    slots = view.slots_of(layout_id)
    if slots is None:
        raise UnknownLayout(view, layout_id)
    return slots


def _place_row(draft: _Draft, slots: Sequence[Slot], row: PackedRow, *, status: Status, at_us: int) -> None:
    """Put the values of a row at a time where they belong."""
    values, statuses = draft.values, draft.statuses
    items = row.values_at(seconds_since(row.from_us, at_us))
    draft.plain &= status is PRESENT
    for position, index, kind, convert, empty in slots:
        if index < 0:
            draft.plain = False
            continue
        item = items[index]
        if item is None:
            values[position] = empty.copy() if type(empty) is list else empty
            statuses[position] = EMPTY if status is PRESENT else status
        elif item is packed.ERROR:
            statuses[position] = ERROR
            draft.plain = False
        else:
            if type(item) is not kind:
                item = fitting(item, kind)
            values[position] = item if convert is None else convert(item)
            statuses[position] = status


def _place_nothing(draft: _Draft, slots: Sequence[Slot], status: Status) -> None:
    """Give features without a row one status and, unless nothing is known, the value of an empty window."""
    draft.plain &= status is EMPTY
    for position, index, _, _, empty in slots:
        if index < 0:  # nobody vouches for it; it stays UNKNOWN
            draft.plain = False
            continue
        draft.statuses[position] = status
        known = status is not UNKNOWN and status is not ERROR
        draft.values[position] = (empty.copy() if type(empty) is list else empty) if known else None


def _divide(plan: ReadPlan, draft: _Draft) -> None:
    """Compute the ratios from what is stored, before defaults take its place."""
    values, statuses = draft.values, draft.statuses
    for position, top, bottom, empty in plan.ratios:
        values[position], statuses[position] = ratio(
            (values[top], statuses[top]), (values[bottom], statuses[bottom]), empty=empty
        )


def _apply_policies(plan: ReadPlan, draft: _Draft) -> None:
    """Put the service's defaults in the place of what is not to be served."""
    service = plan.service
    for position, default in enumerate(plan.defaults):
        status = draft.statuses[position]
        if status is UNKNOWN:
            draft.values[position] = default
        elif status is STALE:
            _apply(draft, position, default, policy=service.on_stale, plan=plan)
        elif status is AHEAD:
            _apply(draft, position, default, policy=service.on_ahead, plan=plan)


def _apply(draft: _Draft, position: int, default: Value, *, policy: Policy, plan: ReadPlan) -> None:
    if policy == "default":
        draft.values[position] = default
    elif policy == "fail":
        raise ValueRefused(plan.service.id, plan.names.features[position], draft.statuses[position].name)
