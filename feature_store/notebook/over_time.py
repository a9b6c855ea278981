"""One feature of one entity, over a span of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.declare.requests import requests_of
from feature_store.errors import InputError
from feature_store.html_table import html_table
from feature_store.masked import masked, masked_keys
from feature_store.notebook.entities import (
    TIME_COLUMN,
    Ask,
    Asked,
    describe,
    feature_name,
    key_columns,
    one_feature,
    times,
)
from feature_store.status import Status
from feature_store.time_rule import DAY_US, HOUR_US, MINUTE_US, SECOND_US, format_duration, moment_us, parse_duration

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    import pandas as pd
    from matplotlib.axes import Axes

    from feature_store.transforms.compiled import Compiled

_POINTS, _MOST_POINTS = 240, 100_000
_STEPS_US = sorted(
    [n * unit for unit in (SECOND_US, MINUTE_US) for n in (1, 2, 5, 10, 15, 30)]
    + [n * HOUR_US for n in (1, 2, 3, 6, 12)]
    + [n * DAY_US for n in (1, 2, 7, 14, 30)]
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OverTime:
    """A feature of an entity at times that are `every_us` apart; between them it may have been another."""

    feature: str
    """`view:feature`, or the name of a ratio."""
    entity: Mapping[str, object]
    description: str
    table: pa.Table
    """`event_timestamp`, `value`, and `status` as a name."""
    every_us: int
    sample: str
    """Which part of the events it rests on, in words; empty for all."""
    personal: bool = False
    """Whether it is personal data: values and keys are masked where it is shown, not where it is plotted."""

    def to_pandas(self) -> pd.DataFrame:
        """As a frame of `event_timestamp`, `value` and `status`."""
        frame: pd.DataFrame = self.table.to_pandas()
        return frame

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw it as steps; where there is no value there is a gap.

        Args:
            ax: where; a figure of its own by default.

        Raises:
            InputError: its values are lists.
            ImportError: the extra `notebook` is not installed.
        """
        from feature_store.notebook.plots import plot_over_time

        return plot_over_time(self, ax)

    @property
    def who(self) -> str:
        """The entity in words."""
        keys = masked_keys(self.entity, personal=self.personal)
        return ", ".join(f"{name} {value}" for name, value in keys.items())

    def __repr__(self) -> str:
        rows = self.table.num_rows
        return f"OverTime({self.feature} of {self.who}: {rows:,} values, every {format_duration(self.every_us)})"

    def _repr_html_(self) -> str:
        head = self.table.slice(0, 10)
        rows = [
            [masked(value, personal=self.personal and name == "value") for name, value in row.items()]
            for row in head.to_pylist()
        ]
        more = self.table.num_rows - head.num_rows
        return html_table(
            f"{self.feature} of {self.who}",
            ["time", "value", "status"],
            rows,
            notes=[f"and {more:,} more, every {format_duration(self.every_us)}" if more else "", self.sample],
        )


def over_time(
    compiled: Compiled,
    ask: Ask,
    feature: Asked,
    *,
    entity: Mapping[str, object],
    start: datetime | str,
    end: datetime | str,
    every: str | timedelta | None,
) -> OverTime:
    """The feature at `start`, every so much later, until `end`; about 240 times unless said otherwise.

    Raises:
        UnknownNameError: no such view, feature or join key.
        InputError: the entity lacks a key, a time is naive, or the span is empty or has too many steps.
    """
    item = one_feature(compiled.registry, feature)
    start_us, end_us = moment_us(start, "start"), moment_us(end, "end")
    every_us = _every_us(start_us, end_us, every)
    moments = range(start_us, end_us + 1, every_us)
    columns = key_columns(compiled, compiled.registry.reads([item]), entity, len(moments), asked=requests_of([item]))
    found = ask(pa.table({**columns, TIME_COLUMN: times(list(moments))}), [item])
    return OverTime(
        feature=feature_name(item),
        entity=dict(entity),
        description=describe(compiled.registry, item),
        table=pa.table(
            {TIME_COLUMN: found.table.column(TIME_COLUMN), **value_columns(found.table, found.feature_columns[0])}
        ),
        every_us=every_us,
        sample=found.sample,
        personal=found.feature_columns[0] in found.personal,
    )


def value_columns(table: pa.Table, name: str) -> dict[str, pa.ChunkedArray | pa.Array]:
    """`value` and `status` of one feature of a training set with statuses."""
    names = {int(status): status.name for status in Status}
    codes = table.column(f"{name}__status").to_pylist()
    return {"value": table.column(name), "status": pa.array([names[code] for code in codes], type=pa.string())}


def _every_us(start_us: int, end_us: int, every: str | timedelta | None) -> int:
    if start_us >= end_us:
        raise InputError("`start` must lie before `end`: there is no time between them")
    if every is None:
        return next((step for step in _STEPS_US if step * _POINTS >= end_us - start_us), _STEPS_US[-1])
    try:
        every_us = parse_duration(every, name="every")
    except ValueError as error:
        raise InputError(str(error)) from None
    if (end_us - start_us) // every_us >= _MOST_POINTS:
        raise InputError(
            f"`every` must leave at most {_MOST_POINTS:,} times between `start` and `end`, got {format_duration(every_us)}"
        )
    return every_us
