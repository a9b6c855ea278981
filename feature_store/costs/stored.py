"""Bytes in the lake, from the statistics that it keeps of each file and column; no file is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from feature_store.history.asof import status_column
from feature_store.lake.events import live_table, loaded_table
from feature_store.lake.view_tables import built_table
from feature_store.transforms.project import column_types

if TYPE_CHECKING:
    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled
    from feature_store.transforms.plan import ViewPlan


def feature_bytes(compiled: Compiled, lake: Lake) -> dict[str, float]:
    """`view@version:feature` -> bytes of its columns in the newest tiles or rows of its view.

    A column that several features share (a sum that two windows are made of, the key, the time) is divided among them,
    so that the sum over a view is the size of its table's files.
    """
    sizes = lake.column_bytes([built_table(view) for view in compiled.registry.views])
    found: dict[str, float] = {}
    for view in compiled.registry.views:
        columns = sizes.get(built_table(view), {})
        shares = _shares(compiled.plan(view), columns)
        found |= {f"{view.id}:{feature.name}": shares.get(feature.name, 0.0) for feature in view.declared}
    return found


def source_bytes(compiled: Compiled, lake: Lake) -> dict[str, int]:
    """Source -> bytes of its events, which all of its views read."""
    tables = {name: (loaded_table(name), live_table(name)) for name in compiled.registry.sources}
    sizes = lake.column_bytes([table for both in tables.values() for table in both])
    return {name: sum(sum(sizes.get(table, {}).values()) for table in both) for name, both in tables.items()}


def _shares(plan: ViewPlan, columns: Mapping[str, int]) -> dict[str, float]:
    everybody = [feature.name for feature in plan.view.declared]
    owners = dict(_owners(plan))
    found: dict[str, float] = defaultdict(float)
    for column, size in columns.items():
        names = owners.get(column) or everybody
        for name in names:
            found[name] += size / len(names)
    return found


def _owners(plan: ViewPlan) -> Iterable[tuple[str, Sequence[str]]]:
    """Column of the view's table -> the features that are made of it."""
    if plan.view.is_batch:
        for feature in plan.view.declared:
            yield feature.name, [feature.name]
            yield status_column(feature.name), [feature.name]
        return
    for partial in plan.columns:
        users = [each.feature.name for each in plan.features if partial in each.columns.values()]
        for column in column_types(partial):
            yield column, users
