"""`rollout`: a new version of a service beside the one that is served, step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from feature_store.changing.rollout import (
    Step,
    begin,
    compared,
    described,
    promote,
    rollback,
    rollout_of,
    status,
    take,
)
from feature_store.cli.looks import counted, plain_table
from feature_store.store import FeatureStore

if TYPE_CHECKING:
    from rich.table import Table

    from feature_store.changing.comparison import Comparison, Distribution, Scores
    from feature_store.registry import Registry

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


@app.command(name="report")
def report_command(
    service: Service,
    *,
    label: Annotated[str | None, typer.Option(help="A declared label: what happened after each vector")] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Parquet with `vector_id` and `score`: what the models made of the vectors")
    ] = None,
    where: Annotated[str, typer.Option(help="SQL over the columns of `served_vectors`", metavar="SQL")] = "TRUE",
) -> None:
    """Compare what the served version and the one beside it served: distributions and, with labels, scores.

    After a promotion, the version served before and the one served now.
    """
    from feature_store.changing.comparison import compare_served

    with FeatureStore() as store:
        pair = compared(rollout_of(store.applied(), service))
        found = compare_served(
            store.compiled,
            store.lake,
            (f"{service}@{pair[0]}", f"{service}@{pair[1]}"),
            label=label,
            scores=scores,
            where=where,
        )
    console = Console(highlight=False)
    console.print(_features(found, hidden=_personal(store.registry)))
    for name, vectors, score in zip(found.services, found.vectors, found.scores or (None, None), strict=True):
        console.print(f"{name}: {counted(vectors, 'vector')}{_scored(score)}", soft_wrap=True)


def _personal(registry: Registry) -> Callable[[str], bool]:
    """Whether a feature of a service, `view:feature` in a role or not, or one that is computed, may be personal data; that one if any view is."""
    personal = tuple(view.name for view in registry.views if view.is_personal)
    return lambda name: name.partition(":")[0].partition("@")[0].endswith(personal) if ":" in name else bool(personal)


def _features(found: Comparison, *, hidden: Callable[[str], bool]) -> Table:
    table = plain_table("feature", "PSI", "missing", "unknown", "5 % / median / 95 %")
    for each in found.features:
        sides = (each.before, each.after)
        quantiles = _hidden if hidden(each.name) else _quantiles
        psi = "-" if each.psi is None else f"{each.psi:.3f}"
        table.add_row(each.name, psi, *(" -> ".join(map(shown, sides)) for shown in (_missing, _unknown, quantiles)))
    return table


def _missing(side: Distribution | None) -> str:
    return "-" if side is None else f"{side.missing:.1%}"


def _unknown(side: Distribution | None) -> str:
    return "-" if side is None else f"{side.unknown:.1%}"


def _hidden(side: Distribution | None) -> str:
    return "-" if side is None or side.quantiles is None else "***"


def _quantiles(side: Distribution | None) -> str:
    return "-" if side is None or side.quantiles is None else " / ".join(f"{each:.4g}" for each in side.quantiles)


def _scored(scores: Scores | None) -> str:
    if scores is None:
        return ""
    auc = "no AUC" if scores.auc is None else f"AUC {scores.auc:.4f}"
    loss = "" if scores.log_loss is None else f", log loss {scores.log_loss:.4f}"
    return f"; {scores.scored:,} scored with a known outcome, {scores.positive:,} positive: {auc}{loss}"


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
