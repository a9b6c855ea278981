"""One look at the lake for one training set: a snapshot, a cursor, and events that several views share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Self

from feature_store.history.coverage import Coverage, coverage
from feature_store.history.day_tiles import DayTiles
from feature_store.time_rule import from_us
from feature_store.transforms.project import ARRIVED, DAY, KEY, TIME

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import duckdb
    import pyarrow as pa

    from feature_store.declare.view import FeatureView
    from feature_store.history.spine import SpineKeys
    from feature_store.lake import Lake
    from feature_store.lake.books.commits import Days

SHARED_EVENTS = 100_000
"""Up to so many events of a source are copied once for all its views, which opens its files once; more are read anew for each,
which reads the columns of each alone: of 3 million that takes a third of the time."""
REMEMBERED_ROWS = 5_000_000
"""Of each view, where several training sets are read together."""

ENTITIES = "spine_entities"
"""What `cursor` knows the spine's entities by."""
_FIRST_DAY = date(1, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Days of a source before a time."""

    late: frozenset[date]
    """With an event that was not known by then."""
    assumed: frozenset[date]
    """None of whose events says when it arrived: each counts as known when it happened."""
    mixed: frozenset[date]
    """Of whose events only some say it."""


class LakeReading:
    """Reads one snapshot. For one thread."""

    def __init__(
        self,
        lake: Lake,
        snapshot: int,
        *,
        scratch: Lake | None = None,
        remembers: bool = False,
        tiles: Mapping[str, tuple[str, Sequence[str]]] | None = None,
        beside: Path | None = None,
    ) -> None:
        """Read `lake`, which must be for this snapshot; what is written on the way goes beside the files of `scratch`.

        Args:
            lake: what is read.
            snapshot: as of which.
            scratch: where files go on the way; `lake` by default.
            remembers: several training sets of one spine are asked for, and what one has read the next need not read again.
            tiles: tables of tiles -> source and definitions, as for `Builds.held`. The rows asked for are of few
                days, so earlier ones are read from these tables where tiles stand for the events. The values are the same,
                as long as tiles are what the events say.
            beside: a folder for files in which tiles of a day are found faster (`day_tiles`); none by default.
        """
        self.lake, self.snapshot = lake, snapshot
        self._tiles, self._beside = tiles or {}, beside
        self.scratch = (scratch or lake).scratch
        self.cursor: duckdb.DuckDBPyConnection = lake.cursor()
        self.cursor.execute("BEGIN")  # see `Session.reading`
        self._shared: set[str] = set()
        self._kept: dict[str, tuple[str, pa.Table]] = {}
        self._entities: SpineKeys | None = None
        self._remembered: dict[str, tuple[pa.Table, pa.Table]] | None = {} if remembers else None
        self._counts: dict[tuple[str, tuple[date, date]], int] = {}
        self.keys: dict[object, SpineKeys] = {}
        """What training sets of one spine have numbered, where that is remembered."""
        self._day_tiles: dict[str, DayTiles] = {}
        self._days: dict[str, Days] = {}
        self._arrivals: dict[tuple[str, int], Arrivals] = {}
        self._coverage: dict[str, Coverage] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cursor.close()

    def share(self, source: str, views: Sequence[FeatureView], *, first_us: int, last_us: int) -> None:
        """Copy the events that these views need at times from first to last, if that is worth it."""
        spans = [view.longest_window_us for view in views]
        span = None if None in spans else max((span for span in spans if span is not None), default=None)
        days = days_of(span, first_us, last_us)
        if self._remembered is None and len(views) > 1 and self.has_at_most(SHARED_EVENTS, source, days):
            events = self.lake.events_sql(source, snapshot=self.snapshot, days=days)
            self.cursor.execute(f"CREATE TEMP TABLE {_copy(source)} AS {events}")
            self._shared.add(source)

    def events_sql(self, source: str, *, days: tuple[date, date], where: str) -> str:
        """As `Lake.events_sql`, for `cursor`."""
        if source in self._shared:
            return f"SELECT * FROM temp.main.{_copy(source)} WHERE {where}"
        return self.lake.events_sql(source, snapshot=self.snapshot, days=days, where=where)

    def ask(self, keys: SpineKeys) -> None:
        """Have `cursor` know the entities of a spine as `ENTITIES`: their join keys, `_key` and `_code`."""
        if self._entities is not keys:
            self.cursor.register(ENTITIES, keys.entities.append_column(KEY, keys.text))
            self._entities = keys

    def rows(self, query: str, entities: pa.Table, *, name: str, columns: Sequence[str]) -> pa.Table:
        """The rows of a query for `cursor`.

        Args:
            query: rows with `columns`.
            entities: the spine's, which the query reads as `ENTITIES`.
            name: what else the rows depend on; those with the same name and entities differ in their columns alone.
            columns: that are asked for.
        """
        if self._remembered is not None and name in self._remembered:
            of, rows = self._remembered[name]
            if of.equals(entities) and {*columns} <= {*rows.column_names}:
                return rows.select(columns)
        rows = self.cursor.execute(query).to_arrow_table()
        if self._remembered is not None and rows.num_rows <= REMEMBERED_ROWS:
            self._remembered[name] = entities, rows
        return rows

    def keep(self, name: str, query: str, entities: pa.Table) -> None:
        """Have `cursor` know the rows of a query by a name, until it is for another query or other entities."""
        if name not in self._kept or self._kept[name][0] != query or not self._kept[name][1].equals(entities):
            self.cursor.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")
            self._kept[name] = query, entities

    def remembers(self, name: str, entities: pa.Table) -> bool:
        """Whether `rows` of that name need not be read any more, at least if it is for their columns."""
        return name in (self._remembered or {}) and (self._remembered or {})[name][0].equals(entities)

    @property
    def is_remembering(self) -> bool:
        """Whether several training sets are asked for together."""
        return self._remembered is not None

    @property
    def has_tiles(self) -> bool:
        """Whether tiles may stand for events."""
        return bool(self._tiles)

    def tiled(self, table: str) -> Mapping[date, str]:
        """Days of a table of tiles that are what would be built of the events again -> the name of their build."""
        return self.lake.builds.held(self._tiles, snapshot=self.snapshot).get(table, {})

    def day_tiles(self, table: str, columns: Sequence[str], *, days: int) -> DayTiles | None:
        """Where the tiles of whole days of a table are found faster, for windows that hold so many; None: nowhere."""
        if self._beside is None:
            return None
        if table not in self._day_tiles:
            self._day_tiles[table] = DayTiles(
                folder=self._beside / table, table=self.table_sql(table), columns=columns, days=days
            )
        return self._day_tiles[table]

    def arrivals(self, source: str, time_us: int) -> Arrivals:
        """What the days before a time say of when their events arrived."""
        key = source, time_us
        if key not in self._arrivals:
            self._arrivals[key] = self._ask_arrivals(source, time_us)
        return self._arrivals[key]

    def _ask_arrivals(self, source: str, time_us: int) -> Arrivals:
        days, last = self.days(source), f"DATE '{from_us(time_us).date()}'"
        kinds = [kind for kind, given in (("loaded", days.loaded), ("live", days.live)) if given]
        tables = [self.table_sql(f"events_{source}_{kind}") for kind in kinds]

        def counted(where: str) -> dict[date, int]:
            each = [f"SELECT {DAY} FROM {table} WHERE {DAY} < {last} AND {where}" for table in tables]
            return dict(
                self.cursor.execute(f"SELECT {DAY}, count(*) FROM ({' UNION ALL '.join(each)}) GROUP BY 1").fetchall()
            )

        late, silent = counted(f"{ARRIVED} > {time_us}"), counted(f"{ARRIVED} IS NULL")
        total = counted("TRUE") if silent else {}
        assumed = frozenset(day for day, count in silent.items() if count == total[day])
        return Arrivals(late=frozenset(late), assumed=assumed, mixed=frozenset(silent) - assumed)

    def table_sql(self, table: str) -> str:
        """A table of the lake at the snapshot, for `cursor`."""
        return self.lake.table_sql(table, snapshot=self.snapshot)

    def exists(self, table: str) -> bool:
        """Whether the snapshot has such a table."""
        return self.lake.exists(table, snapshot=self.snapshot)

    def has_at_most(self, events: int, source: str, days: tuple[date, date]) -> bool:
        """Whether some days surely have no more events than that. What the books say of all days needs no file to be opened."""
        return self.days(source).events <= events or self.at_most(source, days) <= events

    def at_most(self, source: str, days: tuple[date, date]) -> int:
        """How many events some days have, those twice that are loaded and came live."""
        if (source, days) not in self._counts:
            tables = [self.table_sql(f"events_{source}_{kind}") for kind in ("loaded", "live")]
            within = f"{DAY} BETWEEN DATE '{days[0]}' AND DATE '{days[1]}'"
            counts = " + ".join(f"(SELECT count(*) FROM {table} WHERE {within})" for table in tables)
            row = self.cursor.execute(f"SELECT {counts}").fetchone()
            self._counts[source, days] = int(row[0]) if row else 0
        return self._counts[source, days]

    def days(self, source: str) -> Days:
        """The days of a source at the snapshot."""
        if source not in self._days:
            self._days[source] = self.lake.days(source, snapshot=self.snapshot)
        return self._days[source]

    def coverage(self, source: str) -> Coverage:
        """Until when the snapshot knows everything about a source."""
        if source not in self._coverage:
            self._coverage[source] = coverage(self.lake, source, self.days(source), snapshot=self.snapshot)
        return self._coverage[source]


def days_of(span_us: int | None, first_us: int, last_us: int) -> tuple[date, date]:
    """The days of the events that windows of a length (None: lifetimes) hold at times from first to last."""
    return (_FIRST_DAY if span_us is None else from_us(first_us - span_us).date(), from_us(last_us).date())


def time_filter(span_us: int | None, first_us: int, last_us: int) -> str:
    """SQL for the same, to the microsecond."""
    return f"{TIME} < {last_us}" + ("" if span_us is None else f" AND {TIME} >= {first_us - span_us}")


def _copy(source: str) -> str:
    return f"shared_{source}"
