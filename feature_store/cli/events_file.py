"""Events from a file, checked as the stream will check them: a file that has a bad row is refused whole."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.decoders import json
from feature_store.errors import InputError, unknown_name
from feature_store.incoming import Incoming, Row
from feature_store.loaders import read_file

if TYPE_CHECKING:
    import pyarrow as pa

    from feature_store.declare.source import EventSource

STANDARD_INPUT = "-"
JSON_LINES = (".jsonl", ".ndjson", ".json")
_SHOWN = 3
"""Bad rows that are named; the others are counted."""


class EventsFile:
    """The events of one file for one source."""

    def __init__(self, name: str, source: EventSource, schema: pa.Schema) -> None:
        """`name` is a path, or - for JSON lines on standard input."""
        self._name, self._schema = name, schema
        self._unit = "line" if name == STANDARD_INPUT or name.endswith(JSON_LINES) else "row"
        self._incoming = Incoming(source=source, schema=schema, unit=self._unit)
        self._total = 0

    def read(self, *, now_us: int) -> Sequence[Row]:
        """The rows, if all of them are events that can arrive now.

        Raises:
            InputError: the file cannot be read or holds no events, or rows are no events; names up to three of them.
        """
        payloads = self._payloads()
        if not payloads:
            raise InputError(f"{self._shown} holds no events")
        self._total = len(payloads)
        rows = self._incoming.check(payloads, now_us=now_us)
        if self._incoming.problems:
            raise InputError(self._report())
        return rows

    @property
    def _shown(self) -> str:
        return "standard input" if self._name == STANDARD_INPUT else self._name

    def _payloads(self) -> dict[int, bytes]:
        """Where each event stands in the file, from 1 -> a JSON object."""
        if self._unit == "line":
            data = sys.stdin.buffer.read() if self._name == STANDARD_INPUT else _read(Path(self._name))
            return {number: line for number, line in enumerate(data.splitlines(), start=1) if line.strip()}
        _read(Path(self._name))
        rows = read_file(Path(self._name), self._schema)
        self._check_columns(rows.schema.names)
        return dict(enumerate(json().encode(rows.to_pylist()), start=1))

    def _check_columns(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._schema.names:
                raise InputError(f"{self._shown}: {unknown_name('column', name, self._schema.names)}")
        for field in self._schema:
            if field.name not in names and not field.nullable:
                raise InputError(f"{self._shown}: column '{field.name}' is missing (found: {', '.join(names)})")

    def _report(self) -> str:
        problems = self._incoming.problems
        named = sorted(problems.items())[:_SHOWN]
        listed = "; ".join(f"{self._unit} {number}: {reason}" for number, reason in named)
        rest = len(problems) - len(named)
        more = f"; and {rest} more" if rest else ""
        count = f"{len(problems)} of {self._total} {self._unit}s do not fit"
        return f"{self._shown}, {listed}{more} ({count}; nothing was published)"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
