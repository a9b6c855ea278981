"""Vectors that cannot be proved any more: retention has removed events that their windows held."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from feature_store.history.kept import start_us
from feature_store.proof.recompute import Entities, Knowledge, ask

if TYPE_CHECKING:
    import pyarrow as pa

    from feature_store.lake import Lake
    from feature_store.proof.compare import Bools
    from feature_store.proof.layout import ServedLayout
    from feature_store.transforms.compiled import Compiled


def removed(compiled: Compiled, lake: Lake, layout: ServedLayout, record: pa.Table, *, snapshot: int) -> Bools:
    """Which vectors rest on a window that reaches before the first day of which every event is there."""
    gone = np.zeros(record.num_rows, dtype=bool)
    days = {each.plan.view.source.name: None for each in layout.reads.values()}
    kept = {source: day for source in days if (day := lake.retention.kept_from(source, snapshot=snapshot)) is not None}
    if not kept:
        return gone
    numbered, known = Entities(compiled, record), Knowledge.of(lake, snapshot=snapshot)
    for each in layout.reads.values():
        view = each.plan.view
        if view.source.name in kept:
            asked, _ = ask(each, lake, record, keys=numbered.of(each.read), known=known)
            first = start_us(kept[view.source.name])
            span = view.longest_window_us
            gone[asked.row if span is None else asked.row[asked.time_us - span < first]] = True
    return gone
