"""`publish`, `resume`, `rebuild-online` and `get`: events in, on after a loss, features out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from feature_store.cli.days import moment
from feature_store.cli.events_file import EventsFile
from feature_store.cli.looks import age, counted, plain_table
from feature_store.cli.reveal import Reveal, note_reveal
from feature_store.computed.functions import Functions
from feature_store.errors import DeclarationError, InputError, SettingsError
from feature_store.masked import REVEAL, masked, masked_keys
from feature_store.online.server import check_server
from feature_store.reader import FeatureReader
from feature_store.reader.given import functions_of, load_functions
from feature_store.reader.vector import FeatureVector
from feature_store.registry import load_registry
from feature_store.settings import Settings
from feature_store.status import Status
from feature_store.store import FeatureStore
from feature_store.time_rule import from_us, to_us

if TYPE_CHECKING:
    from rich.table import Table

    from feature_store.computed.function import Function

_COLOURS = {Status.PRESENT: "green", Status.EMPTY: "dim", Status.ERROR: "red"}


def publish(
    source: Annotated[str, typer.Argument(help="A source with a log")],
    file: Annotated[str, typer.Argument(help="JSON lines (.jsonl, or - for standard input), .csv or .parquet")],
) -> None:
    """Append the events of a file to a source's log; they arrive now. A file with a bad row is refused whole."""
    with FeatureStore() as store:
        declared = store.registry.source(source)
        store.log(source)
        events = EventsFile(file, declared, store.compiled.schemas[source]).read(now_us=store.clock.now_us())
        check_server(store.redis)
        positions = store.publish(source, events)
    Console(highlight=False).print(f"{source}: {counted(len(positions), 'event')} published")


def resume(source: Annotated[str, typer.Argument(help="A source with a log")]) -> None:
    """Go on where a log begins whose retention has passed the lake; names the days to load. Restart the stream after."""
    console = Console(highlight=False, soft_wrap=True)
    with FeatureStore() as store:
        given_up = store.resume(source)
        if not given_up:
            console.print(f"{source}: the log has all that the lake does not have; nothing was changed")
            return
        for partition, gap in given_up.items():
            count = "records" if gap.records is None else counted(gap.records, "record")
            console.print(f"{source} partition {partition}: {count} given up")
        arrived = [gap.arrived_us for gap in given_up.values() if gap.arrived_us is not None]
        days = store.lake.days(source)
        first = days.live[-1:] or days.loaded[-1:]
        start = f"{first[0]}" if first else "..."
        end = from_us(max(arrived, default=store.clock.now_us())).date() + timedelta(days=1)
        console.print(f"now load what is missing: feature-store backfill events/{source} --start {start} --end {end}")


def rebuild_online() -> None:
    """Write the online store again from the lake and the logs, through the running flow if there is one."""
    console = Console(highlight=False, soft_wrap=True)
    began = time.perf_counter()
    with FeatureStore() as store:
        entities = store.rebuild_online()
    for view, count in entities.items():
        console.print(f"{view}: {count:,} entities")
    console.print(f"rebuilt in {time.perf_counter() - began:.1f} s")


def get(
    features: Annotated[str, typer.Argument(help="A service, or `view:feature` names joined by commas")],
    keys: Annotated[
        list[str] | None,
        typer.Argument(help="Join keys, and what functions take, as name=value", metavar="KEY=VALUE..."),
    ] = None,
    *,
    as_of: Annotated[str | None, typer.Option(help="A time with zone, such as 2013-12-24T08:00:00Z")] = None,
    reveal: Reveal = False,
) -> None:
    """Show one entity's features: value, status and age. Needs Redis alone; the declarations only if they have functions that it reads."""
    asked = None if as_of is None else moment(as_of, name="--as-of")
    wanted = features.split(",") if ":" in features else features
    given = dict(key_pair(key) for key in keys or ())
    settings = Settings()
    with FeatureReader(
        settings.redis_url,
        env=settings.environment,
        clock=settings.clock,
        log_served=False,
        functions=_AtHand(settings.declarations) if settings.functions is None else load_functions(settings.functions),
    ) as reader:
        kinds = reader.requested(wanted)
        row = {name: typed(text, kinds[name], name) if name in kinds else text for name, text in given.items()}
        vector = reader.get_online_features(wanted, row, as_of=asked)
    is_masked = bool(vector.personal) and not reveal
    if vector.personal and reveal:
        note_reveal(settings, f"get {features}")
    now = from_us(settings.clock.now_us()) if asked is None else asked
    console = Console(highlight=False)
    told = " ".join(f"{name}={value}" for name, value in masked_keys(row, personal=is_masked).items())
    console.print(f"{features} of {told} at {now:%Y-%m-%d %H:%M:%S %Z}", markup=False, soft_wrap=True)
    console.print(_table(vector, to_us(now), hidden=vector.personal if is_masked else frozenset()))
    if is_masked:
        console.print(f"***: {REVEAL}")
    if hint := _hint({vector[name].status for name in vector.names}):
        console.print(hint)


class _AtHand(Functions):
    """The functions of the declarations of this folder, if there are any; loaded for the first one that is wanted."""

    def __init__(self, declarations: str) -> None:
        super().__init__()
        self._declarations: str | None = declarations

    def find(self, name: str, digest: str, encoding: str) -> Function | None:
        """The function that means what is published; None if it is not here either."""
        if self._declarations is not None and not encoding:
            path, self._declarations = self._declarations, None
            with suppress(SettingsError, DeclarationError):  # there are none here: all else is read
                self._known.update(functions_of(load_registry(path)).known)
        return super().find(name, digest, encoding)


def _table(vector: FeatureVector, now_us: int, *, hidden: frozenset[str]) -> Table:
    table = plain_table("feature", "value", "status", "newest event")
    for name in vector.names:
        found = vector[name]
        newest = "-" if found.event_time is None else age(now_us - to_us(found.event_time))
        colour = _COLOURS.get(found.status, "yellow")
        table.add_row(
            name,
            _value(masked(found.value, personal=name in hidden)),
            f"[{colour}]{found.status.name}[/{colour}]",
            newest,
        )
    return table


def _hint(statuses: set[Status]) -> str:
    if Status.UNKNOWN in statuses:
        return "UNKNOWN: nothing is there, and nothing says that it should be empty; see `feature-store status`"
    if Status.STALE in statuses:
        return "STALE: not refreshed in time; see `feature-store status`"
    if Status.ERROR in statuses:
        return (
            "ERROR: no value, or an on-demand function that the declarations here do not have as it was applied; "
            "`FEATURE_STORE_FUNCTIONS` names others"
        )
    return ""


def _value(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def typed(text: str, kind: str, name: str) -> object:
    """What a function takes from a request, from its text.

    Raises:
        InputError: the text is no such value.
    """
    readers: Mapping[str, Callable[[str], object]] = {
        "int": int,
        "float": float,
        "bool": {"true": True, "false": False}.__getitem__,
        "timestamp": lambda text: moment(text, name=name),
        "date": date.fromisoformat,
    }
    try:
        return readers.get(kind, str)(text)
    except (KeyError, ValueError) as error:
        raise InputError(f"`{name}` must be {kind}, got '{text}'") from error


def key_pair(text: str) -> tuple[str, str]:
    """A join key that was given as name=value."""
    name, _, value = text.partition("=")
    if not name or not value:
        raise InputError(f"join keys must be given as name=value, got '{text}'")
    return name, value
