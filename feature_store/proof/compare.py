"""Served and recomputed values side by side: equal to the last bit, or a difference with its place and its times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_store.declare.feature import FeatureRef
from feature_store.history.answers import Answer, answer, with_defaults
from feature_store.history.computed import ComputedAnswers
from feature_store.proof.layout import ServedFeature, ServedLayout
from feature_store.proof.recompute import UNPROVABLE
from feature_store.proof.served_log import REQUESTED, SERVED, VECTOR, view_column
from feature_store.status import Status

if TYPE_CHECKING:
    from feature_store.transforms.catalogue import Values

Bools = NDArray[np.bool_]
Statuses = NDArray[np.int8]
Recomputed = Mapping[str, Mapping[str, "Values"]]
"""Read -> feature -> a value per vector, as `recompute` gives them."""

NOT_SERVED = -2
"""The status of a feature that the vector did not have yet."""

SHOWN = 100
"""How many differences a report lists; it counts all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A served value that is not what it should have been."""

    vector: str
    feature: str
    served: object
    served_status: str
    recomputed: object
    recomputed_status: str
    """'UNPROVABLE' if the lake does not hold the commit that the value names."""
    as_of_us: int | None
    """The effective time, of what is computed that of its first part; None, and no commit, if it has no stored part."""
    run: int | None
    n: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofReport:
    """What a comparison of a record with its recomputation found."""

    vectors: int
    values: int
    """Compared: all but those of which a vector itself says that nothing is known."""
    unequal: int
    unknown: int
    """Served as UNKNOWN although their key is not null: no value, so nothing to compare."""
    stale_unequal: int
    """Served as STALE and different; such a value says itself that it may be, and does not count as unequal."""
    by_feature: Mapping[str, int]
    """Unequal values per feature, of the features that have some."""
    differences: Sequence[Difference]
    """The first of them."""


def compare(layout: ServedLayout, served: pa.Table, recomputed: Recomputed, *, shown: int = SHOWN) -> ProofReport:
    """Compare every value and status of a record with what it should have been."""
    values = unknown = stale = 0
    by_feature: dict[str, int] = {}
    differences: list[Difference] = []
    for judged in judge(layout, served, recomputed):
        values += judged.values
        unknown += judged.unknown
        stale += judged.stale_unequal
        wrong = np.flatnonzero(judged.unequal)
        if len(wrong):
            by_feature[judged.feature.name] = len(wrong)
            listed = wrong[: max(0, shown - len(differences))].tolist()
            differences += [difference(judged, served, row) for row in listed]
    return ProofReport(
        vectors=served.num_rows,
        values=values,
        unequal=sum(by_feature.values()),
        unknown=unknown,
        stale_unequal=stale,
        by_feature=by_feature,
        differences=differences,
    )


class Judged(NamedTuple):
    """One feature of a record, compared."""

    feature: ServedFeature
    found: Answer
    """What it should have been."""
    unequal: Bools
    """Where it was not."""
    values: int
    """How many were compared."""
    unknown: int
    stale_unequal: int


def judge(layout: ServedLayout, served: pa.Table, recomputed: Recomputed) -> Iterator[Judged]:
    """Every feature of a record, compared with what it should have been."""
    judging = _Judge(layout, served, recomputed)
    for feature in layout.features:
        found = judging.expected(feature)
        status = _statuses(served, feature.status)
        unequal = (status != found.status) | ~same(served.column(feature.column).combine_chunks(), found.column)
        absent = status == NOT_SERVED
        silent = (status == Status.UNKNOWN) & ~judging.null_key(feature)
        excused = status == Status.STALE
        yield Judged(
            feature=feature,
            found=found,
            unequal=unequal & ~excused & ~silent & ~absent,
            values=int((~silent & ~absent).sum()),
            unknown=int(silent.sum()),
            stale_unequal=int((unequal & excused).sum()),
        )


def same(one: pa.Array, other: pa.Array) -> Bools:
    """Where two columns of one type hold the same bits; null equals null. -0.0 is not 0.0, and NaN equals itself."""
    null, other_null = (column.is_null().to_numpy(zero_copy_only=False) for column in (one, other))
    if pa.types.is_list(one.type):
        pairs = zip(_texts(one), _texts(other), strict=True)
        equal = np.fromiter((a == b for a, b in pairs), dtype=bool, count=len(one))
    elif pa.types.is_floating(one.type):
        equal = _bits(one) == _bits(other)
    else:
        equal = pc.fill_null(pc.equal(one, other), False).to_numpy(zero_copy_only=False).astype(bool)
    return np.where(null | other_null, null & other_null, equal)


def _bits(column: pa.Array) -> NDArray[np.int64]:
    found: NDArray[np.int64] = pc.fill_null(column, 0.0).to_numpy(zero_copy_only=False).view(np.int64)
    return found


def _texts(column: pa.Array) -> list[str]:
    """Lists as text that tells all floats apart."""
    return [repr(value) for value in column.to_pylist()]


class _Judge:
    """What each value should have been, given what the reader saw of the moment."""

    def __init__(self, layout: ServedLayout, served: pa.Table, recomputed: Recomputed) -> None:
        self._layout, self._served, self._recomputed = layout, served, recomputed
        self._requested = served.column(REQUESTED).combine_chunks()
        self._null_key = {each.id: self._null_keys(list(each.read.columns.values())) for each in layout.reads.values()}
        self._stored: dict[tuple[str, str], Answer] = {}
        self._functions: dict[bytes, ComputedAnswers] = {}
        asked = pc.coalesce(self._requested, served.column(SERVED).combine_chunks())
        self._asked_us = pc.fill_null(asked, 0).to_numpy(zero_copy_only=False)

    def expected(self, feature: ServedFeature) -> Answer:
        """One feature as the service should have served it."""
        served = _statuses(self._served, feature.status)
        if isinstance(feature.item, FeatureRef):
            found = self._answer(feature.item, served)
        else:
            found = self._computed(served).of(feature.item)
            for ref in feature.refs:
                unprovable = self._base(ref).status == UNPROVABLE
                found = Answer(column=found.column, status=np.where(unprovable, UNPROVABLE, found.status))
        service = self._layout.service
        names = (feature.name, str(feature.item) if isinstance(feature.item, FeatureRef) else feature.name)
        default = next((service.defaults[name] for name in names if name in service.defaults), None)
        return with_defaults(
            found, default=default, on_stale=service.on_stale, on_ahead=service.on_ahead, name=feature.name
        )

    def _computed(self, served: Statuses) -> ComputedAnswers:
        """What is computed of parts that were served as their own statuses say, or else as those of the whole."""
        moment = (served == Status.STALE).tobytes() + (served == Status.UNKNOWN).tobytes()
        if moment not in self._functions:
            self._functions[moment] = ComputedAnswers(
                stored=lambda ref: self._answer(ref, self._moment(ref, served)),
                requested=lambda asked: self._served.column(asked.column).combine_chunks(),
                asked_us=self._asked_us,
                strict=False,
            )
        return self._functions[moment]

    def null_key(self, feature: ServedFeature) -> Bools:
        """Where a key that the feature needs is null, so that it must be UNKNOWN."""
        none = np.zeros(self._served.num_rows, dtype=bool)
        found: Bools = np.logical_or.reduce([none, *(self._null_key[ref.read_id] for ref in feature.refs)])
        return found

    def _moment(self, ref: FeatureRef, own: Statuses) -> Statuses:
        """The statuses that a part of what is computed was served with; those of the whole where the part itself is not served."""
        for other in self._layout.features:
            if isinstance(other.item, FeatureRef) and str(other.item) == str(ref):
                return _statuses(self._served, other.status)
        return own

    def _answer(self, ref: FeatureRef, served: Statuses) -> Answer:
        """A stored feature with the status that follows from its windows, its key and the time it was asked for.

        That a value is STALE, or that nothing is known of it, is a fact of the moment, which only the record has.
        """
        base = self._base(ref)
        status = base.status.copy()
        judged = (status != UNPROVABLE) & (status != Status.ERROR) & (status != Status.UNKNOWN)
        ahead = self._ahead(ref)
        status[judged & ahead] = Status.AHEAD
        status[judged & ~ahead & (served == Status.STALE)] = Status.STALE
        status[~self._null_key[ref.read_id] & (served == Status.UNKNOWN)] = Status.UNKNOWN
        column = pc.if_else(pa.array(status == Status.UNKNOWN), pa.scalar(None, type=base.column.type), base.column)
        return Answer(column=column, status=status)

    def _base(self, ref: FeatureRef) -> Answer:
        """A stored feature as its windows give it."""
        key = (ref.read_id, ref.feature)
        if key not in self._stored:
            self._stored[key] = answer(self._layout.plan_of(ref), self._recomputed[ref.read_id][ref.feature])
        return self._stored[key]

    def _ahead(self, ref: FeatureRef) -> Bools:
        """Where the value was given for a later time than was asked for."""
        effective = self._served.column(view_column(ref.read_id, "as_of_us")).combine_chunks()
        return _true(pc.greater(effective, self._requested))

    def _null_keys(self, names: Sequence[str]) -> Bools:
        masks = [self._served.column(name).combine_chunks().is_null().to_numpy(zero_copy_only=False) for name in names]
        found: Bools = np.logical_or.reduce([np.zeros(self._served.num_rows, dtype=bool), *masks])
        return found


def _true(mask: pa.Array) -> Bools:
    found: Bools = pc.fill_null(mask, False).to_numpy(zero_copy_only=False).astype(bool)
    return found


def _statuses(served: pa.Table, name: str) -> Statuses:
    column = pc.fill_null(served.column(name).combine_chunks(), NOT_SERVED)
    found: Statuses = column.to_numpy(zero_copy_only=False).astype(np.int8)
    return found


def difference(judged: Judged, served: pa.Table, row: int) -> Difference:
    """A value that is not what it should have been, with its place and its times."""
    feature, found = judged.feature, judged.found
    moment = dict.fromkeys(("as_of_us", "run", "n"), None)
    if feature.refs:
        read = feature.refs[0].read_id
        moment = {name: served.column(view_column(read, name))[row].as_py() for name in moment}
    return Difference(
        vector=str(served.column(VECTOR)[row].as_py()),
        feature=feature.name,
        served=served.column(feature.column)[row].as_py(),
        served_status=Status(served.column(feature.status)[row].as_py()).name,
        recomputed=found.column[row].as_py(),
        recomputed_status="UNPROVABLE" if found.status[row] == UNPROVABLE else Status(int(found.status[row])).name,
        **moment,
    )
