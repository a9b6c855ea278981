"""Verify what the lake has on record of served vectors: every value once more, and the cause of each difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from feature_store.declare.feature import AS
from feature_store.errors import UnknownNameError
from feature_store.masked import masked, masked_keys
from feature_store.proof.causes import EXCUSED, Cause, Examined, causes
from feature_store.proof.compare import Difference, Judged, difference, judge
from feature_store.proof.layout import ServedLayout, served_layout
from feature_store.proof.oracle import consult
from feature_store.proof.pending import pending
from feature_store.proof.recompute import provable, recompute
from feature_store.proof.removed import removed
from feature_store.proof.served_log import SERVED, SERVICE
from feature_store.proof.served_table import SERVED_TABLE, read_served

if TYPE_CHECKING:
    from feature_store.declare.service import FeatureService
    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled

EXAMPLES = 100
"""How many differences a verdict lists; it counts all."""
SAMPLE = 200
"""How many vectors are asked of SQL as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureVerdict:
    """One feature of a service."""

    feature: str
    values: int
    """Compared."""
    unequal: int
    causes: Mapping[str, int]
    """Cause -> how many of the unequal values have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unequal:
    """A value that is not what it should have been, and why."""

    difference: Difference
    entity: Mapping[str, object]
    """The join keys of the request."""
    cause: str
    detail: str
    personal: bool = False
    """Whether its service reads personal data."""

    @property
    def masked(self) -> Unequal:
        """The same without what is personal: keys and values."""
        if not self.personal:
            return self
        hidden = replace(
            self.difference,
            served=masked(self.difference.served, personal=True),
            recomputed=masked(self.difference.recomputed, personal=True),
        )
        return replace(self, difference=hidden, entity=masked_keys(self.entity, personal=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be said of one service's vectors."""

    service: str
    """`name@version`."""
    vectors: int
    pending: int
    """Left out, because the lake does not have yet what they rest on."""
    removed: int = 0
    """Left out, because retention has removed events that they rest on."""
    unknown: int
    """Values that were served as UNKNOWN: nothing to compare."""
    stale_unequal: int
    """Served as STALE and different."""
    features: Sequence[FeatureVerdict]
    oracle_values: int
    """Values of a sample that SQL was asked for as well."""
    oracle_unequal: int
    """Those of which SQL says otherwise, though the kernel agrees."""
    unequals: Sequence[Unequal] = field(default=())
    """The first of them; defects come first."""

    @property
    def masked(self) -> Verdict:
        """The same, whose examples show nothing personal."""
        return replace(self, unequals=[each.masked for each in self.unequals])

    @property
    def values(self) -> int:
        """Compared values."""
        return sum(each.values for each in self.features)

    @property
    def unequal(self) -> int:
        """Values that are not what they should have been."""
        return sum(each.unequal for each in self.features)

    @property
    def causes(self) -> Mapping[str, int]:
        """Cause -> how many of the unequal values have it."""
        total: Counter[str] = Counter()
        for each in self.features:
            total.update(each.causes)
        return dict(total)

    @property
    def excused(self) -> int:
        """Unequal values that a recorded redefinition or a recorded loss of the store explains."""
        return sum(count for cause, count in self.causes.items() if cause in EXCUSED)

    @property
    def defects(self) -> int:
        """All others, and those of the sample that SQL finds wrong."""
        return self.unequal - self.excused + self.oracle_unequal

    @property
    def score(self) -> float:
        """`training_serving_skew_score`: the share of unequal values, expected to be exactly 0."""
        compared = self.values + self.oracle_values
        return (self.unequal + self.oracle_unequal) / compared if compared else 0.0


def verify(
    compiled: Compiled,
    lake: Lake,
    *,
    service: str | None = None,
    since_us: int | None = None,
    until_us: int | None = None,
    sample: int = SAMPLE,
) -> list[Verdict]:
    """Recompute the served vectors that the lake has on record, service by service.

    Args:
        compiled: the declarations that were served.
        lake: with the log, the commits and the served vectors archived.
        service: `name` (all its versions) or `name@version`; by default all that are declared.
        since_us: when a vector was served at the earliest.
        until_us: the end of that time, excluded.
        sample: how many vectors of a service, drawn at random, are asked of SQL as well.

    Raises:
        UnknownNameError: no such service is declared.
    """
    where = " AND ".join(
        f"{SERVED} {sign} {int(moment)}" for sign, moment in ((">=", since_us), ("<", until_us)) if moment is not None
    )
    return [
        _verdict(compiled, lake, served_layout(compiled, each.id), where=where or "TRUE", sample=sample)
        for each in _asked(compiled, service)
    ]


def undeclared(compiled: Compiled, lake: Lake) -> dict[str, int]:
    """Services of which the lake has vectors on record although they are not declared -> how many."""
    if not lake.exists(SERVED_TABLE):
        return {}
    declared = {name for each in compiled.registry.services for name in (each.id, each.name)}
    with lake.reading() as cursor:
        rows = cursor.execute(
            f"SELECT {SERVICE}, count(*) FROM {lake.table_sql(SERVED_TABLE)} GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    return {name: count for name, count in rows if name not in declared}


def _asked(compiled: Compiled, service: str | None) -> list[FeatureService]:
    declared = sorted(compiled.registry.services, key=lambda each: (each.name, each.version))
    found = [each for each in declared if service in (None, each.name, each.id)]
    if service is not None and not found:
        raise UnknownNameError("service", service, [each.id if AS in service else each.name for each in declared])
    return found


def _verdict(compiled: Compiled, lake: Lake, layout: ServedLayout, *, where: str, sample: int) -> Verdict:
    recorded, snapshot = read_served(compiled, lake, layout.service.id, where=where), lake.snapshot()
    record = provable(compiled, lake, layout, recorded, snapshot=snapshot)
    waits = pending(lake, layout, record, snapshot=snapshot)
    record = record.filter(pa.array(~waits))
    gone = removed(compiled, lake, layout, record, snapshot=snapshot)
    record = record.filter(pa.array(~gone))
    recomputed = recompute(compiled, lake, layout, record, snapshot=snapshot)
    judged = list(judge(layout, record, recomputed))
    examined = Examined(
        compiled=compiled, lake=lake, layout=layout, record=record, recomputed=recomputed, snapshot=snapshot
    )
    found = causes(examined, judged) if any(each.unequal.any() for each in judged) else {}
    equal = np.flatnonzero(~np.logical_or.reduce([each.unequal for each in judged])) if judged else np.zeros(0, int)
    oracle = consult(lake, layout, record.take(pa.array(_drawn(equal, sample))), snapshot=snapshot)
    return Verdict(
        service=layout.service.id,
        vectors=record.num_rows,
        pending=int(waits.sum()),
        removed=int(gone.sum()),
        unknown=sum(each.unknown for each in judged),
        stale_unequal=sum(each.stale_unequal for each in judged),
        features=[_of_feature(each, found) for each in judged],
        oracle_values=oracle.values,
        oracle_unequal=oracle.unequal,
        unequals=_listed(layout, record, judged, found),
    )


def _drawn(rows: np.ndarray, count: int) -> np.ndarray:
    drawn: np.ndarray = np.sort(np.random.default_rng(0).permutation(rows)[:count]).astype(np.int64)
    return drawn


def _of_feature(judged: Judged, found: Mapping[tuple[int, str], Cause]) -> FeatureVerdict:
    name, rows = judged.feature.name, np.flatnonzero(judged.unequal).tolist()
    return FeatureVerdict(
        feature=name,
        values=judged.values,
        unequal=len(rows),
        causes=dict(Counter(found[row, name].name for row in rows)),
    )


def _listed(
    layout: ServedLayout, record: pa.Table, judged: Sequence[Judged], found: Mapping[tuple[int, str], Cause]
) -> list[Unequal]:
    by_name = {each.feature.name: each for each in judged}
    columns = sorted({column for each in layout.reads.values() for column in each.read.columns.values()})
    places = sorted(found, key=lambda place: (found[place].name in EXCUSED, place[0]))[:EXAMPLES]
    return [
        Unequal(
            difference=difference(by_name[name], record, row),
            entity={column: record.column(column)[row].as_py() for column in columns},
            cause=found[row, name].name,
            detail=found[row, name].detail,
            personal=any(each.read.view.is_personal for each in layout.reads.values()),
        )
        for row, name in places
    ]
