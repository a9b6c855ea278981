"""Where events come from: history by a loader, the present over a log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from feature_store.declare.check import Checks
from feature_store.declare.log import LogBinding
from feature_store.declare.outcome import Outcome
from feature_store.time_rule import MINUTE_US, parse_duration

if TYPE_CHECKING:
    import pandera.pandas as pa_pandas
    import pyarrow as pa

    from feature_store.decoders import Decoder


class Loader(Protocol):
    """Reads history: every event with `start <= event time < end`, in any order."""

    def __call__(self, start: datetime, end: datetime) -> pa.Table:
        """The events as an Arrow table with the source's columns."""


@dataclass(frozen=True, slots=True, repr=False)
class EventSource:
    """Immutable events with a schema, an event time and an event id."""

    name: str
    schema: type[pa_pandas.DataFrameModel] = field(kw_only=True)
    """Pandera model: types, nullability, ranges. One schema for both paths."""
    event_time: str = field(kw_only=True)
    """The column of the time at which the event happened (a time stamp with zone in the schema)."""
    event_id: str | Sequence[str] = field(kw_only=True)
    """The column that identifies an event, or several that do together; a second event with the same id is a duplicate
    or a conflict."""
    load: Loader | Callable[[datetime, datetime], pa.Table] | None = field(default=None, kw_only=True)
    log: LogBinding | None = field(default=None, kw_only=True)
    decode: Decoder | None = field(default=None, kw_only=True)
    """How a log record's payload becomes a row; JSON objects unless said otherwise."""
    timezone: str = field(default="UTC", kw_only=True)
    """The zone of naive times in loaded history. Live events must carry their own."""
    arrival: str | None = field(default=None, kw_only=True)
    """The column of loaded history that says when the event arrived, if there is one."""
    history_start: date | None = field(default=None, kw_only=True)
    """The first day that `load` knows: from there on history can be loaded day by day."""
    checks: Checks = field(default_factory=dict, kw_only=True, hash=False)
    """Name of a check -> what is other than by default: a `Check`, a limit, limits by column, or None for no such check."""
    drift: Mapping[str, float | None] = field(default_factory=dict, kw_only=True, hash=False)
    """Short for `checks={"drift": ...}`: column -> how far its distribution may move before a check says so (distances of
    `docs/dagster.md`), None to not watch it; other columns have the deployment's threshold."""
    future_tolerance: str | timedelta = field(default=timedelta(microseconds=MINUTE_US), kw_only=True)
    """An event whose time is later than its arrival by more than this is rejected."""
    retention: str | timedelta | None = field(default=None, kw_only=True)
    """How long events stay in the lake after they happened; None: for ever. At least a day longer than the longest window
    of its views and labels. What arrives later than that after it happened is rejected."""
    owner: str | None = field(default=None, kw_only=True)
    description: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.event_id, str):
            object.__setattr__(self, "event_id", tuple(self.event_id))

    @property
    def id_columns(self) -> tuple[str, ...]:
        """The columns that identify an event together."""
        return (self.event_id,) if isinstance(self.event_id, str) else tuple(self.event_id)

    def __repr__(self) -> str:
        return f"EventSource({self.name}: {self.schema.__name__} by {self.event_time}, each with {', '.join(self.id_columns)})"

    def _repr_html_(self) -> str:
        from feature_store.declare.shown import source_html

        return source_html(self)

    @property
    def future_tolerance_us(self) -> int:
        """`future_tolerance` in microseconds."""
        return parse_duration(self.future_tolerance, name="future_tolerance")

    @property
    def retention_us(self) -> int | None:
        """`retention` in microseconds."""
        return None if self.retention is None else parse_duration(self.retention, name="retention")

    def any(self, *, on: str | Sequence[str], within: str | timedelta, where: str | None = None) -> Outcome:
        """Whether an event with the same `on` comes within that time, for a `Label`; `where` is SQL over its columns."""
        return self._outcome("any", None, on, within, where)

    def count(self, *, on: str | Sequence[str], within: str | timedelta, where: str | None = None) -> Outcome:
        """How many come."""
        return self._outcome("count", None, on, within, where)

    def sum(
        self, column: str, *, on: str | Sequence[str], within: str | timedelta, where: str | None = None
    ) -> Outcome:
        """The exact sum of an expression over them; 0 for none."""
        return self._outcome("sum", column, on, within, where)

    def first(
        self, column: str, *, on: str | Sequence[str], within: str | timedelta, where: str | None = None
    ) -> Outcome:
        """The first value that comes; null for none."""
        return self._outcome("first", column, on, within, where)

    def max(
        self, column: str, *, on: str | Sequence[str], within: str | timedelta, where: str | None = None
    ) -> Outcome:
        """The largest value that comes; null for none."""
        return self._outcome("max", column, on, within, where)

    def _outcome(
        self, aggregate: str, column: str | None, on: str | Sequence[str], within: str | timedelta, where: str | None
    ) -> Outcome:
        keys = (on,) if isinstance(on, str) else tuple(on)
        return Outcome(source=self, aggregate=aggregate, column=column, on=keys, within=within, where=where)
