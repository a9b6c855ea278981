"""`publish` and `get`: events in, features out."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from feature_store.errors import InputError
from feature_store.reader.vector import FeatureVector
from feature_store.status import Status
from feature_store.store import FeatureStore
from feature_store.time_rule import to_us

Row = Mapping[str, object]

_COLOURS = {Status.PRESENT: "green", Status.EMPTY: "dim", Status.ERROR: "red"}


def publish(
    source: Annotated[str, typer.Argument(help="A source with a log")],
    file: Annotated[str, typer.Argument(help="JSON lines (.jsonl, or - for standard input), .csv or .parquet")],
) -> None:
    """Append events to a source's log; they arrive now."""
    with FeatureStore() as store:
        store.registry.source(source)
        positions = store.publish(source, _rows(store, source, file))
    Console(highlight=False).print(f"{source}: {len(positions):,} events published")


def get(
    features: Annotated[str, typer.Argument(help="A service, or `view:feature` names joined by commas")],
    keys: Annotated[list[str], typer.Argument(help="Join keys as name=value", metavar="KEY=VALUE...")],
    *,
    as_of: Annotated[str | None, typer.Option(help="A time with zone, such as 2013-12-24T08:00:00Z")] = None,
) -> None:
    """Show one entity's features: value, status and age."""
    moment = None if as_of is None else _moment(as_of)
    wanted = features.split(",") if ":" in features else features
    row = dict(_pair(key) for key in keys)
    with FeatureStore() as store:
        vector = store.get_online_features(wanted, row, as_of=moment)
        now_us = store.clock.now_us() if moment is None else to_us(moment)
    Console(highlight=False).print(_table(vector, " ".join(keys), now_us))


def _table(vector: FeatureVector, title: str, now_us: int) -> Table:
    table = Table("feature", "value", "status", "newest event", title=title, title_justify="left")
    for name in vector.names:
        found = vector[name]
        age = "-" if found.event_time is None else _age((now_us - to_us(found.event_time)) / 1_000_000)
        colour = _COLOURS.get(found.status, "yellow")
        table.add_row(name, _value(found.value), f"[{colour}]{found.status.name}[/{colour}]", age)
    return table


def _value(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"`--as-of` must be a time such as 2013-12-24T08:00:00Z, got '{text}'") from error
    if moment.tzinfo is None:
        raise InputError(f"`--as-of` must carry a time zone, got '{text}'")
    return moment


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"join keys must be given as name=value, got '{text}'")
    return name, value


def _rows(store: FeatureStore, source: str, file: str) -> Sequence[Row]:
    """The rows of a file, typed by the source's schema where the format knows no types."""
    if file == "-" or file.endswith((".jsonl", ".ndjson", ".json")):
        return _json_lines(sys.stdin.buffer.read() if file == "-" else _read(Path(file)), file)
    _read(Path(file))
    from feature_store.loaders import read_file

    return read_file(Path(file), store.compiled.schemas[source]).to_pylist()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _json_lines(data: bytes, name: str) -> Sequence[Row]:
    rows: list[Row] = []
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rows.append(msgspec.json.decode(line, type=dict[str, object]))
        except msgspec.DecodeError as error:
            raise InputError(f"{name}, line {number}: not a JSON object: {error}") from error
    if not rows:
        raise InputError(f"{name} holds no events")
    return rows
