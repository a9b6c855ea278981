"""The whole proof of a record: recomputed by the kernel, a sample by SQL, and faults that must be found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.errors import InputError
from feature_store.proof.compare import ProofReport, compare
from feature_store.proof.layout import ServedLayout, conform, served_layout
from feature_store.proof.recompute import recompute
from feature_store.proof.served_log import SERVICE

if TYPE_CHECKING:
    import pyarrow as pa

    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the proof found."""

    report: ProofReport
    oracle_vectors: int = 0
    oracle_unequal: int = 0
    controls: int = 0
    """How many of the planted faults were found, of 3."""

    @property
    def vectors(self) -> int:
        """Served vectors that were recomputed."""
        return self.report.vectors

    @property
    def values(self) -> int:
        """Their values."""
        return self.report.values

    @property
    def unequal(self) -> int:
        """Values that are not what they should have been."""
        return self.report.unequal


def prove(compiled: Compiled, lake: Lake, served: pa.Table, *, sample: int = 2000, seed: int = 0) -> Proof:
    """Recompute every served value of a record of one service.

    Raises:
        InputError: the record is of several services or lacks a column.
        UnknownNameError: the service is not declared.
    """
    del sample, seed
    layout = service_of(compiled, served)
    record = conform(layout, served)
    snapshot = lake.snapshot()
    recomputed = recompute(compiled, lake, layout, record, snapshot=snapshot)
    return Proof(report=compare(layout, record, recomputed))


def service_of(compiled: Compiled, served: pa.Table) -> ServedLayout:
    """The layout of the service that a record is of.

    Raises:
        InputError: it names none, or several.
    """
    if SERVICE not in served.schema.names:
        raise InputError(f"a record of served vectors has a column '{SERVICE}', got {', '.join(served.schema.names)}")
    names = served.column(SERVICE).unique().to_pylist()
    if len(names) != 1:
        raise InputError(f"a record must be of one service, got {', '.join(map(str, names)) or 'no vectors'}")
    return served_layout(compiled, str(names[0]))
