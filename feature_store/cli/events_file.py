"""Events from a file, checked as the stream will check them: a file that has a bad row is refused whole."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from feature_store.decoders import json
from feature_store.errors import InputError, unknown_name
from feature_store.loaders import read_file
from feature_store.schema import check_rows
from feature_store.time_rule import format_duration, to_us

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

    from feature_store.declare.source import EventSource

Row = Mapping[str, object]

STANDARD_INPUT = "-"
JSON_LINES = (".jsonl", ".ndjson", ".json")
_AT = re.compile(r"(.*) - at `\$\.(.*)`")
_SHOWN = 3
"""Bad rows that are named; the others are counted."""


class EventsFile:
    """The events of one file for one source."""

    def __init__(self, name: str, source: EventSource, schema: pa.Schema) -> None:
        """`name` is a path, or - for JSON lines on standard input."""
        self._name, self._source, self._schema = name, source, schema
        self._unit = "line" if name == STANDARD_INPUT or name.endswith(JSON_LINES) else "row"
        self._problems: dict[int, str] = {}
        self._total = 0

    def read(self, *, now_us: int) -> Sequence[Row]:
        """The rows, if all of them are events that can arrive now.

        Raises:
            InputError: the file cannot be read or holds no events, or rows are no events; names up to three of them.
        """
        numbers, payloads = self._payloads()
        if not payloads:
            raise InputError(f"{self._shown} holds no events")
        decoded = json().decode(payloads, self._schema)
        self._problems |= {numbers[row]: _reworded(reason) for row, reason in decoded.rejected}
        left = [numbers[row] for row in decoded.table.column("_row").to_pylist()]
        table = decoded.table.select(self._schema.names)
        self._problems |= {left[row]: why for row, why in check_rows(self._source.schema, table).rejected}
        rows: list[Row] = table.to_pylist()
        self._check_times_and_ids(dict(zip(left, rows, strict=True)), now_us)
        if self._problems:
            raise InputError(self._report())
        return rows

    @property
    def _shown(self) -> str:
        return "standard input" if self._name == STANDARD_INPUT else self._name

    def _payloads(self) -> tuple[list[int], list[bytes]]:
        """JSON objects, and where each of them stands in the file, from 1."""
        if self._unit == "line":
            return self._lines()
        _read(Path(self._name))
        rows = read_file(Path(self._name), self._schema)
        self._check_columns(rows.schema.names)
        payloads = json().encode(rows.to_pylist())
        self._total = len(payloads)
        return list(range(1, len(payloads) + 1)), payloads

    def _lines(self) -> tuple[list[int], list[bytes]]:
        data = sys.stdin.buffer.read() if self._name == STANDARD_INPUT else _read(Path(self._name))
        lines = {number: line for number, line in enumerate(data.splitlines(), start=1) if line.strip()}
        self._total = len(lines)
        for number, line in lines.items():
            try:
                unknown = [name for name in msgspec.json.decode(line, type=Row) if name not in self._schema.names]
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                self._problems[number] = f"no JSON object: {error}"
                continue
            if unknown:
                self._problems[number] = unknown_name("column", unknown[0], self._schema.names)
        good = [number for number in lines if number not in self._problems]
        if lines and not good:
            raise InputError(self._report())
        return good, [lines[number] for number in good]

    def _check_columns(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._schema.names:
                raise InputError(f"{self._shown}: {unknown_name('column', name, self._schema.names)}")
        for field in self._schema:
            if field.name not in names and not field.nullable:
                raise InputError(f"{self._shown}: column '{field.name}' is missing (found: {', '.join(names)})")

    def _check_times_and_ids(self, rows: Mapping[int, Row], now_us: int) -> None:
        source, seen = self._source, dict[str, tuple[int, Row]]()
        for number, row in rows.items():
            time: datetime | None = row[source.event_time]  # type: ignore[assignment]
            identity = "|".join(str(row[name]) for name in source.id_columns)
            for name in (source.event_time, *source.id_columns):
                if row[name] is None:
                    self._problems.setdefault(number, f"column '{name}': must not be null")
            if time is not None and to_us(time) - now_us > source.future_tolerance_us:
                limit = format_duration(source.future_tolerance_us)
                reason = f"column '{source.event_time}': {time.isoformat()} is more than {limit} in the future"
                self._problems.setdefault(number, reason)
            first, before = seen.setdefault(identity, (number, row))
            if before != row:
                reason = f"event id '{identity}' stands in {self._unit} {first} with other values"
                self._problems.setdefault(number, reason)

    def _report(self) -> str:
        named = sorted(self._problems.items())[:_SHOWN]
        listed = "; ".join(f"{self._unit} {number}: {reason}" for number, reason in named)
        rest = len(self._problems) - len(named)
        more = f"; and {rest} more" if rest else ""
        count = f"{len(self._problems)} of {self._total} {self._unit}s do not fit"
        return f"{self._shown}, {listed}{more} ({count}; nothing was published)"


def _reworded(reason: str) -> str:
    """A decoder's reason, with the column first."""
    found = _AT.fullmatch(reason)
    if found is None:
        return reason
    rule, column = found.groups()
    if rule.endswith("got `null`"):
        return f"column '{column}': must not be null"
    if "timezone" in rule:
        return f"column '{column}': must be a time with a zone, such as 2013-12-24T08:00:00Z"
    return f"column '{column}': {rule[:1].lower()}{rule[1:]}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
