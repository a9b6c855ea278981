"""`rollout`: a new version of a service beside the one that is served, step by step."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from feature_store.changing.rollout import Step, begin, described, promote, rollback, status, take
from feature_store.cli.looks import plain_table
from feature_store.store import FeatureStore

app = typer.Typer(help="A new version of a service beside the one that is served.")

Service = Annotated[str, typer.Argument(help="The service's name, without a version", metavar="SERVICE")]
To = Annotated[int, typer.Option(help="The new version", metavar="VERSION")]
Share = Annotated[
    float, typer.Option(help="Per cent of the entities, chosen by a hash of their keys", metavar="PERCENT")
]


@app.command(name="shadow")
def shadow_command(service: Service, *, to: To, share: Share = 100.0) -> None:
    """Serve what is served; read and record the new version too, for a share of the entities."""
    _take(begin("shadow", to, share), service)


@app.command(name="split")
def split_command(service: Service, *, to: To, share: Share) -> None:
    """Serve the new version to a share of the entities; whoever has it keeps it when the share grows."""
    _take(begin("split", to, share), service)


@app.command(name="promote")
def promote_command(
    service: Service,
    *,
    to: Annotated[int | None, typer.Option(help="By default the one that is rolled out", metavar="VERSION")] = None,
) -> None:
    """Serve the new version to everybody."""
    _take(promote(to), service)


@app.command(name="rollback")
def rollback_command(service: Service) -> None:
    """End a shadow or a split; after a promotion, serve what was served before it."""
    _take(rollback(), service)


@app.command(name="status")
def status_command(
    service: Annotated[str | None, typer.Argument(help="By default all services", metavar="[SERVICE]")] = None,
) -> None:
    """Show which version of each service is served to whom."""
    with FeatureStore() as store:
        found = status(store.applied(), [service] if service else [])
    table = plain_table("service", "rollout", "before")
    for name, rollout in found.items():
        table.add_row(name, described(rollout), "" if rollout.previous is None else f"version {rollout.previous}")
    Console(highlight=False).print(table)


def _take(step: Step, service: str) -> None:
    with FeatureStore() as store:
        rollout = take(
            step,
            service,
            lake=store.lake,
            client=store.redis,
            env=store.settings.environment,
            clock=store.clock,
        )
    Console(highlight=False, soft_wrap=True).print(f"service {service}: {described(rollout)}")
