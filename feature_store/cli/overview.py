"""`apply`, `statistics` and `status`: what is declared, and how it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from feature_store.cli.looks import age, counted, length, plain_table
from feature_store.lake.books.late import LATE_EVENTS
from feature_store.store import FeatureStore
from feature_store.time_rule import from_us

if TYPE_CHECKING:
    from rich.table import Table

    from feature_store.online.ready import ReadyRecord
    from feature_store.store_status import SourceStatus

REJECTED = "rejected_events"


def apply(
    *,
    expect: Annotated[
        int | None,
        typer.Option(help="Only if the registry is at this version, as `plan` showed it", metavar="VERSION"),
    ] = None,
) -> None:
    """Publish the declared views and services for readers, and record the definitions."""
    console = Console(highlight=False, soft_wrap=True)
    with FeatureStore() as store:
        applied = store.applied().meanings.services
        fresh = store.apply(expected=expect)
        begun = [service.id for service in store.registry.services if service.id not in applied]
        views, services = counted(len(store.registry.views), "view"), counted(len(store.registry.services), "service")
        news = [counted(len(found), kind) for kind, found in (("feature", fresh), ("service", begun)) if found]
        new = f"new: {' and '.join(news)}" if news else "nothing has changed"
        console.print(f"environment '{store.settings.environment}': {views} and {services} applied; {new}")
        for view, names in groupby(fresh, key=lambda name: name.partition(":")[0]):
            console.print(f"  {view}: {', '.join(name.partition(':')[2] for name in names)}")
        for service in begun:
            console.print(f"  service {service}")


def statistics() -> None:
    """Compute how the values of features are distributed, from the lake, for the catalog; personal data is left out."""
    console = Console(highlight=False, soft_wrap=True)
    with FeatureStore() as store:
        found = store.publish_statistics()
        for view in store.registry.views:
            of = found[view.id]
            why = "personal data" if view.is_personal else "no events yet"
            told = why if of is None else f"{counted(of.rows, 'sample')} of {of.first} to {of.last}"
            console.print(f"{view.id}: {told}")
        console.print(f"to be seen at {store.settings.catalog_url}")


def status() -> None:
    """Show what lake, logs and online store hold, and whether the stream keeps up. Exit code 2 if Redis is away."""
    console = Console(highlight=False)
    with FeatureStore() as store:
        found = store.status()
        now_us = store.clock.now_us()
        console.print(f"environment   {store.settings.environment}", soft_wrap=True)
        console.print(f"lake          {store.lake.location}, snapshot {found.snapshot}", soft_wrap=True)
        console.print(f"online store  {found.server or 'away'}", soft_wrap=True)
        console.print(_sources(found.sources, _rejected(store), store))
        for source in found.sources:
            if source.problem:
                console.print(f"{source.name}: {source.problem}", markup=False, soft_wrap=True)
        console.print(_stream(found.ready, now_us))
        late = _late(store)
        if late.row_count:
            console.print(late)
        batch = [view.id for view in store.registry.views if view.is_batch]
        if batch:
            console.print(_batch(batch, found.ready, now_us))
        if not found.ready and not found.server.startswith(("Valkey", "Redis")):
            raise typer.Exit(2)


def _rejected(store: FeatureStore) -> Mapping[str, str]:
    """Source -> how many of its records were no events, or no new ones, by kind."""
    if not store.lake.exists(REJECTED):
        return {}
    with store.lake.reading() as cursor:
        rows = cursor.execute(
            f"SELECT source, kind, count(*) FROM {store.lake.table_sql(REJECTED)} GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    return {
        source: ", ".join(f"{count:,} {kind}" for _, kind, count in group)
        for source, group in groupby(rows, key=lambda row: str(row[0]))
    }


def _sources(sources: Sequence[SourceStatus], rejected: Mapping[str, str], store: FeatureStore) -> Table:
    table = plain_table(
        "source",
        "days of events",
        "lag",
        "dead letters",
        title="Sources: lag is what the lake does not have of the log",
    )
    for source in sources:
        days = store.lake.days(source.name).known
        span = f"{len(days)} ({days[0]} to {days[-1]})" if days else "none"
        lag = f"{sum(source.lag.values()):,}" if source.lag else "unknown" if source.problem else "-"
        table.add_row(source.name, span, lag, rejected.get(source.name, "none"))
    return table


def _stream(ready: Mapping[str, ReadyRecord], now_us: int) -> Table:
    table = plain_table("shard", "run", "commit", "heartbeat", "state", title="Stream")
    for shard in sorted((field for field in ready if field.isdigit()), key=int):
        record = ready[shard]
        state = "caught up" if record.caught_up else "catching up"
        table.add_row(shard, str(record.run), f"{record.n:,}", age(now_us - record.beat_us), state)
    if not table.row_count:
        table.add_row("none", "", "", "", "the stream is not running")
    return table


def _late(store: FeatureStore) -> Table:
    """What came late of the days of each view, as far as they were built."""
    table = plain_table(
        "view", "policy", "late", "longest delay", "values changed", title="Late events, of the days that were built"
    )
    rows: Sequence[tuple[str, str, int, int, int, int]] = ()
    if store.lake.exists(LATE_EVENTS):
        with store.lake.reading() as cursor:
            rows = cursor.execute(
                "SELECT view, arg_max(policy, day), sum(late), sum(events), max(longest_us), sum(changed)::BIGINT "
                f"FROM {store.lake.table_sql(LATE_EVENTS)} GROUP BY view HAVING sum(late) > 0 ORDER BY view"
            ).fetchall()
    for view, policy, late, events, longest_us, changed in rows:
        table.add_row(view, policy, f"{late:,} of {events:,}", length(longest_us), f"{changed:,}")
    return table


def _batch(views: Sequence[str], ready: Mapping[str, ReadyRecord], now_us: int) -> Table:
    table = plain_table("view", "rows online as of", "age", title="Batch views")
    for view in views:
        if view in ready:
            table.add_row(view, f"{from_us(ready[view].beat_us):%Y-%m-%d %H:%M} UTC", age(now_us - ready[view].beat_us))
        else:
            table.add_row(view, "never published", "-")
    return table
