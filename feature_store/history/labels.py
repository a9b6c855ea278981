"""Labels at every row of a spine: what happened in the time after it, as far as that time has passed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.declare.keyed import KeyedView
from feature_store.history.answers import answer
from feature_store.history.coverage import check_complete
from feature_store.history.spine import spine_keys
from feature_store.history.windows import window_values
from feature_store.time_rule import BEGINNING_US

if TYPE_CHECKING:
    from feature_store.declare.label import Label
    from feature_store.history.reading import LakeReading
    from feature_store.history.spine import Spine
    from feature_store.history.workers import Workers
    from feature_store.transforms.compiled import Compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelColumn:
    """A label at the rows of a spine."""

    column: pa.Array
    """Null where the window is open or a key is null."""
    open: int
    """Rows whose window has not closed."""


def label_column(
    compiled: Compiled,
    label: Label,
    *,
    reading: LakeReading,
    spine: Spine,
    now_us: int,
    workers: Workers,
    allow_incomplete: bool,
) -> LabelColumn:
    """A label at every row. A window is closed once the lake knows the source up to its end, and that has passed.

    Raises:
        InputError: the spine lacks a key, or days of closed windows were never loaded.
    """
    plan = compiled.label_plan(label)
    view, source = plan.view, plan.view.source.name
    known = reading.coverage(source)
    ends_us = spine.time_us + label.within_us
    closed = ends_us <= (BEGINNING_US if known.until_us is None else min(now_us, known.until_us))
    if closed.any() and not allow_incomplete:
        ends = ends_us[closed]
        check_complete(known, view, first_us=int(ends.min()), last_us=int(ends.max()))
    keys = spine_keys(spine, KeyedView(view), compiled.schemas[source])
    found = window_values(plan, reading=reading, keys=keys, time_us=ends_us, served=False, workers=workers).values[
        label.name
    ]
    column = answer(plan.features[0], found).column
    if label.outcome.aggregate == "any":
        column = pc.greater(column, 0)
    lost = ~closed | (np.asarray(keys.codes) < 0)
    return LabelColumn(
        column=pc.if_else(pa.array(lost), pa.scalar(None, type=column.type), column), open=int((~closed).sum())
    )
