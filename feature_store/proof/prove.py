"""The whole proof of a record: recomputed by the kernel, a sample by SQL, and faults that must be found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from feature_store.proof.compare import ProofReport, compare
from feature_store.proof.faults import Bench, Control, plant, take
from feature_store.proof.knowledge import Commits
from feature_store.proof.layout import served_layout_of
from feature_store.proof.oracle import OracleReport, consult
from feature_store.proof.recompute import provable, recompute

if TYPE_CHECKING:
    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the proof found."""

    report: ProofReport
    oracle: OracleReport
    faults: Sequence[Control]

    @property
    def vectors(self) -> int:
        """Served vectors that were recomputed."""
        return self.report.vectors

    @property
    def values(self) -> int:
        """Their values that were compared."""
        return self.report.values

    @property
    def unequal(self) -> int:
        """Values that are not what they should have been."""
        return self.report.unequal

    @property
    def oracle_vectors(self) -> int:
        """Vectors of the sample."""
        return self.oracle.vectors

    @property
    def oracle_unequal(self) -> int:
        """Values of the sample of which SQL says otherwise."""
        return self.oracle.unequal

    @property
    def controls(self) -> int:
        """How many of the three planted faults were found."""
        return sum(control.found for control in self.faults)


def prove(compiled: Compiled, lake: Lake, served: pa.Table, *, sample: int = 2000, seed: int = 0) -> Proof:
    """Prove a record of one service: every value by the kernel, a sample by SQL, and three planted faults.

    Args:
        compiled: the declarations that were served.
        lake: with the log and the commit records archived up to the newest vector.
        served: a record (`ServedLog.table`, or `read_served`).
        sample: how many vectors, drawn at random, are asked of SQL and given faults.
        seed: of the draw.

    Raises:
        InputError: the record is of several services or lacks a column.
        UnknownNameError: the service is not declared.
    """
    layout = served_layout_of(compiled, served)
    snapshot = lake.snapshot()
    record = provable(compiled, lake, layout, served, snapshot=snapshot)
    recomputed = recompute(compiled, lake, layout, record, snapshot=snapshot)
    drawn = np.random.default_rng(seed).permutation(record.num_rows)[:sample]
    drawn.sort()
    some = record.take(pa.array(drawn))
    bench = Bench(
        compiled=compiled,
        lake=lake,
        layout=layout,
        record=some,
        recomputed=take(recomputed, drawn),
        commits=Commits.of(lake, snapshot=snapshot),
        snapshot=snapshot,
    )
    return Proof(
        report=compare(layout, record, recomputed),
        oracle=consult(lake, layout, some, snapshot=snapshot),
        faults=plant(bench),
    )
