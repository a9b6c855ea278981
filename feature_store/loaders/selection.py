"""What is wanted of files: their columns under the source's names, and the rows of a range of time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from feature_store.duck import literal, quote
from feature_store.errors import InputError, unknown_name
from feature_store.time_rule import DAY_US, to_us

ROW, FILE = "_loader_row", "_loader_file"
"""Where a row stands. They accompany rows inside the loaders only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Columns and rows to read from files whose columns may differ."""

    glob: str
    rename: tuple[tuple[str, str], ...]
    event_time: str | None
    start: datetime | None
    end: datetime | None

    def check(self, known: Iterable[str]) -> None:
        """Look for what is renamed, and for the event time, in the columns of all files together.

        Raises:
            InputError: a column is not there, or a new name is taken.
        """
        columns, renamed = list(known), dict(self.rename)
        for old, new in renamed.items():
            if _root(old, columns) is None:
                raise InputError(f"files '{self.glob}': {unknown_name('column in `rename`', old, columns)}")
            if new in columns and new not in renamed:
                raise InputError(f"files '{self.glob}': `rename` must give a new name, got '{new}', which is a column")
        if self.event_time is not None:
            original = self._original(self.event_time)
            if _root(original, columns) is None:
                raise InputError(f"files '{self.glob}': {unknown_name('event time column', original, columns)}")

    def listed(self, columns: Mapping[str, str], known: Iterable[str]) -> str:
        """The select list: each of the columns known of any file, null where this file has none.

        Args:
            columns: of the files to be read, with their DuckDB types.
            known: of all files.
        """
        names, whole = dict(self.rename), list(known)
        listed = [f"{quote(name) if name in columns else 'NULL'} AS {quote(names.get(name, name))}" for name in whole]
        listed += [f"{self._value(old, columns)} AS {quote(new)}" for old, new in self.rename if old not in whole]
        return ", ".join(listed)

    def where(self, columns: Mapping[str, str]) -> str:
        """The condition for the wanted range; rows whose time cannot be read stay."""
        if self.event_time is None or self.start is None or self.end is None:
            return "TRUE"
        value = self._value(self._original(self.event_time), columns)
        kind = columns.get(self._original(self.event_time), "VARCHAR")
        low, high = to_us(self.start, name="start"), to_us(self.end, name="end")
        exact = f"TRY_CAST({value} AS TIMESTAMPTZ)"
        within = f"{exact} >= make_timestamptz({low}) AND {exact} < make_timestamptz({high})"
        if kind == "TIMESTAMP WITH TIME ZONE":
            within = f"{value} >= make_timestamptz({low}) AND {value} < make_timestamptz({high})"
        elif kind.startswith("TIMESTAMP"):
            # Row groups are skipped by plain comparisons with a constant only; a day covers every zone.
            within += f" AND {value} >= make_timestamp({low - DAY_US}) AND {value} < make_timestamp({high + DAY_US})"
        return f"(({within}) OR {exact} IS NULL)"

    def _original(self, name: str) -> str:
        return {new: old for old, new in self.rename}.get(name, name)

    def _value(self, old: str, columns: Mapping[str, str]) -> str:
        """A column or a nested field, as SQL."""
        root = _root(old, columns)
        if root is None:
            return "NULL"
        if root == old:
            return quote(old)
        path, kind = old[len(root) + 1 :].split("."), columns[root]
        if kind.startswith("STRUCT"):
            value = quote(root)
            for step in path:
                value = f"struct_extract({value}, {literal(step)})"
            return value
        if kind in ("VARCHAR", "JSON"):
            steps = "".join(f'."{step}"' for step in path)
            return f"TRY(json_extract_string({quote(root)}, {literal('$' + steps)}))"
        raise InputError(
            f"files '{self.glob}': `rename` takes '{old}' from column '{root}', which must be a struct or a text that "
            f"holds JSON, got {kind}"
        )


def _root(name: str, columns: Iterable[str]) -> str | None:
    """The column that `name` is or is nested in."""
    known = set(columns)
    parts = name.split(".")
    roots = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
    return next((root for root in roots if root in known), None)
