"""How one feature's values are distributed, over entities at a time or over the rows of a spine."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.errors import InputError
from feature_store.history.spine import read_spine
from feature_store.html_table import html_table
from feature_store.masked import MASK
from feature_store.notebook.entities import TIME_COLUMN, Ask, describe, feature_name, one_feature, spine_at
from feature_store.notebook.over_time import value_columns
from feature_store.notebook.sample import WHOLE, Sample
from feature_store.time_rule import from_us, moment_us

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

    from feature_store.lake import Lake
    from feature_store.notebook.entities import Asked
    from feature_store.transforms.compiled import Compiled

_QUANTILES = {"min": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "max": 1.0}
_MOST_COMMON = 10


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Distribution:
    """The values of a feature, one for each entity or row that was asked for."""

    feature: str
    """`view:feature`, or the name of a ratio."""
    description: str
    over: str
    """What was asked for, in words."""
    table: pa.Table
    """The spine's columns, `value`, and `status` as a name."""
    sample: str
    """Which part of the events it rests on, in words; empty for all."""
    personal: bool = False
    """Whether it is personal data: its summary is left out where it is shown, not where it is plotted."""

    def to_pandas(self) -> pd.DataFrame:
        """As a frame: the spine's columns, `value` and `status`."""
        frame: pd.DataFrame = self.table.to_pandas()
        return frame

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw it: a histogram of numbers and times, bars of anything else. Nulls are counted in the title.

        Raises:
            InputError: its values are lists, or there are none.
            ImportError: the extra `notebook` is not installed.
        """
        from feature_store.notebook.plots import plot_distribution

        return plot_distribution(self, ax)

    @property
    def nulls(self) -> int:
        """Rows without a value."""
        return int(self.table.column("value").null_count)

    def summary(self) -> dict[str, object]:
        """Numbers: mean and quantiles; anything else: the most common values, each with how often it is there."""
        values = self.table.column("value").drop_null()
        if not len(values):
            return {}
        kind = values.type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            found = pc.quantile(values, q=list(_QUANTILES.values())).to_pylist()
            return {"mean": pc.mean(values).as_py(), **dict(zip(_QUANTILES, found, strict=True))}
        return {str(value): count for value, count in Counter(map(str, values.to_pylist())).most_common(_MOST_COMMON)}

    def __repr__(self) -> str:
        return f"Distribution({self.feature} over {self.over}: {self.table.num_rows:,} values, {self.nulls:,} null)"

    def _repr_html_(self) -> str:
        summary = {"": MASK} if self.personal else self.summary()
        rows = [[name, f"{value:.6g}" if isinstance(value, float) else value] for name, value in summary.items()]
        statuses = Counter(self.table.column("status").to_pylist())
        counted = ", ".join(f"{count:,} {status}" for status, count in statuses.most_common())
        return html_table(
            f"{self.feature} over {self.over}",
            ["", self.description],
            rows,
            notes=[f"{counted}; {self.nulls:,} null", self.sample],
        )


def distribution(
    compiled: Compiled,
    lake: Lake,
    ask: Ask,
    feature: Asked,
    *,
    at: datetime | str | None,
    spine: pd.DataFrame | pa.Table | Path | str | None,
    sample: Sample = WHOLE,
) -> Distribution:
    """The values at a time, of every entity that has had an event by then, or at the rows of a spine.

    Raises:
        UnknownNameError: no such view or feature.
        InputError: not just one of `at` and `spine` is given, the time is naive, or no entity has had an event.
    """
    item = one_feature(compiled.registry, feature)
    if (at is None) == (spine is None):
        raise InputError("a distribution is over the entities `at` a time, or over a `spine`: give one of them")
    if spine is None:
        at_us = moment_us(at, "at")
        rows = spine_at(compiled, lake, compiled.registry.reads([item]), at_us, sample=sample)
        over = f"{rows.num_rows:,} entities at {from_us(at_us):%Y-%m-%d %H:%M} UTC"
    else:
        rows = read_spine(spine, lake=lake, time_column=TIME_COLUMN).table
        over = f"{rows.num_rows:,} rows"
        for name in sorted({"value", "status"}.intersection(rows.schema.names)):
            raise InputError(f"spine column '{name}' has the name of a column of the result; rename it")
    found = ask(rows, [item])
    columns = {name: found.table.column(name) for name in rows.schema.names}
    return Distribution(
        feature=feature_name(item),
        description=describe(compiled.registry, item),
        over=over,
        table=pa.table({**columns, **value_columns(found.table, found.feature_columns[0])}),
        sample=found.sample,
        personal=found.feature_columns[0] in found.personal,
    )
