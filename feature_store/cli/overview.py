"""`apply` and `status`: what is declared, and how it stands."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from feature_store.operate import SourceStatus, StoreStatus
from feature_store.store import FeatureStore
from feature_store.time_rule import from_us


def apply() -> None:
    """Publish the declared views and services for readers, and record the definitions."""
    console = Console(highlight=False)
    with FeatureStore() as store:
        fresh = store.apply()
        views, services = len(store.registry.views), len(store.registry.services)
        console.print(f"applied {views} views and {services} services to environment '{store.settings.environment}'")
        for name in fresh:
            console.print(f"  new  {name}")


def status() -> None:
    """Show what lake, logs and online store hold, and whether the stream keeps up."""
    console = Console(highlight=False)
    with FeatureStore() as store:
        found = store.status()
        home = store.settings.home
        console.print(f"lake at {home}, snapshot {found.snapshot}; online store: {found.server}", soft_wrap=True)
        console.print(_sources(found.sources))
        console.print(_shards(found, store.clock.now_us()))


def _sources(sources: object) -> Table:
    table = Table("source", "days loaded", "from", "to", "unread by the lake", title="Sources", title_justify="left")
    for source in sources if isinstance(sources, list | tuple) else ():
        if isinstance(source, SourceStatus):
            lag = f"{sum(source.lag.values()):,}" if source.lag else "-"
            table.add_row(source.name, str(source.days_loaded), _text(source.first_day), _text(source.last_day), lag)
    return table


def _shards(found: StoreStatus, now_us: int) -> Table:
    table = Table("shard or view", "run", "commit", "last heard of", "caught up", title="Online", title_justify="left")
    for name, record in sorted(found.ready.items()):
        age = max(0.0, (now_us - record.beat_us) / 1_000_000)
        heard = f"{age:.1f} s ago" if age < 3600 else f"{from_us(record.beat_us):%Y-%m-%d %H:%M} UTC"
        table.add_row(name, str(record.run), str(record.n), heard, "yes" if record.caught_up else "no")
    if not found.ready:
        table.add_row("none is running", "", "", "", "")
    return table


def _text(value: object) -> str:
    return "-" if value is None else str(value)
