"""Plots of features by Matplotlib, which is imported late and comes with the extra `notebook`."""

from __future__ import annotations

from collections import Counter
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from feature_store.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from feature_store.notebook.distribution import Distribution
    from feature_store.notebook.over_time import OverTime

_COLOUR, _GREY = "#1f6f8b", "#666666"
_BINS, _MOST_BARS, _LABEL = 40, 20, 24


def plot_over_time(found: OverTime, ax: Axes | None) -> Axes:
    """Steps over time; see `OverTime.plot`."""
    axes = ax if ax is not None else _axes()
    column = found.table.column("value")
    _refuse_lists(column.type, found.feature)
    moments = found.table.column("event_timestamp").cast(pa.timestamp("us")).to_numpy()
    numbers, ticks = _numbers(column)
    # A value holds until the next one, the last one as long as the others.
    moments = np.append(moments, moments[-1] + np.timedelta64(found.every_us, "us"))
    axes.step(moments, np.append(numbers, numbers[-1]), where="post", color=_COLOUR, linewidth=1.4)
    _dates(axes.xaxis)
    _label_values(axes.yaxis, column.type, ticks)
    axes.set_xlabel("UTC", color=_GREY)
    axes.set_ylabel(_wrapped(found.description))
    axes.set_xlim(moments[0], moments[-1])
    axes.margins(y=0.08)
    _title(axes, f"{found.feature} of {found.who}", found.sample)
    return axes


def plot_distribution(found: Distribution, ax: Axes | None) -> Axes:
    """A histogram or bars; see `Distribution.plot`."""
    column = found.table.column("value")
    _refuse_lists(column.type, found.feature)
    values = column.drop_null()
    if not len(values):
        raise InputError(f"'{found.feature}' has no value over {found.over}: there is nothing to draw")
    axes = ax if ax is not None else _axes()
    if _is_measured(values.type):
        _histogram(axes, values)
        axes.set_xlabel(_shortened(found.description, 60))
        axes.set_ylabel("count")
    else:
        _bars(axes, [str(value) for value in values.to_pylist()])
        axes.set_xlabel("count")
        axes.set_ylabel(_wrapped(found.description))
    nulls = f", {found.nulls:,} without a value" if found.nulls else ""
    _title(axes, found.feature, f"{found.over}{nulls}" + (f"; {found.sample}" if found.sample else ""))
    return axes


def _axes() -> Axes:
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError(f"plots need Matplotlib ({error}): install feature-store[notebook]") from error
    _, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", color="#e5e5e5")
    axes.set_axisbelow(True)
    return axes


def _histogram(axes: Axes, values: pa.ChunkedArray) -> None:
    kind = values.type
    numbers = values.cast(pa.timestamp("us")).to_numpy() if _is_time(kind) else values.to_numpy()
    whole = pa.types.is_integer(kind)
    low, high = numbers.min(), numbers.max()
    if whole and high - low < _BINS:
        axes.bar(*np.unique(numbers, return_counts=True), width=0.8, color=_COLOUR)
        _whole_numbers(axes.xaxis)
    else:
        axes.hist(
            numbers, bins=_whole_edges(low, high) if whole else _BINS, color=_COLOUR, edgecolor="white", linewidth=0.4
        )
    if _is_time(kind):
        _dates(axes.xaxis)
    _whole_numbers(axes.yaxis)


def _whole_edges(low: int, high: int) -> list[float]:
    """Bins that hold as many whole numbers each."""
    step = -(-(int(high) - int(low) + 1) // _BINS)
    return [edge - 0.5 for edge in range(int(low), int(high) + step + 1, step)]


def _bars(axes: Axes, values: list[str]) -> None:
    counted = Counter(values).most_common()
    shown, rest = counted[:_MOST_BARS], counted[_MOST_BARS:]
    if rest:
        shown.append((f"{len(rest):,} others", sum(count for _, count in rest)))
    places = range(len(shown))
    axes.barh(places, [count for _, count in shown], color=_COLOUR)
    axes.set_yticks(places, [_shortened(value, _LABEL) for value, _ in shown])
    axes.invert_yaxis()
    axes.grid(visible=False)


def _numbers(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Heights with NaN (times: NaT) for null, and what heights 0, 1, ... stand for if they are no numbers."""
    kind = column.type
    if _is_time(kind):
        return column.cast(pa.timestamp("us")).to_numpy(), []
    if _is_measured(kind):
        return column.cast(pa.float64(), safe=False).to_numpy(), []
    names = sorted({str(value) for value in column.drop_null().to_pylist()})
    places = {name: float(place) for place, name in enumerate(names)}
    return np.array([np.nan if each is None else places[str(each)] for each in column.to_pylist()]), names


def _label_values(axis: Axis, kind: pa.DataType, names: list[str]) -> None:
    if _is_time(kind):
        _dates(axis)
    elif names:
        shown = np.unique(np.linspace(0, len(names) - 1, min(len(names), _MOST_BARS)).astype(int))
        axis.set_ticks(shown, labels=[_shortened(names[place], _LABEL) for place in shown])


def _dates(axis: Axis) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axis.set_major_locator(locator)
    axis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _whole_numbers(axis: Axis) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def _title(axes: Axes, title: str, note: str) -> None:
    # Names of features and entities are text, never Matplotlib's mathematics.
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=22 if note else 8, parse_math=False)
    if note:
        below = axes.annotate(
            _shortened(note, 120), (0, 1), (0, 8), xycoords="axes fraction", textcoords="offset points",
            fontsize=8, color=_GREY, parse_math=False,
        )  # fmt: skip
        below.set_in_layout(False)  # it has its place below the title, and may not squeeze the axes


def _refuse_lists(kind: pa.DataType, feature: str) -> None:
    if pa.types.is_list(kind):
        raise InputError(f"'{feature}' has lists for values, which no plot shows; look at `to_pandas()`")


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _is_measured(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or _is_time(kind))


def _wrapped(text: str) -> str:
    """On two lines at most: as long as the axis is high."""
    return "\n".join(wrap(text, 34, max_lines=2, placeholder=" …"))


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
